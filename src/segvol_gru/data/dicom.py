# mypy: allow-untyped-calls
"""DICOM series: ITK decodes the slices, the headers say here where each of them lies.

ITK's own series reader takes type and direction from the first slice and the step from the first
and last, so that it truncates scaled values, straightens a tilted gantry and calls any files of
one series a stack.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from segvol_gru.data.itk import or_refuse
from segvol_gru.errors import InputError
from segvol_gru.grid import affine_from_itk
from segvol_gru.volume import Volume

DICOM = "GDCMImageIO"
MODALITIES = {"CT": "CT", "MR": "MR", "PT": "PET", "US": "US"}
MODALITY, POSITION, ORIENTATION = "0008|0060", "0020|0032", "0020|0037"
CLASS = "0008|0016"
HEAD_CLASS, HEAD_BYTES = b"\x02\x00\x02\x00UI", 1024  # of a file: its class, before all else
MEANING, INVERTED = "0028|0004", "MONOCHROME1"
PIXELS = ("0028|0030", "0018|1164", "0018|2010")  # (row, column) mm, at best in the patient
STEPS = ("0018|0088", "0018|0050")  # from slice to slice; else the thickness of one
TURN = 1e-3
"""Most by which direction cosines and pixel sizes of one stack differ: headers round them."""
UNEVEN, UNEVEN_MM = 0.1, 0.01
"""Most by which a step differs from the others, as a part of it or in mm: positions are rounded."""
DRIFT = 0.25
"""Most steps by which a slice lies from where its number puts it."""
SAME_MM = 1e-3
"""Slices that are no further apart show one place."""
ASIDE_PIXELS = 0.5
"""Most by which a slice lies beside the line through the first and the last."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """What the header of one file says; vectors are LPS.

    Attributes:
        file: where it is.
        size: (W, H) in pixels.
        pixel_mm: size of a pixel along (x, y).
        kind: ITK's number for the type of its scaled values.
        position_mm: centre of its first pixel; None if not given.
        axes: (2, 3) unit vectors along x and y.
        modality: by its DICOM name; '' if not given.
    """

    file: Path
    size: tuple[int, int]
    pixel_mm: NDArray[np.float64]
    kind: int
    position_mm: NDArray[np.float64] | None
    axes: NDArray[np.float64]
    modality: str


def read_dicom(folder: Path, modality: str | None) -> Volume:
    """Read the one DICOM series of a folder; the modality is the series' own if not given.

    Slices are ordered along x cross y. Those of a tilted gantry keep their places, so the grid is
    sheared. Where scaled slices differ in type, as in PET with a slope per slice, all become
    float32. A single slice is as thick as it says.

    Raises:
        InputError: no series, several, or one that is no even stack of grey slices.
    """
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise InputError(
            f"folder {folder} holds no DICOM series, wanted one: name the folder in which its "
            "slices lie."
        )
    if len(series) > 1:
        raise InputError(
            f"folder {folder} holds {len(series)} DICOM series, wanted one: give each series "
            "a folder of its own."
        )
    reader = sitk.ImageSeriesReader()
    reader.GlobalWarningDisplayOff()
    files = [Path(name) for name in reader.GetGDCMSeriesFileNames(str(folder), series[0])]
    _refuse_damaged(folder, files)
    slices = [_read_header(file, alone=len(files) == 1) for file in files]
    _refuse_mixture(folder, slices)
    slices, affine = _stack(folder, slices)
    reader.SetImageIO(DICOM)
    reader.SetFileNames([str(one.file) for one in slices])
    if len({one.kind for one in slices}) > 1:
        reader.SetOutputPixelType(sitk.sitkFloat32)
    image = or_refuse(folder, reader.Execute)
    if modality is None:
        modality = MODALITIES.get(slices[0].modality)
    return Volume(sitk.GetArrayFromImage(image), affine=affine, modality=modality)


def _read_header(file: Path, *, alone: bool) -> _Slice:
    """Read one file's header; where no other slice has to lie on it, its size may be unknown.

    Raises:
        InputError: not readable, several frames, colours, or senseless numbers.
    """
    reader = _opened(file)
    width, height, frames = (*reader.GetSize(), 1)[:3]
    if frames > 1:
        raise InputError(
            f"{file} is a multi-frame DICOM file of {frames} frames, wanted one slice per file: "
            "export it as single frames or as NIfTI."
        )
    if reader.GetNumberOfComponents() != 1:
        raise InputError(f"{file} is in colour, wanted grey slices: export the series as such.")
    if _text(reader, MEANING) == INVERTED:  # ITK turns its values over before it scales them
        raise InputError(
            f"{file} is {INVERTED}, whose values are not read as they are: export the series as "
            "MONOCHROME2 or as NIfTI."
        )
    given = _numbers(reader, ORIENTATION, 6)
    axes = np.array(reader.GetDirection()).reshape(3, 3).T[:2] if given is None else given
    axes = axes.reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=10 * TURN):
        raise InputError(
            f"{file} has the orientation {axes.tolist()}, wanted two perpendicular unit vectors: "
            "export the series again."
        )
    return _Slice(
        file,
        (width, height),
        _pixel_mm(reader, alone=alone),
        reader.GetPixelID(),
        _numbers(reader, POSITION, 3),
        axes / np.linalg.norm(axes, axis=1, keepdims=True),
        _text(reader, MODALITY),
    )


def _pixel_mm(reader: sitk.ImageFileReader, *, alone: bool) -> NDArray[np.float64]:
    """Size of a pixel along (x, y).

    Raises:
        InputError: it is not given though there are other slices, or not above 0.
    """
    found = (_numbers(reader, tag, 2) for tag in PIXELS)
    given = next((numbers for numbers in found if numbers is not None), None)
    if given is None and alone:
        return np.array(reader.GetSpacing()[:2])
    if given is None or not (given > 0).all():
        raise InputError(
            f"{reader.GetFileName()} says no pixel size, wanted mm above 0 in its tag {PIXELS[0]}: "
            "export the series again."
        )
    return given[::-1]


def _opened(file: Path) -> sitk.ImageFileReader:
    """A reader that has read the header of a file, but no voxels."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO(DICOM)
    reader.SetFileName(str(file))
    or_refuse(file, reader.ReadImageInformation)
    return reader


def _thickness_mm(file: Path) -> float:
    """What a single slice says of its thickness; 1 where it says nothing."""
    reader = _opened(file)
    given = [step[0] for tag in STEPS if (step := _numbers(reader, tag, 1)) is not None]
    return next((float(step) for step in given if step > 0), 1.0)


def _text(reader: sitk.ImageFileReader, tag: str) -> str:
    """What a tag says; '' where it is absent."""
    return reader.GetMetaData(tag).strip("\0 ") if reader.HasMetaDataKey(tag) else ""


def _numbers(reader: sitk.ImageFileReader, tag: str, count: int) -> NDArray[np.float64] | None:
    """The numbers of a tag; None where it is absent or empty."""
    text = _text(reader, tag)
    if not text:
        return None
    try:
        numbers = np.array([float(word) for word in text.split("\\")])
    except ValueError:
        numbers = np.empty(0)
    if numbers.size != count or not np.isfinite(numbers).all():
        raise InputError(
            f"{reader.GetFileName()} says {text!r} in its tag {tag}, wanted {count} numbers: "
            "export the series again."
        )
    return numbers


def _refuse_damaged(folder: Path, files: list[Path]) -> None:
    """Refuse a folder with a slice that GDCM leaves out without a word, since it cannot read it.

    Args:
        folder: the folder.
        files: what GDCM found in it. What is of another class than these, such as a report or a
            plan, is none of the stack.

    Raises:
        InputError: there is one.
    """
    kind, known = _text(_opened(files[0]), CLASS), {file.name for file in files}
    for other in sorted(folder.iterdir()):
        if other.name in known or not other.is_file():
            continue
        stored = _stored_class(other)
        if stored is None and other.suffix == files[0].suffix != "":
            stored = kind
        if stored != kind:
            continue
        try:
            _opened(other)
        except InputError:
            raise InputError(
                f"{other} looks like a slice but cannot be read: fetch the series again, or take "
                "the file out."
            ) from None


def _stored_class(file: Path) -> str | None:
    """The class that a DICOM file has by the first lines of it; None if there are none."""
    with file.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    at = head.find(HEAD_CLASS)
    if head[128:132] != b"DICM" or at < 0:
        return None
    at += len(HEAD_CLASS)
    length = int.from_bytes(head[at : at + 2], "little")
    return head[at + 2 : at + 2 + length].rstrip(b"\0 ").decode("ascii", "replace")


def _refuse_mixture(folder: Path, slices: list[_Slice]) -> None:
    """Refuse slices that differ in direction, size or pixels, such as a scout among them.

    Raises:
        InputError: one differs from the first.
    """
    first = slices[0]
    for one in slices[1:]:
        if np.abs(one.axes - first.axes).max() > TURN:
            raise InputError(
                f"slices {first.file.name} and {one.file.name} in {folder} face different ways, "
                "wanted parallel ones: take scouts and other views out."
            )
        if one.size != first.size or not np.allclose(one.pixel_mm, first.pixel_mm, rtol=TURN):
            raise InputError(
                f"slices {first.file.name} and {one.file.name} in {folder} have {first.size} and "
                f"{one.size} pixels of {first.pixel_mm.tolist()} and {one.pixel_mm.tolist()} mm, "
                "wanted equal ones: take scouts and other scans out."
            )


def _stack(folder: Path, slices: list[_Slice]) -> tuple[list[_Slice], NDArray[np.float64]]:
    """Slices in order along their normal, and the affine of (z, y, x) in RAS mm.

    Raises:
        InputError: they do not say where they lie, or lie there as no even stack.
    """
    first = slices[0]
    normal = np.cross(*first.axes)
    places = [one.position_mm for one in slices if one.position_mm is not None]
    if len(slices) == 1:
        step = normal * _thickness_mm(first.file)
    else:
        if len(places) < len(slices):
            raise InputError(
                f"{len(slices) - len(places)} of {len(slices)} slices in {folder} say no position, "
                "wanted one in each: export the series again, or as NIfTI."
            )
        order = np.argsort(np.array(places) @ normal, kind="stable")
        slices, places = [slices[i] for i in order], [places[i] for i in order]
        _refuse_uneven(folder, slices, np.array(places), normal)
        step = (places[-1] - places[0]) / (len(places) - 1)
    columns = np.column_stack([*(first.axes * first.pixel_mm[:, None]), step])
    origin = places[0] if places else np.zeros(3)
    return slices, affine_from_itk(columns.ravel().tolist(), (1, 1, 1), origin.tolist())


def _refuse_uneven(
    folder: Path, slices: list[_Slice], places: NDArray[np.float64], normal: NDArray[np.float64]
) -> None:
    """Refuse slices that coincide, lie at uneven distances or beside one straight line.

    Args:
        folder: for the errors.
        slices: in order along the normal, two at least.
        places: (n, 3) their positions, LPS mm.
        normal: (3,) of unit length.

    Raises:
        InputError: they do.
    """
    steps = np.diff(places @ normal)
    same = np.pad(steps <= SAME_MM, 1)
    if same.any():
        shared = np.count_nonzero(same[1:] | same[:-1])
        raise InputError(
            f"{shared} of {len(slices)} slices in {folder} share their position with another, as "
            "in a time series, wanted one volume: give each time point a folder of its own."
        )
    usual = float(np.median(steps))
    worst = int(np.abs(steps - usual).argmax())
    # Half of a tiny step, so that no rounding in mm hides a slice that is missing.
    if abs(steps[worst] - usual) > max(UNEVEN * usual, min(UNEVEN_MM, usual / 2)) + 1e-6:
        raise InputError(
            f"slices in {folder} lie at uneven distances, {usual:.4g} mm but {steps[worst]:.4g} mm "
            f"between {slices[worst].file.name} and {slices[worst + 1].file.name}, so some are "
            "missing or the step changes: export all again, or each even part alone."
        )
    along = (places - places[0]) @ normal
    drift = np.abs(along - np.linspace(0, along[-1], len(along)))
    if drift.max() > max(DRIFT * usual, UNEVEN_MM):
        raise InputError(
            f"slice {slices[int(drift.argmax())].file.name} in {folder} lies {drift.max():.4g} mm "
            f"from where even steps of {along[-1] / len(steps):.4g} mm put it, so the step "
            "changes: export each even part alone."
        )
    line = places[0] + np.outer(along / along[-1], places[-1] - places[0])
    aside = np.linalg.norm(places - line, axis=1)
    if aside.max() > ASIDE_PIXELS * slices[0].pixel_mm.min():
        raise InputError(
            f"slice {slices[int(aside.argmax())].file.name} in {folder} lies {aside.max():.3g} mm "
            "beside the others, wanted a straight stack: give each scan a folder of its own."
        )
