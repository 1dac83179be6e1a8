"""Measuring a segmenter: the robot user's clicks, metrics, protocol and summary."""

from segvol_gru.evaluation.metrics import auc, dice, nsd
from segvol_gru.simulate import next_click

__all__ = ["auc", "dice", "next_click", "nsd"]
