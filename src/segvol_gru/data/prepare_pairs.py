"""Which mask belongs to which image: by the case's name in their paths."""

from __future__ import annotations

import re
from pathlib import Path

from segvol_gru.data.io import ITK, NIFTI, NPZ
from segvol_gru.errors import InputError

ENDINGS = tuple(sorted((*NIFTI, *ITK, *NPZ), key=len, reverse=True))


def find_pairs(
    images: str | Path, masks: str | Path
) -> tuple[dict[str, tuple[Path, Path]], dict[str, str]]:
    """Pair images with masks by name; what has no partner is named with the reason."""
    left, right = _find(images), _find(masks)
    pairs = {name: (left[name], right[name]) for name in sorted(left.keys() & right.keys())}
    faults = {name: f"{left[name]} has no mask" for name in sorted(left.keys() - right.keys())}
    faults |= {name: f"{right[name]} has no image" for name in sorted(right.keys() - left.keys())}
    return pairs, faults


def _find(place: str | Path) -> dict[str, Path]:
    """Name -> file, or folder of a DICOM series."""
    text = Path(place).as_posix()
    if text.count("*") > 1 or "?" in text:
        raise InputError(f"{text} has several wildcards, wanted one * for the case's name.")
    if "*" not in text:
        named = [(_stem(path), path) for path in sorted(_entries(Path(place))) if _stem(path)]
        found = dict(named)
        for name, path in named:
            if found[name] != path:
                raise InputError(
                    f"{path} and {found[name]} are both the case {name}; take one of them out."
                )
    else:
        parts = Path(text).parts
        at = next(i for i, part in enumerate(parts) if "*" in part)
        wanted = re.compile(re.escape(parts[at]).replace(r"\*", "(.+)"))
        matches = [(wanted.fullmatch(p.name), p) for p in _entries(Path(*parts[:at]))]
        paths = {match[1]: p.joinpath(*parts[at + 1 :]) for match, p in matches if match}
        found = {name: path for name, path in paths.items() if path.exists()}
    if not found:
        raise InputError(f"there is nothing at {text}; give a folder or a path with one *.")
    return found


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}.")
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _stem(path: Path) -> str:
    """A name without its ending; empty for a file of no known kind."""
    if path.is_dir():
        return path.name
    ending = next((e for e in ENDINGS if path.name.lower().endswith(e)), None)
    return path.name[: -len(ending)] if ending else ""
