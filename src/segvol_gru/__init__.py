"""Stateful interactive segmentation of 3-D medical images.

    import segvol_gru as sg

    session = sg.Session(sg.read_volume("scan.nii.gz"))
    mask = session.box(lo=(z, y, x), hi=(z, y, x))
    mask = session.click((z, y, x), positive=False)

Names are loaded when they are first used: `import segvol_gru` alone loads neither torch nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segvol_gru.data.io import read_volume
    from segvol_gru.errors import InputError
    from segvol_gru.pretrained import load_model
    from segvol_gru.prompts import Box, Click
    from segvol_gru.session.session import Session
    from segvol_gru.volume import Volume

    __version__: str

__all__ = [
    "Box",
    "Click",
    "InputError",
    "Session",
    "Volume",
    "__version__",
    "load_model",
    "read_volume",
]

_HOMES = {
    "Box": "prompts",
    "Click": "prompts",
    "InputError": "errors",
    "Session": "session.session",
    "Volume": "volume",
    "load_model": "pretrained",
    "read_volume": "data.io",
}


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562)."""
    if name == "__version__":
        value: Any = import_module("importlib.metadata").version("segvol-gru")
    elif name in _HOMES:
        value = getattr(import_module(f"segvol_gru.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'segvol_gru' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted(__all__)
