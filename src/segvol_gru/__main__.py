"""`python -m segvol_gru` is `segvol-gru`."""

from segvol_gru.interfaces.cli import app

app()
