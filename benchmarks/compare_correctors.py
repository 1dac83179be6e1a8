"""Which corrector learns most from the same base, examples, rounds and steps; three seeds.

    python benchmarks/compare_correctors.py DATA --out out/compare [--from default] [--steps 300]

`field` is the field corrector, `forgetful` the same trained and measured with its memory emptied
at every click, `reprompt` the base asked again with all clicks and its own mask and trained for
that, `asked` the same without a step of training, `paper` the paper's corrector. All begin with the
base of `--from`; the field corrector with the base's weights, the paper's with weights of the
seed. Measured by the click protocol on val.

A run goes on where it ended, so seeds and kinds can be dealt out to processes (`--seed 1 --kind
field`), and a last call with all seeds and every kind writes the table, `compare.md` in OUT.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segvol_gru.base.compact import CompactBase, CompactConfig
from segvol_gru.evaluation.protocol import evaluate
from segvol_gru.evaluation.runs import (
    SCOPES,
    Difference,
    Run,
    in_scope,
    mean_gap,
    paired_gaps,
    set_means,
)
from segvol_gru.evaluation.summary import MIN_TASKS
from segvol_gru.evaluation.tasks import Options
from segvol_gru.interfaces.factories import ours
from segvol_gru.pretrained import load_model, save_network
from segvol_gru.training.export import export
from segvol_gru.training.recipe import Recipe, as_recipe
from segvol_gru.training.run import train

KINDS = ("field", "forgetful", "reprompt", "asked", "paper")
CORRECTORS = {"reprompt": "reprompt", "asked": "reprompt", "paper": "paper"}
SHOWN = ("dsc_box", "dsc_1", "dsc_3", "dsc_5")


def recipe(kind: str, base: CompactConfig, steps: int, seed: int) -> Recipe:
    """The same examples and rounds for all; only what learns differs."""
    reprompt, paper = kind == "reprompt", kind == "paper"
    rounds = {
        "reprompt_share": 1.0,
        "base_share": float(reprompt),
        "forget": kind == "forgetful",
        "random_click_share": 0.33,
        "harm": 1.5,
    }
    examples = {"synthetic_share": 0.36, "starts": [0.58, 0.1, 0.1, 0.22]}
    loop = {"steps": steps, "lr": 1e-3 if paper else 6e-4, "decay_from": 0.5, "seed": seed}
    return as_recipe(
        {
            "stage": "base" if reprompt else "corrector",
            "corrector": "paper" if paper else "field",
            "base": base.to_dict(),
            "field": {"ranks": base.ranks},
            "loop": {**loop, "warmup": 50, "ema": 0.98, "examples": examples, "rounds": rounds},
        },
        kind,
    )


def learn(
    kind: str, base: CompactConfig, seed: int, data: Path, out: Path, steps: int, most: int
) -> None:
    """Train and measure one of them, or go on with that."""
    folder, model = folder_of(out, kind, seed), out / "base"
    if kind != "asked":
        model = folder / "model"
        train(recipe(kind, base, steps, seed), data, folder, out / "base")
        export(folder, model)
    corrector, forget = CORRECTORS.get(kind, "field"), kind == "forgetful"
    factory, name = ours(str(model), corrector, "cpu", forget=forget)
    evaluate(data, factory, folder / "val", Options(start="tight", most=most), model=name)


def folder_of(out: Path, kind: str, seed: int) -> Path:
    """Where one of them is; who learns nothing is the same for every seed."""
    return out / (kind if kind == "asked" else f"{kind}-{seed}")


def paired(ones: Sequence[Run], others: Sequence[Run], column: str) -> str:
    """Difference, the mean over seeds with its interval over subjects; then seed by seed."""
    seeds = [paired_gaps(one, other, column) for one, other in zip(ones, others, strict=True)]
    mean = {
        dataset: {
            subject: np.mean([g[dataset][subject] for g in seeds], 0).tolist() for subject in s
        }
        for dataset, s in seeds[0].items()
    }
    each = ", ".join(said(mean_gap(gaps), interval=False) for gaps in seeds)
    return f"{said(mean_gap(mean))} | {each}"


def said(found: Difference | None, *, interval: bool = True) -> str:
    """A difference in a cell of a table."""
    if found is None:
        return "-"
    return f"{found.mean:+.3f}" + interval * f" ({found.low:+.3f} to {found.high:+.3f})"


def table(out: Path, seeds: Sequence[int]) -> str:
    """What came of it, Markdown."""
    runs = {k: [Run.read(k, folder_of(out, k, s) / "val") for s in seeds] for k in KINDS}
    lines = ["| learns | sets | box | 1 | 3 | 5 | harmful |", "|---|---|---|---|---|---|---|"]
    for kind, trained in runs.items():
        for scope in SCOPES[:2]:
            rows = [set_means(in_scope(r, scope).tasks.values(), MIN_TASKS) for r in trained]
            cells = [f"{np.mean([row[c] for row in rows]):.3f}" for c in SHOWN]
            harm = 100 * np.mean([row["harmful_share"] for row in rows])
            lines.append(f"| {kind} | {scope} | {' | '.join(cells)} | {harm:.1f} % |")
    lines += ["", "| field minus | sets | after | all seeds | each |", "|---|---|---|---|---|"]
    for kind in KINDS[1:]:
        for scope in SCOPES:
            ones, others = ([in_scope(r, scope) for r in runs[k]] for k in ("field", kind))
            for column in ("dsc_3", "dsc_5"):
                found = paired(ones, others, column)
                lines.append(f"| {kind} | {scope} | click {column[-1]} | {found} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    formatter = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--from", dest="start", default="default", help="or a model folder")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, action="append", help="repeat it; default 1, 2, 3")
    parser.add_argument("--kind", choices=KINDS, action="append", help="no table; repeat it")
    parser.add_argument("--most", type=int, default=6, help="tasks of each data set")
    asked = parser.parse_args()
    (asked.out / "base").mkdir(parents=True, exist_ok=True)
    base = load_model(asked.start, "reprompt").base
    assert isinstance(base, CompactBase)
    save_network(asked.out / "base" / "base.safetensors", base, base.config.to_dict(), "")
    for seed in asked.seed or (1, 2, 3):
        for kind in asked.kind or KINDS:
            learn(kind, base.config, seed, asked.data, asked.out, asked.steps, asked.most)
    if asked.kind:
        return
    found = table(asked.out, asked.seed or (1, 2, 3))
    (asked.out / "compare.md").write_text(found, encoding="utf-8")
    print(found)


if __name__ == "__main__":
    main()
