"""The server: our own API, the wire of nnInteractive's clients, and its older form.

request ─► guard ─► routes ─► Service ─► one worker thread ─► Session ─► journal
└─► index: which sessions there are
"""
