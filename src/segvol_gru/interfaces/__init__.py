"""The doors: command line, wire, server, clients."""
