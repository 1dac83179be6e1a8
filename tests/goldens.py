"""What reference implementations compute, kept beside the repository; of the official script."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

GOLDENS = Path(__file__).resolve().parents[2] / "shared" / "goldens"
NAMES = (
    "p1_sphere_shift",
    "p2_ellipsoid_aniso",
    "p3_multilabel5",
    "p4_touching_instances",
    "p5_thin_vessel",
    "p6_empty_and_failed",
    "p7_ties",
    "p8_hippocampus_real",
)
needs_goldens = pytest.mark.skipif(
    not GOLDENS.is_dir(), reason="the golden files (../shared/goldens) are not on this machine"
)


def load(name):
    with np.load(GOLDENS / "challenge" / f"{name}.npz") as golden:
        case = {key: golden[key] for key in golden.files}
    if case["fortran_gts"]:
        case["gts"] = np.asfortranarray(case["gts"])
    return case
