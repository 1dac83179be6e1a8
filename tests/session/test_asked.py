from __future__ import annotations

import numpy as np
import pytest
from tiny import tiny_volume

from segvol_gru.errors import InputError
from segvol_gru.pipeline import Model
from segvol_gru.prompts import Box
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_line_in_a_volume_of_one_slice_gets_a_width(model: Model, axis: int) -> None:
    """Eight voxels of 3 mm along the later axis: as many along the other, but for its 2 mm."""
    shape, spacing = [20, 20], [2.0, 3.0]
    shape.insert(axis, 1)
    spacing.insert(axis, 5.0)
    lo, hi, low, high = [10, 8], [10, 15], [4, 8], [16, 15]
    for corner in (lo, hi, low, high):
        corner.insert(axis, 0)
    image = Volume(np.random.default_rng(0).normal(size=shape), spacing=spacing)
    with Session(image, model) as session:
        session.box(lo, hi)
        (box,) = session.history
        assert box == Box(tuple(low), tuple(high), (False, False, False))  # type: ignore[arg-type]
        session.box(lo, hi, lift=False)
        assert session.history[-1] == Box(tuple(lo), tuple(hi))  # type: ignore[arg-type]
        with pytest.raises(InputError, match="flat along 3 axes"):
            Box.lifted(lo, lo, image.shape, spacing)


def test_a_voxel_on_a_line_is_taken_at_its_word(model: Model) -> None:
    line = Volume(tiny_volume().array[6:7, 9:10], spacing=(2, 1, 1))
    with Session(line, model) as session:
        session.box((0, 0, 5), (0, 0, 5))
        assert session.history == (Box((0, 0, 5), (0, 0, 5)),)
    with pytest.raises(InputError, match="flat along 3 axes"):
        Box.lifted((0, 0, 5), (0, 0, 5), line.shape, line.spacing_mm)


def test_a_rectangle_in_a_volume_of_one_slice_may_be_lifted() -> None:
    lifted = Box.lifted((0, 4, 4), (0, 13, 12), (1, 18, 16), (2.0, 1.0, 1.0))
    assert lifted == Box((0, 4, 4), (0, 13, 12), (False, False, False))


def test_a_point_in_millimetres_is_refused_in_millimetres(model: Model) -> None:
    with Session(tiny_volume(), model) as session:
        corners = session.volume.to_world([[0, 0, 0], [n - 1 for n in session.volume.shape]])
        low, high = (tuple(c) for c in (corners.min(0).tolist(), corners.max(0).tolist()))
        with pytest.raises(InputError) as said:
            session.box(low, (high[0], high[1] + 50, high[2]), frame="ras")
        far = (high[0], high[1] + 50, high[2])
        assert f"hi is {far} in RAS mm" in str(said.value)
        assert f"between {low} and {high}" in str(said.value)
        assert session.box(high, low, frame="ras").shape == session.volume.shape
