"""Which views of a volume are asked what: a pure function of the prompts.

    zoom-out, asked with the first prompt only ──► mask ──► region ──► windows over it
    a click in a window      ──► joins the prompts of every window that holds it
    a click in no window     ──► a window of its own, and joins the zoom-out's prompts

What a view is asked depends only on the first prompt and on the clicks inside it. So a later
click changes the asks of the windows it touches, all other answers can be kept, and undo finds
the old asks again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from segvol_gru.base.ask import Ask
from segvol_gru.base.windows import bounds, cover
from segvol_gru.errors import InputError
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.region import Region


@dataclass(frozen=True, slots=True)
class Plan:
    """Views and asks.

    Attributes:
        coarse: what the zoom-out is asked.
        windows: places in voxels of the crop, and what each is asked; empty ones are left out.
    """

    coarse: Ask
    windows: tuple[tuple[Region, Ask], ...]


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans for one set of prompts.

    Attributes:
        whole: the crop, in its own voxels.
        frame: voxels of the network's frame along (D, H, W).
        box: in voxels of the crop.
        clicks: in voxels of the crop, oldest first.
        text: (E,) text vector.
    """

    whole: Region
    frame: Index
    box: Box | None
    clicks: tuple[Click, ...]
    text: tuple[float, ...] | None

    def first(self) -> tuple[Click, ...]:
        """The click that starts when there is neither box nor text.

        Raises:
            InputError: nothing says where the structure is.
        """
        if self.box is not None or self.text is not None:
            return ()
        start = next((click for click in self.clicks if click.positive), None)
        if start is None:
            raise InputError(
                "no box and no positive click came in the foreground; "
                "give a box or a positive click on the structure first."
            )
        return (start,)

    def opening(self) -> Ask:
        """What the zoom-out is asked first."""
        return self._ask(self.whole, self._asked(), self.first())

    def plan(self, coarse_mask: Tensor) -> Plan:
        """Place the windows.

        Args:
            coarse_mask: bool on the network's frame, the zoom-out's answer to `opening`.
        """
        start = self.first()
        found, asked = self.found(coarse_mask, self.whole), self._asked()
        parts = [part for part in (found, asked) if part is not None]
        parts += [_voxel(click.at) for click in start]
        views = cover(reduce(Region.union, parts), self.frame, self.whole.size) if parts else []
        trusted = asked if len(views) == 1 or found is None else None
        windows = [(view, trusted or self.found(coarse_mask, view)) for view in views]
        outside = []
        for click in self.clicks:
            if not any(_holds(view, click.at) for view, _ in windows):
                [view] = cover(_voxel(click.at), self.frame, self.whole.size)
                windows.append((view, self.found(coarse_mask, view)))
                outside.append(click)
        asks = [(view, self._ask(view, hint, self.clicks)) for view, hint in windows]
        return Plan(
            coarse=self._ask(self.whole, asked, (*start, *outside)),
            windows=tuple((view, ask) for view, ask in asks if ask.box or 1 in ask.labels),
        )

    def _asked(self) -> Region | None:
        return None if self.box is None else Region(self.box.lo, self.box.size)

    def found(self, mask: Tensor, view: Region) -> Region | None:
        """Bounds, in voxels, of a zoom-out's mask inside a view.

        Along the axes where the user's box is tight, the mask is not believed beyond it.

        Args:
            mask: bool on the network's frame, over the whole crop.
            view: in voxels of the crop.

        Returns:
            None if nothing is found there.
        """
        low, high = list(view.lo), list(view.hi)
        if self.box is not None:
            for axis in range(3):
                if self.box.tight[axis]:
                    low[axis] = max(low[axis], self.box.lo[axis])
                    high[axis] = min(high[axis], self.box.hi[axis] + 1)
        limit = _between(low, high)
        if limit is None:
            return None
        cells = []
        for lo, hi, n, total in zip(low, high, self.frame, self.whole.size, strict=True):
            cells.append(slice(max(lo, 0) * n // total, -(-min(hi, total) * n // total)))
        held = bounds(mask[cells[0], cells[1], cells[2]])
        if held is None:
            return None
        first, last = [], []
        for axis, (n, total) in enumerate(zip(self.frame, self.whole.size, strict=True)):
            begin = cells[axis].start + held.lo[axis]
            first.append(max(begin * total // n, low[axis]))
            last.append(min(-(-(begin + held.size[axis]) * total // n), high[axis]))
        return _between(first, last)

    def _ask(self, view: Region, hint: Region | None, clicks: Sequence[Click]) -> Ask:
        """Prompts inside a view, in voxels of the network's frame."""
        box = None
        if hint is not None:
            low = [max(a, b) for a, b in zip(hint.lo, view.lo, strict=True)]
            high = [min(a, b) for a, b in zip(hint.hi, view.hi, strict=True)]
            if _between(low, high) is not None:
                first = view.to_cells(torch.tensor(low) - 0.5, self.frame) + 0.5
                last = view.to_cells(torch.tensor(high) - 0.5, self.frame) - 0.5
                # A box thinner than a cell keeps its middle.
                middle = (first + last) / 2
                z0, y0, x0 = torch.minimum(first, middle).tolist()
                z1, y1, x1 = torch.maximum(last, middle).tolist()
                box = (z0, y0, x0, z1, y1, x1)
        inside = [click for click in clicks if _holds(view, click.at)]
        places = [
            view.to_cells(torch.tensor(click.at, dtype=torch.float32), self.frame).tolist()
            for click in inside
        ]
        return Ask(
            box,
            tuple((z, y, x) for z, y, x in places),
            tuple(int(click.positive) for click in inside),
            self.text,
        )


def _voxel(at: Index) -> Region:
    return Region(at, (1, 1, 1))


def _holds(view: Region, at: Index) -> bool:
    return all(lo <= a < hi for lo, a, hi in zip(view.lo, at, view.hi, strict=True))


def _between(low: Sequence[int], high: Sequence[int]) -> Region | None:
    """The region from `low` to one before `high`; None where that is nothing."""
    d, h, w = (b - a for a, b in zip(low, high, strict=True))
    if min(d, h, w) < 1:
        return None
    return Region((low[0], low[1], low[2]), (d, h, w))
