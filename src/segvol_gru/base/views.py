"""Zoom-out, zoom-in for users: encode a view once, then pay decoder time for a click.

    Planner ─► (view, ask) ... ─► answers, kept by (view, ask) ─► one field at full resolution
                                     │
                                     └─ embeddings, kept by view

Answers are functions of (view, ask) and nothing else. Keeping them is a matter of time, never
of the result: after any prompts the field is the same as from a fresh start.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from segvol_gru.base.ask import Ask, Crop, decode, tensors, text_of
from segvol_gru.base.feedback import Feedback
from segvol_gru.base.plan import Plan, Planner
from segvol_gru.base.precision import Precision, autocast
from segvol_gru.base.segvol import SegVol
from segvol_gru.base.zoom import Watch
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.region import Field, Region, regrid, to_cells

Key = TypeVar("Key")
Job = tuple[Region, Ask]

KEPT_EMBEDDINGS = 64  # 6.3 MB each in the full model
KEPT_ANSWERS = 256  # 0.5 MB each


class Kept(Generic[Key]):
    """The tensors used last, by key.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Key, Tensor] = OrderedDict()

    def get(self, key: Key) -> Tensor | None:
        """The tensor, now the newest; None if it is not here."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: Key, value: Tensor) -> None:
        """Keep a tensor and forget the oldest beyond the limit."""
        self._values[key] = value
        if len(self._values) > self._most:
            self._values.popitem(last=False)


class Views:
    """SegVol on one crop, with its embeddings and answers kept. For one caller at a time.

    Args:
        model: the network.
        crop: normalised image.
        feedback: the trained feedback path; None for the official network.
        precision: arithmetic of the encoder; the decoder has float32.
        batch: views encoded or decoded at once.
    """

    def __init__(
        self,
        model: SegVol,
        crop: Crop,
        *,
        feedback: Feedback | None = None,
        precision: Precision = "auto",
        batch: int = 2,
    ) -> None:
        self.model, self.crop, self.feedback = model, crop, feedback
        self.precision, self.batch = precision, batch
        self._embeddings: Kept[Region] = Kept(KEPT_EMBEDDINGS)
        self._answers: Kept[Job] = Kept(KEPT_ANSWERS)

    def prepare(self) -> None:
        """Encode the zoom-out ahead of the first prompt."""
        self._embed([self.crop.whole])

    def segment(
        self,
        box: Box | None,
        clicks: Sequence[Click] = (),
        text: Tensor | None = None,
        watch: Watch | None = None,
    ) -> Field:
        """Segment from all prompts so far.

        Args:
            box: in voxels of the volume.
            clicks: in voxels of the volume, oldest first.
            text: (1, E) text vector.
            watch: progress, counted in views, and cancel; after a cancel what was computed
                is kept.

        Returns:
            Logits in voxels of the volume, at full resolution over the windows and all coarse
            foreground. Outside the field is background.

        Raises:
            InputError: no prompt says where the structure is.
        """
        watch = watch or Watch()
        planner, plan = self._plan(box, clicks, text, watch)
        answers = self._answer([(self.crop.whole, plan.coarse), *plan.windows], watch)
        return self._paste(planner, plan, answers)

    @torch.inference_mode()
    def features(
        self,
        box: Box | None,
        clicks: Sequence[Click],
        text: Tensor | None,
        region: Region,
        cells: Index,
    ) -> Tensor:
        """What the windows' masks are made of, averaged where windows overlap.

        Args:
            box: as for `segment`, like clicks and text.
            clicks: in voxels of the volume.
            text: (1, E) text vector.
            region: in voxels of the volume.
            cells: its cells along (D, H, W).

        Returns:
            (1, E / 8, *cells) float32 on the CPU, zero where no window is.
        """
        _, plan = self._plan(box, clicks, text, Watch())
        total = torch.zeros(1, self.model.config.width // 8, *cells)
        count = torch.zeros(1, 1, *cells)
        for view, ask in plan.windows:
            prompts = tensors([ask], self.model.device)
            rows = self.model.features(self._embed([view]), *prompts).float().cpu()
            place = self.crop.field(view, rows[0, 0]).region
            total += regrid(rows, place, region, cells)
            count += regrid(torch.ones_like(rows[:, :1]), place, region, cells)
        return total / count.clamp(min=1)

    def _plan(
        self, box: Box | None, clicks: Sequence[Click], text: Tensor | None, watch: Watch
    ) -> tuple[Planner, Plan]:
        """Ask the zoom-out and place the windows."""
        inner_box, inner_clicks = self.crop.prompts(box, clicks)
        frame = self.model.config.image
        planner = Planner(self.crop.whole, frame, inner_box, inner_clicks, text_of(text))
        opening = (self.crop.whole, planner.opening())
        first = self._answer([opening], watch)[opening]
        return planner, planner.plan(self.model.upsample(first)[0, 0] > 0)

    @torch.inference_mode()
    def _answer(self, jobs: Sequence[Job], watch: Watch) -> dict[Job, Tensor]:
        """Low-resolution logits (1, 1, ...) float32 of every job, on the CPU."""
        done = {job: have for job in jobs if (have := self._answers.get(job)) is not None}
        todo = [job for job in dict.fromkeys(jobs) if job not in done]
        earlier = self._earlier(todo, watch)
        kept, total = len(done), len(todo)
        for chunk in self._chunks(todo):
            watch.step(len(done) - kept, total)
            embedding = self._embed([view for view, _ in chunk])
            asks = [ask for _, ask in chunk]
            before = torch.cat([earlier[job] for job in chunk]) if earlier else None
            logits = decode(self.model, embedding, asks, self.feedback, before).cpu()
            for job, row in zip(chunk, logits, strict=True):
                done[job] = row[None].clone()
                self._answers.put(job, done[job])
        watch.step(total, total)
        return done

    def _earlier(self, jobs: Sequence[Job], watch: Watch) -> dict[Job, Tensor]:
        """What the feedback path sees: the answers before each newest click, else undecided."""
        if self.feedback is None or not jobs:
            return {}
        before = {(view, ask): (view, ask.before()) for view, ask in jobs if ask.points}
        askable = [(v, a) for v, a in before.values() if a != Ask()]
        known = self._answer(askable, watch) if askable else {}
        nothing = torch.zeros(1, 1, *(4 * n for n in self.model.config.grid))
        return {job: known.get(before.get(job, job), nothing) for job in jobs}

    def _chunks(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """Batches of jobs with the same kinds of prompts."""
        kinds: dict[object, list[Job]] = {}
        for job in jobs:
            kinds.setdefault(job[1].kind, []).append(job)
        for group in kinds.values():
            for i in range(0, len(group), self.batch):
                yield group[i : i + self.batch]

    @torch.inference_mode()
    def _embed(self, views: Sequence[Region]) -> Tensor:
        """Embeddings (B, E, gD, gH, gW) of views, encoded together where not kept."""
        found = {view: have for view in views if (have := self._embeddings.get(view)) is not None}
        fresh = [view for view in dict.fromkeys(views) if view not in found]
        if fresh:
            images = torch.stack([self._look(view) for view in fresh])[:, None]
            with autocast(self.model.device, self.precision):
                rows = self.model.encode(images.to(self.model.device)).float()
            for view, row in zip(fresh, rows, strict=True):
                found[view] = row[None].clone()
                self._embeddings.put(view, found[view])
        return torch.cat([found[view] for view in views])

    def _look(self, view: Region) -> Tensor:
        """The image of a view on the network's frame, zero beyond the crop."""
        if view == self.crop.whole:
            return to_cells(self.crop.image, self.model.config.image)
        inner = view.inside(self.crop.whole.size)
        sides: list[int] = []
        for axis in (2, 1, 0):
            sides += [inner.lo[axis] - view.lo[axis], view.hi[axis] - inner.hi[axis]]
        return F.pad(self.crop.image[inner.slices()], sides)

    def _paste(self, planner: Planner, plan: Plan, answers: dict[Job, Tensor]) -> Field:
        """Windows, averaged where they overlap, over the zoom-out."""
        whole = self.crop.whole
        coarse = Field(whole, self.model.upsample(answers[whole, plan.coarse])[0, 0])
        parts = [view.inside(whole.size) for view, _ in plan.windows]
        found = planner.found(coarse.logits > 0, whole)
        parts += [] if found is None else [found]
        if not parts:
            return self.crop.field(whole, coarse.logits)
        region = reduce(Region.union, parts)
        total, count = torch.zeros(region.size), torch.zeros(region.size)
        for view, ask in plan.windows:
            inner = view.inside(whole.size)
            window = self.model.upsample(answers[view, ask])[0, 0]
            total[inner.slices(region.lo)] += window[inner.slices(view.lo)]
            count[inner.slices(region.lo)] += 1
        logits = total / count.clamp(min=1)
        if not bool(count.all()):  # rendering the whole crop is the dearest step of a small click
            logits = torch.where(count > 0, logits, coarse.render(region))
        return self.crop.field(region, logits)
