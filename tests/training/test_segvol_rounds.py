"""The paper's recipe for SegVol: Table 2 to the letter, two stages, rounds on own errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_cases, make_config, make_rounds, write_folder
from torch.utils.data import default_collate

from segvol_gru.base.large import LargeBase
from segvol_gru.base.segvol import SMALL, SegVolConfig, random_segvol
from segvol_gru.base.weights import load_segvol, save_segvol
from segvol_gru.correct.paper import PaperConfig, PaperCorrector
from segvol_gru.errors import InputError
from segvol_gru.pretrained import load_model, read_card, save_network
from segvol_gru.training.config import learning_rate
from segvol_gru.training.export import export
from segvol_gru.training.program import RoundsResult, Turn
from segvol_gru.training.recipe import Recipe, read_recipe
from segvol_gru.training.run import train
from segvol_gru.training.segvol_rounds import SegVolRounds, StagesConfig, first_prompts
from segvol_gru.training.segvol_views import View, ViewConfig, Views
from segvol_gru.training.state import read_checkpoint

STEPS = 100


def small_recipe(**more: object) -> Recipe:
    """The shipped recipe with the sizes of the golden vectors."""
    recipe = read_recipe("segvol")
    loop = replace(recipe.loop, steps=2, batch=2)
    sizes: dict[str, object] = {"segvol": SMALL, "paper": PaperConfig(points=8, width=8)}
    fields = {"loop": loop, "epochs": 0, "precision": "32-true", **sizes, **more}
    return replace(recipe, **fields)  # type: ignore[arg-type]


def small_program(**stages: object) -> SegVolRounds:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        corrector = PaperCorrector(PaperConfig(points=8, width=8))
    segvol = random_segvol(SMALL, torch.Generator().manual_seed(1)).train()
    return SegVolRounds(segvol, corrector, StagesConfig(**stages))  # type: ignore[arg-type]


def batch(count: int = 2) -> View:
    data = Views(make_cases(), ViewConfig(), SMALL.image, 3)
    found: View = default_collate([data[i] for i in range(count)])
    return found


def play(model: SegVolRounds, step: int) -> RoundsResult:
    result: RoundsResult = model(batch(), Turn(step, STEPS, np.random.default_rng([1, step])))
    return result


def test_the_recipe_is_table_2_of_the_paper() -> None:
    recipe = read_recipe("segvol")
    loop = recipe.loop
    assert recipe.segvol == SegVolConfig()  # SegVol, patch 32 x 256 x 256
    assert (loop.batch, loop.accumulate, recipe.epochs) == (4, 1, 25)
    assert [learning_rate(s, loop) for s in (0, 1, 2000, loop.steps - 1)] == [1e-5] * 4
    assert (loop.ema, loop.weight_decay) == (0.0, 1e-5)
    views, stages = recipe.views, recipe.stages
    assert views.flip == views.scale == views.shift == views.intensity_share == 0.2
    assert views.patch / views.whole == views.positive / views.negative == 3
    assert stages.weights == (1, 3, 10, 10, 3, 1)
    assert stages.box_share * recipe.epochs == 2
    assert recipe.paper.points == 200
    assert recipe.stage == "segvol"


def test_epochs_make_steps() -> None:
    """25 passes over 10 cases by 2 processes with 4 views a step each: 25 x 2 steps."""
    recipe = read_recipe("segvol")
    assert recipe.loop_for(10, world=2).steps == 50
    assert recipe.loop_for(10, world=1).steps == 75
    assert read_recipe("base").loop_for(10, world=1) == read_recipe("base").loop


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each call of SegVol's decoder was given clicks."""
    calls: list[bool] = []
    decode = type(random_segvol(SMALL, torch.Generator())).decode

    def watched(self: object, embedding: object, points: object = None, *more, **named):  # type: ignore[no-untyped-def]
        calls.append(points is not None)
        return decode(self, embedding, points, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("segvol_gru.base.segvol.SegVol.decode", watched)
    return calls


def test_stage_1_knows_boxes_and_stage_2_points_too(decoded: list[bool]) -> None:
    """The step's number decides, on every rank alike: 8 of 100 steps are stage 1."""
    model = small_program(weights=(0, 0, 1))
    for step, wanted in ((0, [False]), (7, [False]), (8, [False, True]), (99, [False, True])):
        decoded.clear()
        play(model, step)
        assert decoded == wanted


def test_without_a_click_there_is_no_point_loss(decoded: list[bool]) -> None:
    result = play(small_program(weights=(1,)), 50)
    assert decoded == [False]
    assert len(result.losses) == 1
    assert float(result.loss.detach()) == pytest.approx(result.losses[0])


def test_stage_1_is_dice_and_cross_entropy_of_every_mask() -> None:
    result = play(small_program(weights=(0, 0, 1)), 0)
    assert len(result.losses) == 3
    wanted = result.losses[0] + sum(result.losses[1:]) / 2
    assert float(result.loss.detach()) == pytest.approx(wanted, rel=1e-5)


def test_every_term_of_stage_2_counts() -> None:
    losses = []
    for terms in (
        {"point": 0.0, "hausdorff": 0.0, "consistency": 0.0},
        {"point": 0.0, "hausdorff": 0.0},
        {"point": 0.0},
        {},
    ):
        model = small_program(weights=(0, 0, 1), **terms)
        with torch.no_grad():  # new probabilities far from the old: what was right moves too
            model.corrector.slots.bias += torch.linspace(-3, 3, len(model.corrector.slots.bias))
        losses.append(float(play(model, 50).loss.detach()))
    assert losses == sorted(losses)
    assert len(set(losses)) == 4


def test_gradients_reach_encoder_decoder_prompts_and_memory() -> None:
    model = small_program(weights=(0, 0, 1))
    play(model, 50).loss.backward()
    for name in (
        "segvol.image_encoder.patch_embedding.position_embeddings",
        "segvol.mask_decoder.mask_tokens.weight",
        "segvol.prompt_encoder.point_embeddings.2.weight",
        "corrector.gru.weight_hh_l0",
        "corrector.slots.weight",
    ):
        gradient = model.get_parameter(name).grad
        assert gradient is not None, name
        assert float(gradient.abs().sum()) > 0, name


def test_clicks_train_their_embeddings_in_stage_2_only() -> None:
    names = [f"segvol.prompt_encoder.point_embeddings.{i}.weight" for i in (0, 1)]
    for step, reached in ((0, False), (50, True)):
        model = small_program(weights=(0, 0, 0, 1))
        play(model, step).loss.backward()
        gradients = [model.get_parameter(name).grad for name in names]
        assert any(g is not None and bool(g.any()) for g in gradients) == reached


def test_empty_boxes_are_no_boxes_for_the_corrector() -> None:
    boxes = torch.tensor([[1.0, 2, 3, 4, 5, 6], [-1.0] * 6])
    prompts = first_prompts(boxes)
    assert prompts.box[0].tolist() == [0.5, 1.5, 2.5, 4.5, 5.5, 6.5]
    assert bool(prompts.box[1].isnan().all())
    assert prompts.tight.tolist() == pytest.approx([1 / 3, 0])


def test_train_then_export_then_load(tmp_path: Path) -> None:
    """From imported weights through two steps to files that `--base segvol` reads."""
    rows = [("a", "cubes", "train"), ("b", "cubes", "train")]
    data, start = write_folder(tmp_path / "data", rows), tmp_path / "start.safetensors"
    save_segvol(start, random_segvol(SMALL, torch.Generator().manual_seed(3)), "test")
    outcome = train(small_recipe(), data, tmp_path / "run", start, accelerator="cpu", workers=0)
    assert (outcome.reason, outcome.steps) == ("done", 2)
    written = export(tmp_path / "run", tmp_path / "model", commit="abc")
    assert [path.name for path in written] == ["segvol.safetensors", "paper.safetensors"]
    found, begun = load_segvol(written[0]), load_segvol(start)
    moved = [
        not torch.equal(a, b) for a, b in zip(found.parameters(), begun.parameters(), strict=True)
    ]
    assert any(moved)
    assert "Synthetic volumes: 0 %" in read_card(written[1])
    model = load_model(tmp_path / "model", "paper", base="segvol", weights=written[0])
    assert isinstance(model.base, LargeBase)
    assert isinstance(model.corrector, PaperCorrector)
    assert model.corrector.config == small_recipe().paper


def test_a_folder_keeps_the_corrector_of_its_base(tmp_path: Path) -> None:
    """SegVol's and the compact base's correctors of the paper go by the same name."""
    data, paper = write_folder(tmp_path / "data", [("a", "cubes", "train")]), tmp_path / "paper"
    compact = Recipe(
        stage="base", precision="32-true", base=make_rounds().base.config, loop=make_config(steps=1)
    )
    large = small_recipe(loop=replace(small_recipe().loop, steps=1, batch=1))
    for name, recipe in (("compact", compact), ("large", large)):
        train(recipe, data, tmp_path / name, accelerator="cpu", workers=0)
    paper.mkdir()
    corrector = small_program().corrector
    save_network(paper / "paper.safetensors", corrector, corrector.config.to_dict(), "# mine\n")
    segvol = tmp_path / "model"
    for _ in range(2):  # its own it replaces
        export(tmp_path / "large", segvol)
    for run, folder, told in (("large", paper, "the compact base"), ("compact", segvol, "SegVol")):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(InputError, match=rf"paper\.safetensors corrects {told};.* --out"):
            export(tmp_path / run, folder)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_recomputed_activations_change_nothing(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", [("a", "cubes", "train")])
    for name, again in (("kept", False), ("again", True)):
        recipe = small_recipe()
        recipe = replace(recipe, loop=replace(recipe.loop, recompute=again))
        train(recipe, data, tmp_path / name, accelerator="cpu", workers=0)
    a, b = (read_checkpoint(tmp_path / name / "last.ckpt")["model"] for name in ("kept", "again"))
    for key in a:
        assert torch.equal(a[key], b[key])


def test_weights_of_other_sizes_are_refused(tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_segvol(start, random_segvol(SMALL, torch.Generator()), "test")
    data = write_folder(tmp_path / "data", [("a", "cubes", "train")])
    recipe = small_recipe(segvol=replace(SMALL, encoder_layers=1))
    with pytest.raises(InputError, match="other sizes"):
        train(recipe, data, tmp_path / "run", start, accelerator="cpu", workers=0)


def available_gb() -> float:
    """Memory that can be had without swapping; 0 where the system does not say."""
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return sum(int(line.split()[1]) / 1e6 for line in lines if line.startswith("MemAvailable"))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_real_steps_at_full_size(tmp_path: Path) -> None:
    """The shipped recipe, unchanged but for its length: 118 M parameters, batch 4, bfloat16."""
    if available_gb() < 12:
        pytest.skip(f"two steps need about 12 GB of free memory, there are {available_gb():.0f}")
    rows = [("a", "cubes", "train"), ("b", "cubes", "train")]
    data = write_folder(tmp_path / "data", rows)
    recipe = read_recipe("segvol")
    loop = replace(recipe.loop, steps=2)
    stages = replace(recipe.stages, box_share=0.5)  # one step of each stage
    recipe = replace(recipe, epochs=0, loop=loop, stages=stages)
    outcome = train(recipe, data, tmp_path / "run", accelerator="cpu", workers=0)
    assert (outcome.reason, outcome.steps) == ("done", 2)
    lines = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert len(lines) == 3
    assert "nan" not in lines[1] + lines[2]
