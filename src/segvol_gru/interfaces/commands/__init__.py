"""The commands of `segvol-gru`, one module each."""
