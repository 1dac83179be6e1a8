"""Recipes: a training run as typed values, read from a TOML file and carried out.

    segvol-gru train base   --data DATA --out runs/base
    segvol-gru train field  --data DATA --from runs/base --out runs/field
    segvol-gru train segvol --data DATA --from segvol.safetensors --out runs/segvol

A recipe says everything but where the data lie. It is stored beside the checkpoint, so that a
run goes on only under the recipe it was begun with and `export` knows what it exports.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from dataclasses import field as default
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError

from segvol_gru.base.compact import CompactConfig
from segvol_gru.base.segvol import SegVolConfig
from segvol_gru.correct.field import FieldConfig
from segvol_gru.correct.paper import PaperConfig
from segvol_gru.data.dataset import Case
from segvol_gru.data.files import make_folder, whole_file
from segvol_gru.errors import InputError
from segvol_gru.training.config import LoopConfig
from segvol_gru.training.segvol_rounds import StagesConfig
from segvol_gru.training.segvol_views import ViewConfig

RECIPE = "recipe.json"
SHIPPED = Path(str(resources.files("segvol_gru") / "training" / "recipes"))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run."""

    stage: Literal["base", "corrector", "segvol"]
    """Train the base alone, a corrector (and the base, by `loop.rounds.base_share`), or SegVol
    and the paper's corrector as the paper does."""
    corrector: Literal["field", "paper"] = "field"
    """Which corrector, in the stage `corrector`."""
    split: str = "train"
    """Split of the manifest."""
    licence_classes: tuple[str, ...] = ("open",)
    """Licence classes of the manifest that may be trained on; none named means all."""
    datasets: tuple[str, ...] = ()
    """Data sets to train on; none named means all."""
    expert: str = ""
    """Train the expert of this name: only what an expert has of its own learns."""
    keep_experts: bool = False
    """Leave what experts share with the general networks as it is, so that those of the start
    stay valid."""
    begin: str = ""
    """Begin with this expert of the start; with the general networks where it has none."""
    cases: int = 0
    """Most cases to train on, the first by name; 0 means all."""
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto"
    """Arithmetic; `auto` is bfloat16 where it is native and no level is too small for it."""
    base: CompactConfig = default(default_factory=CompactConfig)
    """Sizes of the base network."""
    field: FieldConfig = default(default_factory=FieldConfig)
    """Sizes of the field corrector."""
    paper: PaperConfig = default(default_factory=PaperConfig)
    """Sizes of the paper's corrector."""
    segvol: SegVolConfig = default(default_factory=SegVolConfig)
    """Sizes of SegVol."""
    views: ViewConfig = default(default_factory=ViewConfig)
    """How SegVol's examples are drawn, in the stage `segvol`."""
    stages: StagesConfig = default(default_factory=StagesConfig)
    """How SegVol's rounds are played, in the stage `segvol`."""
    epochs: int = 0
    """If positive, the run passes so often over its cases, whatever `loop.steps` says."""
    loop: LoopConfig = default(default_factory=LoopConfig)
    """Steps, learning rate, examples and rounds."""

    @property
    def fewest_cells(self) -> int:
        """Cells along an axis at the lowest resolution of the networks."""
        if self.stage == "segvol":
            return min(n // p for n, p in zip(self.segvol.image, self.segvol.patch, strict=True))
        base, field = self.base, self.field
        return min(base.cells >> len(base.widths), field.cells >> len(field.widths))  # halved

    def loop_for(self, cases: int, world: int) -> LoopConfig:
        """The loop of a run.

        Args:
            cases: how many there are to train on.
            world: processes.
        """
        if self.epochs <= 0:
            return self.loop
        per_step = self.loop.batch * self.loop.accumulate * world
        return replace(self.loop, steps=self.epochs * math.ceil(cases / per_step))

    def chosen(self, case: Case) -> bool:
        """Whether a case of the manifest is trained on."""
        return (
            case.split == self.split
            and (not self.licence_classes or case.licence_class in self.licence_classes)
            and (not self.datasets or case.dataset in self.datasets)
        )


def read_recipe(name: str | Path) -> Recipe:
    """Read a recipe.

    Args:
        name: a TOML file, or the name of a shipped recipe such as `base`.

    Raises:
        InputError: no such recipe, no TOML, an unknown key or a value of the wrong type.
    """
    path = Path(name)
    if not path.is_file():
        path = SHIPPED / f"{name}.toml"
    if not path.is_file():
        raise InputError(
            f"recipe is {str(name)!r}, wanted a TOML file or one of {', '.join(shipped())}."
        )
    try:
        return as_recipe(tomllib.loads(path.read_text(encoding="utf-8")), path.name)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is no TOML file: {error}.") from None


def shipped() -> list[str]:
    """Names of the recipes in the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def as_recipe(values: Mapping[str, Any], name: str) -> Recipe:
    """Check plain values and make a recipe of them; `name` says whose, in errors.

    Raises:
        InputError: an unknown key or a value of the wrong type.
    """
    unknown = _unknown(Recipe, values)
    if unknown:
        raise InputError(f"{name} has the unknown key {unknown[0]}; see the Recipe class.")
    try:
        return TypeAdapter(Recipe).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{name}: {place} is {first['input']!r}; {first['msg']}.") from None


def keep_recipe(recipe: Recipe, out: Path) -> None:
    """Store a recipe in the folder of a run.

    Raises:
        InputError: the folder holds a run of another recipe.
    """
    path = out / RECIPE
    if path.is_file():
        if kept_recipe(out) != recipe:
            raise InputError(f"{out} holds a run of another recipe; give a new folder as --out.")
        return
    make_folder(out)
    with whole_file(path) as fresh:
        fresh.write_text(json.dumps(asdict(recipe), indent=1) + "\n", encoding="utf-8")


def kept_recipe(out: Path) -> Recipe:
    """Read what `keep_recipe` stored.

    Raises:
        InputError: the folder holds no run.
    """
    path = out / RECIPE
    if not path.is_file():
        raise InputError(f"{out} holds no {RECIPE}; give the --out folder of a training run.")
    return as_recipe(json.loads(path.read_text(encoding="utf-8")), path.name)


def _unknown(kind: type[Any], values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys that a settings class, or one inside it, does not have."""
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)}
    found = []
    for key, value in values.items():
        if key not in known:
            found.append(prefix + key)
        elif is_dataclass(hints[key]) and isinstance(value, Mapping):
            found += _unknown(hints[key], value, f"{prefix}{key}.")
    return found
