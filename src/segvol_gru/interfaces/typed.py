"""Prompts as they are typed: `z0,y0,x0,z1,y1,x1` and `z,y,x,+`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from segvol_gru.errors import InputError

SIGNS = {"+": True, "-": False}

Frame = Literal["voxel", "ras"]
Point = list[float]


@dataclass(frozen=True, slots=True)
class Typed:
    """Prompts as they were typed, in numbers."""

    frame: Frame
    box: tuple[Point, Point] | None
    clicks: tuple[tuple[str, Point, bool], ...]


def typed_prompts(box: str | None, clicks: Sequence[str], mm: bool) -> Typed:
    """Read prompts; whether they lie in the volume is for the session to say.

    Raises:
        InputError: a prompt is not of its form.
    """
    corners, read = None, []
    if box is not None:
        numbers = _numbers(box.split(","), 6)
        if numbers is None:
            raise InputError(f"box is {box!r}, wanted two corners as z0,y0,x0,z1,y1,x1.")
        corners = numbers[:3], numbers[3:]
    for text in clicks:
        *place, sign = text.split(",")
        point = _numbers(place, 3)
        if point is None or sign.strip() not in SIGNS:
            raise InputError(f"click is {text!r}, wanted z,y,x,+ or z,y,x,-.")
        read.append((text, point, SIGNS[sign.strip()]))
    return Typed("ras" if mm else "voxel", corners, tuple(read))


def _numbers(parts: Sequence[str], count: int) -> Point | None:
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    return numbers if len(numbers) == count else None
