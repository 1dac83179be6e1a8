"""nnInteractive's session API over ours, in process: change one import and the script runs.

    from segvol_gru.compat.nninteractive import nnInteractiveInferenceSession

    session = nnInteractiveInferenceSession()
    session.set_image(image[None], {"spacing": (sz, sy, sx)})
    session.set_target_buffer(buffer)
    session.add_bbox_interaction([[z0, z1], [y0, y1], [x0, x1]], include_interaction=True)

Methods, argument order, half-open boxes and the buffer that is written in place are theirs; what
answers is `segvol_gru.Session`, which `session.inner` gives. Differences: 3-D boxes are taken,
2-D ones are given a depth, undo goes back as far as there are steps, scribbles and lassos are
refused. Source: method names and semantics of nnInteractive 2.6, re-implemented.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.errors import InputError
from segvol_gru.interfaces.wire_nninteractive import (
    CAPABILITIES,
    NO_STROKES,
    UNKNOWN_LICENCE,
    Bounds,
    Change,
    Dialect,
)
from segvol_gru.pipeline import Model
from segvol_gru.pretrained import model_folder, read_licence
from segvol_gru.session.session import ModelChoice, Session
from segvol_gru.volume import Volume

NO_BUFFER = "there is no target buffer; call set_image, then set_target_buffer."


class nnInteractiveInferenceSession:
    """One image and one object at a time, as their users know it.

    Args:
        device: "auto", "cpu", "cuda" or "mps", or a `torch.device`.
        model: see `Session`.
        settings: their other settings, such as `torch_n_threads`; heard and not needed.
    """

    INFERENCE_SESSION_VERSION = CAPABILITIES["inference_session_version"]

    def __init__(
        self, device: object = "auto", *, model: ModelChoice = "default", **settings: object
    ) -> None:
        self._device, self._model = str(device).partition(":")[0], model
        self._inner: Session | None = None
        self._dialect: Dialect | None = None
        self.target_buffer: Any = None
        self.original_image_shape: tuple[int, ...] | None = None
        self.supported_interactions: dict[str, bool] = dict(CAPABILITIES["supported_interactions"])
        self.channel_mapping: dict[str, Any] = dict(CAPABILITIES["channel_mapping"])
        self.num_interaction_channels: int = CAPABILITIES["num_interaction_channels"]
        self.interaction_decay: float = CAPABILITIES["interaction_decay"]
        self.preferred_scribble_thickness = tuple(CAPABILITIES["preferred_scribble_thickness"])
        self.supports_undo = True
        self.supports_initial_label = True
        self.supports_zero_shot_label_refinement = False
        self.do_autozoom = True
        self._last_paste_bbox: Bounds | None = None

    @property
    def license(self) -> str:
        """Of the weights, as their model card says it; "!!MISSING!!" if there is no word of it.

        Raises:
            InputError: there are no weights of ours in the folder.
        """
        if isinstance(self._model, Model):
            return UNKNOWN_LICENCE
        return read_licence(model_folder(self._model) / "base.safetensors") or UNKNOWN_LICENCE

    @property
    def inner(self) -> Session:
        """Our session: probabilities, redo, several objects, saving.

        Raises:
            InputError: there is no image yet.
        """
        if self._inner is None:
            raise InputError("there is no image yet; call set_image.")
        return self._inner

    def initialize_from_trained_model_folder(
        self, folder: str | PathLike[str], *_: object, **__: object
    ) -> None:
        """Take the weights of a folder of ours, from the next image on."""
        self._model = folder

    def set_image(
        self, image: NDArray[Any], image_properties: Mapping[str, Any] | None = None
    ) -> None:
        """Take an image and forget everything else.

        Args:
            image: (1, D, H, W), raw intensities.
            image_properties: `spacing`, mm along (D, H, W); without it voxels are cubes.

        Raises:
            InputError: it has several channels or is no volume.
        """
        if image.ndim != 4 or len(image) != 1:
            raise InputError(f"image has shape {image.shape}, wanted (1, D, H, W): one channel.")
        spacing = (image_properties or {}).get("spacing", (1.0, 1.0, 1.0))
        inner = Session(Volume(image[0], spacing), self._model, device=self._device)
        self.close()
        self._inner, self._dialect, self.target_buffer = inner, None, None
        self.original_image_shape, self._last_paste_bbox = image.shape, None

    def set_target_buffer(self, target_buffer: Any) -> None:
        """Write results into an array from now on.

        Args:
            target_buffer: (D, H, W), a numpy array or a torch tensor; kept, not copied.

        Raises:
            InputError: it is not of the image's shape.
        """
        dialect = self._dialect or Dialect(self.inner, None)
        dialect.require_shape(tuple(target_buffer.shape))
        dialect.clear_buffer()
        self._dialect, self.target_buffer = dialect, target_buffer

    def add_point_interaction(
        self,
        coordinates: Sequence[float],
        include_interaction: bool,
        run_prediction: bool = True,
        override_capability_checks: bool = False,
    ) -> Bounds | None:
        """A click at an array index; the half-open box that changed, or None."""
        return self._paste(
            self._talk.point(
                [float(c) for c in coordinates], bool(include_interaction), run_prediction
            )
        )

    def add_bbox_interaction(
        self,
        bbox_coords: Sequence[Sequence[float]],
        include_interaction: bool,
        run_prediction: bool = True,
        override_capability_checks: bool = False,
    ) -> Bounds | None:
        """A half-open box, 3-D or one voxel thick; the box that changed, or None."""
        return self._paste(self._talk.box(bbox_coords, bool(include_interaction), run_prediction))

    def add_scribble_interaction(self, *_: object, **__: object) -> Bounds | None:
        """Not understood; see `supported_interactions`.

        Raises:
            InputError: always.
        """
        raise InputError(NO_STROKES)

    add_lasso_interaction = add_scribble_interaction

    def add_initial_seg_interaction(
        self,
        initial_seg: NDArray[Any],
        run_prediction: bool = False,
        override_capability_checks: bool = False,
    ) -> Bounds | None:
        """Go on with a mask; one that this session made brings back its memory and history."""
        return self._paste(self._talk.initial(np.asarray(initial_seg) != 0))

    def reset_interactions(self) -> None:
        """Empty the buffer and begin another object."""
        if self._dialect is not None:
            self._dialect.reset()
            self.target_buffer[...] = 0

    def undo(self) -> bool:
        """Take back the last step; whether there was one."""
        change = self._talk.undo()
        self._paste(change)
        return change is not None

    def set_do_autozoom(self, do_autozoom: bool) -> None:
        """Heard; our sessions look wider by themselves."""
        self.do_autozoom = bool(do_autozoom)

    def warmup(self) -> None:
        """Nothing is prepared ahead."""

    def close(self) -> None:
        """Let go of memory."""
        if self._inner is not None:
            self._inner.close()
            self._inner = self._dialect = None

    def _predict(self, force_full_refine: bool = False) -> Bounds | None:
        """Say all prompts that were only queued."""
        return self._paste(self._talk.predict())

    @property
    def _talk(self) -> Dialect:
        if self._dialect is None:
            raise InputError(NO_BUFFER)
        return self._dialect

    def _paste(self, change: Change | None) -> Bounds | None:
        self._last_paste_bbox = None if change is None else change.bbox
        if change is None or change.bbox is None:
            return None
        z, y, x = (slice(a, b) for a, b in change.bbox)
        if isinstance(self.target_buffer, np.ndarray):
            self.target_buffer[z, y, x] = change.crop
        else:
            import torch

            crop = torch.from_numpy(np.ascontiguousarray(change.crop))
            self.target_buffer[z, y, x] = crop.to(self.target_buffer.dtype)
        return change.bbox
