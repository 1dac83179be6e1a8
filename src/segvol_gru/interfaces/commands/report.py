"""`report`: every model and baseline on one data folder, then one page about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segvol_gru.data.files import make_folder
from segvol_gru.errors import InputError
from segvol_gru.interfaces import console
from segvol_gru.interfaces.commands.evaluate import Data, SegVolFile
from segvol_gru.interfaces.options import DeviceName, ModelName

if TYPE_CHECKING:
    from segvol_gru.evaluation.runs import Run
    from segvol_gru.evaluation.tables import Table
    from segvol_gru.evaluation.tasks import Options
    from segvol_gru.evaluation.trial import SegmenterFactory
    from segvol_gru.interfaces.factories import Named

    Factories = dict[str, Callable[[], Named]]

VARIED = "field"  # the run whose prompts are varied


def report(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the report; a run goes on here.")],
    model: ModelName = "default",
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only this run, such as field or brush; repeat it. All if left out."),
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Option(help="One more model: NAME=words with {inputs} and {outputs}; repeat it."),
    ] = None,
    segvol: SegVolFile = None,
    start: Annotated[str, typer.Option(help="First prompt, as for evaluate.")] = "tight",
    split: Annotated[str, typer.Option(help="Split of the manifest.")] = "val",
    dataset: Annotated[
        list[str] | None, typer.Option(help="Only this data set; repeat it.")
    ] = None,
    most: Annotated[
        int, typer.Option(help="At most so many tasks of each data set for the baselines.", min=1)
    ] = 12,
    most_ours: Annotated[
        int | None, typer.Option(help="The same for our own networks; all if left out.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of boxes.")] = 2025,
    variants: Annotated[
        bool, typer.Option("--variants", help="Run field under other prompts, too.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    device: DeviceName = "auto",
) -> None:
    """Run every model and baseline, then write tables, curves and a gallery on one page."""
    from segvol_gru.evaluation.models import OURS
    from segvol_gru.evaluation.tasks import Options

    _refuse_ranks()
    factories = _chosen(_factories(model, segvol, command or [], device), only or [])
    options = Options(
        start=start,  # type: ignore[arg-type]  # Options checks the word
        split=split,
        datasets=tuple(dataset or ()),
        most=most_ours,
        seed=seed,
        workers=workers,
    )
    if variants:
        _require_ideal(start, factories)
    make_folder(out)
    runs = []
    for name, make in factories.items():
        given = options if name in OURS else replace(options, most=most)
        runs.append(_run(name, make, data, out, given))
    if not any(run.tasks for run in runs):
        raise InputError("nothing was measured: " + " ".join(r.reason for r in runs if r.reason))
    ideal = [run for run in runs if variants and run.name == VARIED and run.tasks]
    varied = [run for _ in ideal for run in _vary(factories[VARIED], data, out, options)]
    more = [_variants(run, varied, out) for run in ideal]
    runs.sort(key=lambda run: not run.tasks)  # what the page is about comes first
    page = _write(data, out, options, runs, factories[runs[0].name]()[0], more, varied)
    console.out.print(f"wrote {page}", markup=False, highlight=False, soft_wrap=True)


def _refuse_ranks() -> None:
    """Demand one process: of several, each would write a page of what it has seen.

    Raises:
        InputError: there are several.
    """
    from segvol_gru.evaluation.workers import rank_and_world

    if rank_and_world()[1] > 1:
        raise InputError(
            "report is one process: let the ranks run `evaluate --out OUT/runs/NAME` for every "
            "model, then call report on OUT alone."
        )


def _require_ideal(start: str, factories: Factories) -> None:
    """Refuse variants of what is not run.

    Raises:
        InputError: the run that they are compared with is missing or has other prompts.
    """
    if start != "tight" or VARIED not in factories:
        raise InputError(
            f"--variants compares with tight boxes of the run {VARIED}; leave --start out and "
            f"have {VARIED} among the runs."
        )


def _vary(make: Callable[[], Named], data: Path, out: Path, options: Options) -> list[Run]:
    """Run the variants, as far as they are not there yet."""
    from segvol_gru.evaluation.comparisons import VARIANTS, varied

    return [_run(f"{VARIED}-{name}", make, data, out, varied(options, name)) for name in VARIANTS]


def _variants(ideal: Run, runs: Sequence[Run], out: Path) -> Table:
    """Compare the variants with the run they are of; write `variants.json`."""
    from segvol_gru.evaluation.comparisons import variants_table
    from segvol_gru.evaluation.records import write_json

    table = variants_table(ideal, runs)
    rows = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    failed = {run.name: len(run.errors) for run in runs if run.errors}
    write_json(out / "variants.json", {"note": table.note, "rows": rows, "failed": failed})
    return table


def _write(
    data: Path,
    out: Path,
    options: Options,
    runs: Sequence[Run],
    factory: SegmenterFactory,
    more: Sequence[Table],
    varied: Sequence[Run],
) -> Path:
    """Write the page; the factory makes the first run's model again, for the gallery."""
    from segvol_gru.evaluation.report import write_report
    from segvol_gru.evaluation.traits import read_traits
    from segvol_gru.interfaces.gallery import Gallery

    (out / "gallery").mkdir(exist_ok=True)
    gallery = Gallery(data, options, factory, out / "gallery")
    wanted = {key for run in runs for key in run.tasks}
    traits = read_traits(data, options.split, wanted, out / "traits.json")
    title, facts = "Interactive segmentation report", _facts(data, options, runs, varied)
    return write_report(out, title, facts, runs, traits, gallery, more, varied)


def _factories(model: str, weights: Path | None, commands: Sequence[str], device: str) -> Factories:
    """How to make what can be run, by name; making may be refused."""
    from functools import partial

    from segvol_gru.evaluation.baselines import BASELINES
    from segvol_gru.evaluation.folder import PREFIX
    from segvol_gru.evaluation.models import ABLATIONS, OURS
    from segvol_gru.interfaces.factories import ours, segvol

    found: Factories = {}
    for name in OURS:
        corrector = "field" if name in ABLATIONS else name
        forget, shuffle = name == "forget", name == "shuffle"
        found[name] = partial(ours, model, corrector, device, forget=forget, shuffle=shuffle)
    if weights is not None:
        for corrector in ("none", "reprompt", "field"):
            found[f"segvol-{corrector}"] = partial(segvol, weights, model, corrector, device)
    for name in BASELINES:
        found[name] = partial(_foreign, name, name)
    for text in commands:
        name, _, words = text.partition("=")
        if not name or name in found or not words:
            raise InputError(f"command is {text!r}, wanted a new NAME=words.")
        found[name] = partial(_foreign, f"{PREFIX}{words}", words)
    return found


def _foreign(model: str, name: str) -> Named:
    from segvol_gru.evaluation.models import foreign_model

    factory = foreign_model(model)
    assert factory is not None
    return factory, name


def _chosen(factories: Factories, only: Sequence[str]) -> Factories:
    unknown = sorted(set(only) - set(factories))
    if unknown:
        raise InputError(f"only names {', '.join(unknown)}, wanted some of {', '.join(factories)}.")
    return {name: make for name, make in factories.items() if not only or name in only}


def _run(name: str, make: Callable[[], Named], data: Path, out: Path, options: Options) -> Run:
    """Run one model, or say why not; a refusal stops no other model."""
    from segvol_gru.evaluation.protocol import evaluate
    from segvol_gru.evaluation.runs import Run
    from segvol_gru.evaluation.tasks import plan, thinned

    folder = out / "runs" / name
    try:
        factory, identity = make()
    except InputError as error:
        console.refuse(f"{name}: {error}")
        return Run(name, {}, reason=str(error))
    with console.progress() as bar:
        task = bar.add_task(name)
        evaluate(
            data,
            factory,
            folder,
            options,
            model=identity,
            watch=lambda done, total: bar.update(task, completed=done, total=total),
        )
    return Run.read(name, folder).among(thinned(plan(data, options), options.most))


def _facts(data: Path, options: Options, runs: Sequence[Run], varied: Sequence[Run]) -> list[str]:
    """What the page says first."""
    from importlib import metadata

    from segvol_gru.evaluation.runs import shared_tasks

    tasks = max(len(run.tasks) for run in runs)
    failed = sum(len(run.errors) for run in (*runs, *varied))
    first = f"first prompt: {options.start}; then five clicks by the competition's rule."
    return [
        f"Data: {data.resolve().name}, split {options.split}, {tasks} tasks, {first}",
        f"{len(shared_tasks(runs))} tasks were done by every model. "
        f"{failed} tasks or cases failed; they are named below.",
        f"segvol-gru {metadata.version('segvol-gru')}. Research software, not a medical device.",
    ]
