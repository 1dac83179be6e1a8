"""From the checkpoint of a run to weight files with their model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segvol_gru.base.weights import save_segvol
from segvol_gru.correct.field import FieldCorrector
from segvol_gru.correct.paper import PaperCorrector
from segvol_gru.data.files import make_folder, whole_file
from segvol_gru.errors import InputError
from segvol_gru.experts import owned, shared_digest
from segvol_gru.pretrained import (
    EXPERTS,
    PARTS,
    StoredExperts,
    as_kind,
    load_model,
    model_folder,
    read_card,
    read_experts,
    save_experts,
    save_network,
)
from segvol_gru.training.networks import averaged, networks, segvol_networks
from segvol_gru.training.recipe import Recipe, kept_recipe
from segvol_gru.training.rounds import Rounds
from segvol_gru.training.run import DATA, KIND

LICENCE = "CC BY-SA 4.0"
TRAINED = "Trained by `segvol-gru train`, stage "


def export(
    run: Path,
    out: Path,
    *,
    base: bool = True,
    model: str | Path | None = None,
    figures: Path | None = None,
    commit: str = "unknown",
    licence: str = LICENCE,
) -> list[Path]:
    """Write the averaged networks of a run as 16-bit safetensors.

    An expert joins the others of the model that it belongs to.

    Args:
        run: the folder that training wrote.
        out: the model folder; files of the same name are replaced, those of another model with an
            expert's go.
        base: write the base too; False leaves the one that is there.
        model: of an expert, the model folder (or "default") that it belongs to; None means `out`.
        figures: `summary.json` of an evaluation, quoted in the card.
        commit: the commit of this repository that trained them.
        licence: under which the weights are released.

    Returns:
        The files written.

    Raises:
        InputError: the run is not complete, figures is no such file, the expert belongs to
            another model, or the folder's corrector to the other kind of base.
    """
    recipe, weights = kept_recipe(run), averaged(run)
    _check_paper(out, recipe.stage)
    data = json.loads((run / DATA).read_text(encoding="utf-8"))
    told = read_figures(figures) if figures is not None else {}

    def card(part: str) -> str:
        return model_card(part, recipe, data, told, commit, licence)

    if recipe.stage == "segvol":
        return _save_segvol(out, recipe, weights, card)
    trained = networks(recipe)
    trained.base.load_state_dict(weights["base"])
    if trained.corrector is not None:
        trained.corrector.load_state_dict(weights["corrector"])
    if recipe.expert:
        return _add_expert(run, out, trained, model or out, card("experts"))
    return save_rounds(out, trained, card, base=base)


def _check_paper(out: Path, stage: str) -> None:
    """Refuse a folder with a corrector of the paper for the other kind of base.

    Raises:
        InputError: it has one.
    """
    path = out / "paper.safetensors"
    if not path.is_file():
        return
    for_segvol = f"{TRAINED}segvol," in read_card(path)
    if for_segvol != (stage == "segvol"):
        base = "SegVol" if for_segvol else "the compact base"
        raise InputError(f"{path} corrects {base}; give another folder as --out.")


def _add_expert(run: Path, out: Path, trained: Rounds, model: str | Path, card: str) -> list[Path]:
    """Write a model folder with one more expert.

    Raises:
        InputError: the expert belongs to another model.
    """
    folder, own = model_folder(model), {"base": trained.base, "field": trained.corrector}
    held = load_model(folder, "field" if (folder / "field.safetensors").is_file() else "reprompt")
    general = {"base": held.base, "field": held.corrector}
    learnt = {part: network for part, network in own.items() if network is not None}
    for part, network in learnt.items():
        if shared_digest(network) != shared_digest(general[part]):
            raise InputError(
                f"{run} learnt on another {part} than that of {model}; give its model."
            )
    copy_model(folder, out)
    stored = StoredExperts((), {}, {})
    if (folder / EXPERTS).is_file():
        stored = read_experts(folder / EXPERTS)
    shared = {part: shared_digest(network) for part, network in learnt.items()}
    values = {part: _own_values(network) for part, network in learnt.items()}
    told = json.loads((run / KIND).read_text(encoding="utf-8"))
    entries = told if isinstance(told, list) else [told]  # one alone: of a run begun before
    kinds = [as_kind(kind) for kind in entries]
    stored = replace(stored, shared={**stored.shared, **shared}).having(kinds, values)
    save_experts(out / EXPERTS, stored, card)
    return [out / EXPERTS]


def _own_values(network: nn.Module) -> dict[str, Tensor]:
    values = network.state_dict()
    return {name: values[name] for name in owned(network)}


def _save_segvol(
    out: Path,
    recipe: Recipe,
    weights: Mapping[str, Mapping[str, Tensor]],
    card: Callable[[str], str],
) -> list[Path]:
    """Write SegVol in 32 bits, for `--base segvol`, and its corrector."""
    model = segvol_networks(recipe, None)
    model.segvol.load_state_dict(weights["segvol"])
    model.corrector.load_state_dict(weights["corrector"])
    make_folder(out)
    written = [out / "segvol.safetensors", out / "paper.safetensors"]
    save_segvol(written[0], model.segvol, card("SegVol"))
    save_network(written[1], model.corrector, recipe.paper.to_dict(), card("paper corrector"))
    return written


def save_rounds(
    out: Path, model: Rounds, card: Callable[[str], str], *, base: bool = True
) -> list[Path]:
    """Write the networks of a run, or of one under way, as weight files.

    Args:
        out: the model folder, made if absent.
        model: base, and corrector if it has one.
        card: what a network is -> its model card.
        base: write the base too.

    Returns:
        The files written.
    """
    make_folder(out)
    written = []
    if base:
        written.append(out / "base.safetensors")
        told = card("compact base segmenter")
        save_network(written[-1], model.base, model.base.config.to_dict(), told)
    if isinstance(model.corrector, FieldCorrector | PaperCorrector):
        name = "field" if isinstance(model.corrector, FieldCorrector) else "paper"
        written.append(out / f"{name}.safetensors")
        told = card(f"{name} corrector")
        save_network(written[-1], model.corrector, model.corrector.config.to_dict(), told)
    return written


def copy_model(start: str | Path, out: Path) -> list[Path]:
    """Make a model folder the same as another.

    Args:
        start: model folder, or "default".
        out: the folder, made if absent; networks that `start` lacks go, other files stay.

    Returns:
        The files written.

    Raises:
        InputError: there is no such model.
    """
    folder, written = model_folder(start), []
    make_folder(out)
    for name in (f"{part}.safetensors" for part in PARTS):
        if not (folder / name).is_file():
            (out / name).unlink(missing_ok=True)
            continue
        written.append(out / name)
        with whole_file(out / name) as fresh:
            shutil.copyfile(folder / name, fresh)
    return written


def read_figures(path: Path) -> Mapping[str, Any]:
    """The means over data sets in a `summary.json`.

    Raises:
        InputError: it is no such file.
    """
    try:
        means = json.loads(path.read_text(encoding="utf-8"))["mean"]
        return {scope: row for scope, row in means.items() if row["datasets"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no summary.json of an evaluation ({error!r}).") from None


def model_card(
    part: str,
    recipe: Recipe,
    data: Mapping[str, Mapping[str, Any]],
    figures: Mapping[str, Mapping[str, Any]],
    commit: str,
    licence: str,
) -> str:
    """The card of one network, Markdown.

    Args:
        part: what the network is.
        recipe: how it was trained.
        data: data set -> cases, licence, citation (`training.run.facts`).
        figures: scope -> means over data sets (`evaluation.summary`); may be empty.
        commit: the commit that trained it.
        licence: of the weights.
    """
    examples, drawn = recipe.loop.examples, recipe.stage != "segvol"
    synthetic = examples.synthetic_share if drawn else 0.0
    unnamed = examples.unnamed_share if drawn else 0.0
    length = f"{recipe.epochs} epochs" if recipe.epochs else f"{recipe.loop.steps} steps"
    lines = [
        f"# segvol-gru: {part}",
        "",
        "Research software, not a medical device.",
        f"Licence of the weights: {licence}.",
        f"{TRAINED}{recipe.stage}, {length} of {recipe.loop.batch} regions, commit {commit}.",
        "",
        "## Data",
        "",
        f"Synthetic volumes: {100 * synthetic:.0f} % of the examples.",
        *([f"Structures without a label: {100 * unnamed:.0f} %."] if unnamed else []),
        *_data_lines(data),
        "",
        "## Figures",
        "",
        *(_figure_lines(figures) or ["None were measured when this file was written."]),
        "",
        "## Recipe",
        "",
        "```json",
        json.dumps(asdict(recipe)),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _data_lines(data: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not data:
        return ["Real volumes: none."]
    rows = [
        f"| {name} | {said['cases']} | {said['licence']} | {said['citation']} |"
        for name, said in data.items()
    ]
    return ["", "| data set | cases | licence | source |", "|---|---|---|---|", *rows]


def _figure_lines(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for scope, row in figures.items():
        dsc = ", ".join("-" if v is None else f"{v:.3f}" for v in row["dsc"])
        harm = row["harmful_share"]
        lines.append(
            f"{scope}: mean over {row['datasets']} data sets ({row['n']} tasks) of the DSC after "
            f"the box and clicks 1-5: {dsc}; harmful clicks {100 * (harm or 0):.1f} %."
        )
    return lines
