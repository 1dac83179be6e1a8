"""SegVol as the base of a session: asked again at every click, from what it has read already."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_model
from torch import Tensor, nn

from segvol_gru.base.ask import Crop
from segvol_gru.base.large import LargeBase, LargeConfig
from segvol_gru.base.segvol import SMALL, SegVol, random_segvol
from segvol_gru.base.text import save_vectors
from segvol_gru.base.views import Views
from segvol_gru.base.weights import save_segvol
from segvol_gru.base.zoom import Cancelled, ReferenceZoom, Watch
from segvol_gru.correct.field import FieldCorrector
from segvol_gru.correct.paper import PaperConfig, PaperCorrector
from segvol_gru.data.preprocess import foreground_crop
from segvol_gru.errors import InputError
from segvol_gru.pipeline import Model
from segvol_gru.pretrained import load_model, save_network
from segvol_gru.prompts import Box, Click
from segvol_gru.session.session import Session
from segvol_gru.state import ANSWER
from segvol_gru.volume import Volume

LO, HI = (4, 18, 25), (15, 50, 70)
BOX = Box(LO, HI)
ADD, REMOVE = Click((9, 30, 40), True), Click((6, 24, 60), False)


def segvol(seed: int) -> SegVol:
    """Random weights, large enough that prompts make a difference."""
    network = random_segvol(SMALL, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "norm" not in name and value.ndim > 1:
                value.mul_(5)
    return network


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, SegVol's weights and text vectors."""
    folder, model = tmp_path_factory.mktemp("large"), tiny_model()
    paper = PaperCorrector(PaperConfig(points=8, width=8))
    for name, network in (("base", model.base), ("field", model.corrector), ("paper", paper)):
        save_network(folder / f"{name}.safetensors", network, network.config.to_dict(), "tiny")
    save_segvol(folder / "one.weights", segvol(3), "random")
    save_segvol(folder / "two.weights", segvol(4), "random")
    rows = torch.randn(2, 1, SMALL.width, generator=torch.Generator().manual_seed(5))
    save_vectors(folder / "words.safetensors", {"liver": rows[0] * 3, "spleen": rows[1] * 3})
    return folder


@pytest.fixture(scope="module")
def volume() -> Volume:
    """Some air around noise that is brighter on one side, (22, 74, 104) voxels."""
    values = np.random.default_rng(0).integers(20, 255, (22, 74, 104)).astype(np.uint8)
    values[:, :, :52] //= 2
    values[:2], values[:, :3], values[:, :, -4:] = 0, 0, 0
    return Volume(values, spacing=(2.0, 1.0, 1.0))


def model_of(files: Path, corrector: str = "field", text: str | None = None, **more: bool) -> Model:
    asked = None if text is None else (text, files / "words.safetensors")
    return load_model(
        files, corrector, base="segvol", weights=files / "one.weights", text=asked, **more
    )


@pytest.fixture(scope="module")
def model(files: Path) -> Model:
    return model_of(files)


def crop_of(volume: Volume) -> Crop:
    cut = foreground_crop(volume.array.astype(np.float32))
    return Crop(torch.from_numpy(cut.image), cut.start)


def network_of(model: Model) -> SegVol:
    assert isinstance(model.base, LargeBase)
    return model.base.network


def pasted(volume: Volume, found: tuple[tuple[slice, ...], Tensor]) -> np.ndarray:
    mask = np.zeros(volume.shape, bool)
    mask[found[0]] = found[1].numpy() > 0
    return mask


class Count:
    """Counts how often a module is called."""

    def __init__(self, module: nn.Module) -> None:
        self.calls = 0
        self._hook = module.register_forward_hook(self._add)

    def _add(self, *_: object) -> None:
        self.calls += 1

    def taken(self) -> int:
        taken, self.calls = self.calls, 0
        return taken


def test_a_box_gives_segvols_own_mask(volume: Volume, model: Model) -> None:
    with Session(volume, model) as session:
        mask = session.box(LO, HI)
        field = Views(network_of(model), crop_of(volume), batch=1).segment(BOX)
        assert np.array_equal(mask, pasted(volume, (field.region.slices(), field.logits)))
        assert 0 < mask.sum() < mask.size / 2
        assert session._current.result is not None
        assert session._current.result.layers[0].logits.kind == "float16"


def test_a_click_decodes_and_does_not_encode(volume: Volume, model: Model) -> None:
    encoded, decoded = (
        Count(part) for part in (network_of(model).image_encoder, network_of(model).mask_decoder)
    )
    with Session(volume, model) as session:
        session.box(LO, HI)
        assert encoded.taken() > 1
        assert decoded.taken() > 1
        assert session.click(ADD.at)[ADD.at]
        assert encoded.taken() == 0
        assert decoded.taken() > 0
        assert not session.click(REMOVE.at, positive=False)[REMOVE.at]
        session.add_object("second")
        session.box((5, 20, 30), (14, 45, 60))
        assert encoded.taken() == 0
        assert decoded.taken() > 0


@pytest.mark.parametrize("corrector", ["field", "paper", "reprompt"])
def test_clicks_reach_segvol_and_the_corrector(volume: Volume, files: Path, corrector: str) -> None:
    model = model_of(files, corrector)
    with Session(volume, model) as session:
        session.box(LO, HI)
        session.click(ADD.at)
        mask = session.click(REMOVE.at, positive=False)
        assert mask[ADD.at]
        assert not mask[REMOVE.at]
        state = session._step_at(session._current.result).state
    field = Views(network_of(model), crop_of(volume), batch=1).segment(BOX, [ADD, REMOVE])
    bottom, *corrections = state.layers
    assert torch.equal(
        bottom.render(bottom.region.overlap(field.region)),
        field.render(bottom.region.overlap(field.region)).half().float(),
    )
    assert not np.array_equal(mask, pasted(volume, (field.region.slices(), field.logits)))
    assert len(corrections) == 1


def test_points_alone_start(volume: Volume, model: Model) -> None:
    with Session(volume, model) as session:
        assert not session.click(REMOVE.at, positive=False).any()
        mask = session.click(ADD.at)
        assert mask[ADD.at]
        assert not mask[REMOVE.at]


def test_undo_and_redo_compute_nothing_and_restore_the_bits(volume: Volume, model: Model) -> None:
    with Session(volume, model) as session:
        masks = [session.box(LO, HI), session.click(ADD.at), session.click(REMOVE.at, False)]
        decoded = Count(network_of(model).mask_decoder)
        assert np.array_equal(session.undo(), masks[1])
        assert np.array_equal(session.undo(), masks[0])
        session.redo()
        assert np.array_equal(session.redo(), masks[2])
        assert decoded.taken() == 0
        session.undo()
        kept = session._current.events[2].result
        assert np.array_equal(session.click(REMOVE.at, False), masks[2])
        assert session._current.events[2].result == kept


def test_sessions_on_disk_go_on_to_the_same_bits(
    volume: Volume, model: Model, files: Path, tmp_path: Path
) -> None:
    with Session(volume, model, journal=tmp_path / "journal") as session:
        session.box(LO, HI)
        before = session.click(ADD.at)
        session.save(tmp_path / "saved.session")
        session._ledger.close()
        resumed = Session.resume(tmp_path / "journal", model_of(files))
    live = Session(volume, model)
    live.box(LO, HI)
    live.click(ADD.at)
    after = live.click(REMOVE.at, False)
    for again in (resumed, Session.load(tmp_path / "saved.session", model_of(files))):
        assert np.array_equal(again.mask, before)
        assert np.array_equal(again.click(REMOVE.at, False), after)
        assert again._current.result == live._current.result
        again.close()
    with pytest.raises(InputError, match="pass it as `model`"):
        Session.load(tmp_path / "saved.session")


def test_the_session_builds_the_same_model(volume: Volume, files: Path, model: Model) -> None:
    weights = files / "one.weights"
    with Session(volume, files, base="segvol", weights=weights) as session:
        assert session.model.digest == model.digest
        mask = session.box(LO, HI)
    with Session(volume, model) as session:
        assert np.array_equal(session.box(LO, HI), mask)


def test_the_digest_names_everything_that_answers_depend_on(files: Path, model: Model) -> None:
    other = load_model(files, base="segvol", weights=files / "two.weights")
    models = [
        model,
        other,
        load_model(files),
        model_of(files, "paper"),
        model_of(files, "reprompt"),
    ]
    models += [model_of(files, text="liver"), model_of(files, text="spleen")]
    models.append(model_of(files, compat=True))
    assert len({m.digest for m in models}) == len(models)
    assert model_of(files).digest == model.digest


def test_segvol_needs_no_compact_base(files: Path, model: Model, tmp_path: Path) -> None:
    """Cells are then those of the field corrector; the paper's has none of its own."""
    for name in ("field", "paper"):
        alone = tmp_path / name
        alone.mkdir()
        shutil.copy(files / f"{name}.safetensors", alone)
    field = load_model(tmp_path / "field", base="segvol", weights=files / "one.weights")
    paper = load_model(tmp_path / "paper", "paper", base="segvol", weights=files / "one.weights")
    assert field.cells == model.cells
    assert paper.cells == (LargeConfig.cells,) * 3
    assert paper.digest != model_of(files, "paper").digest  # which has fewer cells
    with pytest.raises(InputError, match=r"base\.safetensors is missing"):
        load_model(tmp_path / "paper", "paper")


def test_text_finds_and_goes_with_every_prompt(volume: Volume, files: Path) -> None:
    words = {name: model_of(files, text=name) for name in ("liver", "spleen")}
    masks = {}
    for name, model in words.items():
        with Session(volume, model) as session:
            found = session.find()
            field = Views(network_of(model), crop_of(volume), batch=1).segment(
                None, (), model.base.text
            )
            assert np.array_equal(found, pasted(volume, (field.region.slices(), field.logits)))
            assert session.click(ADD.at)[ADD.at]
            masks[name] = session.box(LO, HI)
    assert not np.array_equal(masks["liver"], masks["spleen"])


def test_text_needs_a_base_that_reads_it(volume: Volume, files: Path, model: Model) -> None:
    with Session(volume, files) as session, pytest.raises(InputError, match="reads no text"):
        session.find()
    with Session(volume, model) as session, pytest.raises(InputError, match="no box"):
        session.find()


def test_compat_is_the_reference(volume: Volume, files: Path) -> None:
    model = model_of(files, compat=True)
    with Session(volume, model) as session:
        mask = session.box(LO, HI)
    field = ReferenceZoom(network_of(model), crop_of(volume), torch.Generator()).segment(BOX)
    assert np.array_equal(mask, pasted(volume, (field.region.slices(), field.logits)))


def test_another_tools_mask_is_not_segvols_to_change(volume: Volume, model: Model) -> None:
    given = np.zeros(volume.shape, bool)
    given[5:12, 20:40, 30:60] = True
    decoded = Count(network_of(model).mask_decoder)
    with Session(volume, model) as session:
        assert np.array_equal(session.start(given), given)
        session.click((6, 24, 50), positive=False)
    assert decoded.taken() == 0


def test_the_answer_of_other_weights_is_not_asked_for_again(
    volume: Volume, model: Model, files: Path, tmp_path: Path
) -> None:
    with Session(volume, model) as session:
        mask = session.box(LO, HI)
        session.save(tmp_path / "one.session")
    other = load_model(files, base="segvol", weights=files / "two.weights")
    decoded = Count(network_of(other).mask_decoder)
    with Session.load(tmp_path / "one.session", other) as session:
        assert np.array_equal(session.mask, mask)
        session.click(ADD.at)
        session.click(REMOVE.at, positive=False)
        assert decoded.taken() == 0
        session.box(LO, HI)
        assert decoded.taken() > 0


def test_progress_is_told_and_a_stop_leaves_everything(volume: Volume, model: Model) -> None:
    told: list[tuple[int, int]] = []
    stopped = [False]
    watch = Watch(lambda done, total: told.append((done, total)), lambda: stopped[0])
    with Session(volume, model, watch=watch) as session:
        mask = session.box(LO, HI)
        assert told[-1][0] == told[-1][1] > 0
        stopped[0] = True
        with pytest.raises(Cancelled):
            session.click(ADD.at)
        assert np.array_equal(session.mask, mask)
        assert session.cursor == 1
        stopped[0] = False
        assert session.click(ADD.at)[ADD.at]


def test_a_prompt_in_the_background_is_refused(volume: Volume, model: Model) -> None:
    with Session(volume, model) as session:
        with pytest.raises(InputError, match="background only"):
            session.box((0, 0, 0), (1, 60, 60))
        with pytest.raises(InputError, match="foreground"):
            session.click((0, 0, 0))
        assert session.history == ()


def test_options_that_do_not_go_together(volume: Volume, model: Model, files: Path) -> None:
    weights = files / "one.weights"
    with pytest.raises(InputError, match="belong together"):
        load_model(files, base="segvol")
    with pytest.raises(InputError, match="belong together"):
        load_model(files, weights=weights)
    with pytest.raises(InputError, match="wanted one of"):
        load_model(files, base="huge")
    with pytest.raises(InputError, match="no text tower"):
        load_model(files, base="segvol", weights=weights, text=("liver", files / "merges.txt"))
    with pytest.raises(InputError, match="text and compat"):
        load_model(files, compat=True)
    with pytest.raises(InputError, match="brings its own base"):
        Session(volume, model, base="segvol", weights=weights)
    with pytest.raises(InputError, match="weights import"):
        load_model(files, base="segvol", weights=files / "words.safetensors")
    save_file({"a": torch.zeros(1)}, files / "other.safetensors")
    with pytest.raises(InputError, match="save_vectors"):
        load_model(files, base="segvol", weights=weights, text=("a", files / "other.safetensors"))


def test_a_corrector_may_listen_to_segvols_features(volume: Volume, model: Model) -> None:
    inner = model.corrector
    assert isinstance(inner, FieldCorrector)
    listening = FieldCorrector(replace(inner.config, features=SMALL.width // 8))
    listening.load_state_dict(inner.state_dict())
    masks = []
    for step in range(3):
        if step == 2:
            torch.nn.init.normal_(listening.project.weight, generator=torch.Generator())
        corrector = inner if step == 0 else listening.eval().requires_grad_(False)
        with Session(volume, replace(model, corrector=corrector)) as session:
            session.box(LO, HI)
            masks.append((session.click(ADD.at), session.probability))
    assert np.allclose(masks[0][1], masks[1][1], atol=1e-3)
    assert not np.allclose(masks[0][1], masks[2][1], atol=1e-2)
    given = np.zeros(volume.shape, bool)
    given[5:12, 20:40, 30:60] = True
    with Session(volume, replace(model, corrector=listening)) as session:
        session.start(given)  # SegVol has said nothing here
        assert session.click(ADD.at)[ADD.at]


def test_logits_beyond_16_bits_stay_finite(volume: Volume, model: Model) -> None:
    huge = segvol(3)
    with torch.no_grad():
        for head in huge.mask_decoder.output_hypernetworks_mlps:
            head.layers[2].weight.mul_(1e6)
    loud = Model(LargeBase(huge, LargeConfig(16)).eval(), model.corrector, "loud")
    with Session(volume, loud) as session:
        session.box(LO, HI)
        state = session._step_at(session._current.result).state
        assert state.layers[0].logits.dtype == ANSWER
        assert bool(state.layers[0].logits.isfinite().all())
        session.click(ADD.at)
        assert np.isfinite(session.probability).all()
