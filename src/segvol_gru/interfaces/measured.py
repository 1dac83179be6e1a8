"""The package as the protocol sees it: the public session, driven by simulated prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segvol_gru.correct import Corrector
from segvol_gru.pipeline import Model
from segvol_gru.pretrained import load_model
from segvol_gru.prompt_maps import CellPrompts
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.region import Region
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume


class SessionSegmenter:
    """What `evaluation.trial` drives; every structure gets a session of its own.

    Args:
        model: "default" or a model folder.
        corrector: "field", "paper", "reprompt", or "none" to stay with the first mask.
        device: "auto", "cpu", "cuda" or "mps".
        forget: empty the memory before every click, to measure what memory is worth.
        shuffle: before every click say all earlier ones anew in another order, to measure what
            their order is worth.
    """

    def __init__(
        self,
        model: str,
        corrector: str,
        device: str = "auto",
        forget: bool = False,
        shuffle: bool = False,
    ) -> None:
        self._frozen, self._shuffle = corrector == "none", shuffle
        loaded = load_model(model, "reprompt" if self._frozen else corrector)
        self._model: Model = loaded
        if forget:
            kept = {name: Forgetful(c) for name, c in loaded.experts.correctors.items()}
            experts = replace(loaded.experts, correctors=kept)
            self._model = replace(loaded, corrector=Forgetful(loaded.corrector), experts=experts)
        self._device = device
        self._session: Session | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return self._model.digest

    def start(
        self,
        array: NDArray[np.uint8],
        spacing_mm: tuple[float, float, float],
        box: Box | None,
        click: Click | None,
        modality: str,
    ) -> NDArray[np.bool_]:
        """See `evaluation.trial.Segmenter`."""
        first = box if box is not None else click
        assert first is not None
        return self._begin(Volume(array, spacing_mm, modality=modality or None), first)

    def adopt(
        self,
        array: NDArray[np.uint8],
        spacing_mm: tuple[float, float, float],
        mask: NDArray[np.bool_],
        modality: str,
    ) -> NDArray[np.bool_]:
        """See `evaluation.trial.MaskStarter`."""
        return self._begin(Volume(array, spacing_mm, modality=modality or None), mask)

    def _begin(self, volume: Volume, first: Box | Click | NDArray[np.bool_]) -> NDArray[np.bool_]:
        if self._session is not None:
            self._session.close()
        self._session = Session(volume, self._model, device=self._device)
        self._first, self._clicks = first, []
        return self._say_first(self._session)

    def _say_first(self, session: Session) -> NDArray[np.bool_]:
        if isinstance(self._first, np.ndarray):
            return session.start(self._first)
        return session.prompt(self._first)

    def click(self, click: Click) -> NDArray[np.bool_]:
        """See `evaluation.trial.Segmenter`."""
        assert self._session is not None
        if self._frozen:
            return self._session.mask
        if self._shuffle and len(self._clicks) > 1:
            generator = np.random.default_rng([len(self._clicks), *click.at])
            self._session.reset()
            self._say_first(self._session)
            for place in generator.permutation(len(self._clicks)):
                self._session.prompt(self._clicks[place])
        self._clicks.append(click)
        return self._session.prompt(click)

    @property
    def probability(self) -> NDArray[np.float32]:
        """See `evaluation.calibration.Doubter`."""
        assert self._session is not None
        return self._session.probability

    def suggest(self) -> Index | None:
        """See `evaluation.calibration.Doubter`; the rule is the session's."""
        assert self._session is not None
        return self._session.suggest()

    _first: Box | Click | NDArray[np.bool_]
    _clicks: list[Click]


class Forgetful(Corrector):
    """A corrector whose memory is empty at every click.

    Args:
        inner: the corrector itself.
    """

    def __init__(self, inner: Corrector) -> None:
        super().__init__()
        self.inner = inner

    def initial_memory(self, batch: int) -> Tensor:
        """The inner corrector's."""
        return self.inner.initial_memory(batch)

    def carry(self, memory: Tensor, old: Region, new: Region) -> Tensor:
        """Nothing is carried."""
        return memory

    def correct(
        self, image: Tensor, logits: Tensor, memory: Tensor, prompts: CellPrompts
    ) -> tuple[Tensor, Tensor]:
        """See `Corrector.correct`; the memory given is not looked at."""
        corrected, _ = self.inner.correct(image, logits, self.initial_memory(len(image)), prompts)
        return corrected, memory
