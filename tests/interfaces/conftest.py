"""A model folder of tiny random networks, and a small image on disk."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from segvol_gru.base.compact import CompactBase, CompactConfig
from segvol_gru.correct.field import FieldConfig, FieldCorrector
from segvol_gru.correct.paper import PaperConfig, PaperCorrector
from segvol_gru.pretrained import save_network

WIDTHS = (4, 4, 4, 4)
BLOCKS = (1, 1, 1, 1)
CELLS = 16
CARD = "# tiny\n\nLicence of the weights: none, they are random.\n"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny_model")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        base = CompactBase(CompactConfig(WIDTHS, BLOCKS, 1, 4, CELLS))
        field = FieldCorrector(FieldConfig(WIDTHS, BLOCKS, 1, 4, 4, CELLS))
        paper = PaperCorrector(PaperConfig(points=8, width=8))
    save_network(folder / "base.safetensors", base, base.config.to_dict(), CARD)
    save_network(folder / "field.safetensors", field, field.config.to_dict(), CARD)
    save_network(folder / "paper.safetensors", paper, paper.config.to_dict(), CARD)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A NIfTI image of 30 x 26 x 22 voxels (x, y, z), turned and of uneven voxels."""
    generator = np.random.default_rng(2)
    voxels = generator.integers(0, 900, (30, 26, 22)).astype(np.int16)
    affine = np.array([[-0.8, 0, 0, 12], [0, 0, 1.5, -3], [0, 0.9, 0, 7], [0, 0, 0, 1.0]])
    path = tmp_path / "image.nii.gz"
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path
