"""Tiny data folders and segmenters for the tests of the protocol."""

from __future__ import annotations

import csv

import numpy as np

SHAPE = (10, 12, 14)
HEAD = ("file", "modality", "dataset", "subject", "split", "licence_class", "labels")


def cube(lo, hi, label=1):
    gts = np.zeros(SHAPE, dtype=np.uint8)
    gts[tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))] = label
    return gts


def two_cubes():
    """Label 1: 5 x 5 x 5 = 125 voxels; label 2: 4 x 4 x 4 = 64; label 3: 49, too small."""
    gts = cube((0, 0, 0), (5, 5, 5))
    gts[6:10, 6:10, 0:4] = 2
    gts[0:7, 6:13, 13:14][:, :6] = 3
    gts[0, 11, 6:13] = 3
    assert [np.count_nonzero(gts == k) for k in (1, 2, 3)] == [125, 64, 49]
    return gts


def write_folder(root, rows):
    """`rows`: (name, dataset, labels array or None for a missing file, more columns)."""
    (root / "cases").mkdir(parents=True)
    with (root / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, HEAD)
        writer.writeheader()
        for name, dataset, gts, more in rows:
            row = {
                "file": f"cases/{name}.npz",
                "modality": "CT",
                "dataset": dataset,
                "subject": name,
                "split": "val",
                "licence_class": "open",
                "labels": "1",
            }
            writer.writerow({**row, **more})
            if gts is not None:
                spacing = np.array([2.0, 1.0, 1.0], dtype=np.float32)
                image = (gts > 0).astype(np.uint8) * 100
                np.savez(root / "cases" / f"{name}.npz", imgs=image, gts=gts, spacing=spacing)
    return root


class FillBox:
    """Fills the box, or a ball around a first click; every click repaints one voxel."""

    def __init__(self):
        self.calls = []

    def start(self, array, spacing_mm, box, click, modality):
        self.calls.append((box, click, modality, spacing_mm))
        self.mask = np.zeros(array.shape, dtype=bool)
        if box is not None:
            self.mask[tuple(slice(a, b + 1) for a, b in zip(box.lo, box.hi, strict=True))] = True
        else:
            self.mask[click.at] = click.positive
        return self.mask.copy()

    def click(self, click):
        self.mask[click.at] = click.positive
        return self.mask.copy()
