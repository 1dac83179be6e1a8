"""Experts: who is recognised, what is shared, and that nothing else changes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_model, tiny_volume

from segvol_gru.correct.reprompt import Reprompt
from segvol_gru.errors import InputError
from segvol_gru.experts import (
    FAR,
    Experts,
    Kind,
    expert_of,
    kind_of,
    owned,
    recognised,
    shared_digest,
    traits,
)
from segvol_gru.interfaces.measured import Forgetful
from segvol_gru.pipeline import Model
from segvol_gru.pretrained import StoredExperts, load_model, read_experts, save_experts
from segvol_gru.prompts import Box
from segvol_gru.session.session import Session
from segvol_gru.training.export import save_rounds
from segvol_gru.training.rounds import Rounds, RoundsConfig

CLIP = (0.0, 255.0)


def scan(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    array = np.zeros((10, 20, 30), np.uint8)
    array[3:7, 5:15, 5:20] = 200
    return array + rng.integers(0, 20, array.shape).astype(np.uint8)


def with_expert(kind: Kind) -> Model:
    """A tiny model whose only expert calls everything foreground."""
    model = tiny_model()
    base = expert_of(model.base, {n: model.base.state_dict()[n].clone() for n in owned(model.base)})
    with torch.no_grad():
        base.unet.head.bias.fill_(50.0)
    return replace(model, experts=Experts((kind,), {kind.name: base}))


def kind_of_volume(name: str) -> Kind:
    volume = tiny_volume()
    lo, hi = np.quantile(volume.array, [0.005, 0.995])
    return kind_of(name, traits(volume.array, volume.spacing_mm, (float(lo), float(hi)))[None])


def test_traits_of_a_scan_by_hand() -> None:
    array = np.zeros((2, 4, 4), np.uint8)
    array[:, :, 2:] = 100  # half 0, half 100: mean 50, deviation 50
    found = traits(array, (5.0, 1.0, 2.0), CLIP)
    assert found[:3] == pytest.approx(np.log([1, 2, 5]))
    assert found[3:6] == pytest.approx(np.log([4, 8, 10]))  # 4 x 1, 4 x 2, 2 x 5 mm
    assert found[6:12] == pytest.approx([-1, -1, 0, 1, 1, 1])
    # One of three steps along x is 100, two deviations; y (1 mm) is finest, then x, then z.
    assert found[12:] == pytest.approx(np.log([0.01, 2 / 3 + 0.01, 0.01]))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flip", [False, True])
def test_traits_do_not_depend_on_the_order_of_the_axes(
    order: tuple[int, int, int], flip: bool
) -> None:
    spacing = np.array([3.0, 1.0, 0.5])
    turned = scan().transpose(order)
    turned = turned[::-1, :, ::-1] if flip else turned
    expected = traits(scan(), (3.0, 1.0, 0.5), CLIP)
    assert traits(turned, tuple(spacing[list(order)]), CLIP) == pytest.approx(expected)


def test_one_scan_makes_a_kind_that_knows_itself_and_nothing_else() -> None:
    kind = kind_of("a", traits(scan(), (1, 1, 1), CLIP)[None])
    same = traits(scan(1), (1, 1, 1), CLIP)
    assert kind.distance(traits(scan(), (1, 1, 1), CLIP)) == pytest.approx(0)
    assert recognised([kind], same) == "a"
    wider = traits(scan(), (np.e, np.e, np.e), CLIP)  # six logarithms off by 1, known to 0.1
    assert kind.distance(wider) == pytest.approx(600)
    assert recognised([kind], wider) == ""


def test_the_nearest_kind_is_taken_and_none_beyond_far() -> None:
    eye = tuple(tuple(float(i == j) for j in range(2)) for i in range(2))
    kinds = [Kind("a", (0.0, 0.0), eye), Kind("b", (4.0, 0.0), eye)]
    assert recognised(kinds, np.array([1.9, 0.0])) == "a"
    assert recognised(kinds, np.array([2.1, 0.0])) == "b"
    assert recognised(kinds, np.array([4.0, np.sqrt(FAR)])) == ""


def test_an_expert_owns_the_ends_and_shares_the_filters_below_half_resolution() -> None:
    general = tiny_model().corrector
    own = owned(general)
    assert {"unet.stem.weight", "unet.levels.0.0.conv1.weight", "unet.head.weight"} <= set(own)
    assert "unet.ups.2.reduce.weight" in own
    shared = {name for name, _ in general.named_parameters()} - set(own)
    assert {"unet.levels.1.0.conv1.weight", "unet.downs.0.weight", "gru.gates.weight"} <= shared
    state = general.state_dict()
    expert = expert_of(general, {name: state[name] + 1 for name in own})
    for (name, a), b in zip(general.named_parameters(), expert.parameters(), strict=True):
        assert (a.data_ptr() == b.data_ptr()) == (name in shared), name
        assert torch.equal(a, b) == (name in shared), name
    assert shared_digest(expert) == shared_digest(general)
    with torch.no_grad():
        expert.unet.downs[0].weight.mul_(2)
    assert shared_digest(expert) == shared_digest(general)  # they are one memory
    assert shared_digest(expert) != shared_digest(tiny_model(1).corrector)


def test_a_session_asks_the_expert_for_a_scan_of_its_kind_and_only_then() -> None:
    box, known = Box((3, 5, 4), (8, 13, 11)), with_expert(kind_of_volume("ball"))
    plain = Session(tiny_volume(), tiny_model()).prompt(box)
    assert Session(tiny_volume(), known).prompt(box).sum() > plain.sum()
    eye = tuple(tuple(float(i == j) for j in range(15)) for i in range(15))
    unlike = with_expert(Kind("other", (9.0,) * 15, eye))
    assert np.array_equal(Session(tiny_volume(), unlike).prompt(box), plain)


def test_reprompting_and_forgetting_go_with_the_expert() -> None:
    model = with_expert(kind_of_volume("ball"))
    again = replace(model, corrector=Reprompt(model.base)).of("ball")
    assert isinstance(again.corrector, Reprompt)
    assert again.corrector.base is again.base is model.experts.bases["ball"]
    assert again.expert == "ball"
    assert model.of("ball").corrector is model.corrector  # it has no corrector of its own
    forgetful = Forgetful(model.corrector)
    kept = replace(model, experts=replace(model.experts, correctors={"ball": forgetful}))
    assert kept.of("ball").corrector is forgetful
    assert kept.of("nobody") is kept


def test_experts_are_written_and_read_with_the_model(tmp_path: Path) -> None:
    model = tiny_model()
    networks = Rounds(model.base, model.corrector, RoundsConfig())
    save_rounds(tmp_path, networks, lambda part: f"# {part}\n")
    own = {name: model.base.state_dict()[name] + 1 for name in owned(model.base)}
    kind = kind_of_volume("ball")
    stored = StoredExperts((), {"base": shared_digest(model.base)}, {}).having(
        [kind], {"base": own}
    )
    without = load_model(tmp_path)
    save_experts(tmp_path / "experts.safetensors", stored, "# card\n")
    loaded = load_model(tmp_path)
    assert loaded.digest != without.digest
    assert loaded.experts.kinds == (kind,)
    assert read_experts(tmp_path / "experts.safetensors").shared == stored.shared
    for name, value in loaded.of("ball").base.named_parameters():
        shift = 1 if name in own else 0
        assert torch.allclose(value, model.base.state_dict()[name] + shift, atol=2e-3), name
    assert load_model(tmp_path, experts=False).experts == Experts()

    oddly = stored.having([replace(kind, name="a/b")], {"base": own})
    save_experts(tmp_path / "experts.safetensors", oddly, "# card\n")
    assert read_experts(tmp_path / "experts.safetensors").own["base"].keys() == {"ball", "a/b"}

    again = stored.having([kind], {"field": {}})
    assert again.kinds == (kind,)
    assert again.own.keys() == {"base", "field"}  # the base's stays

    other = tiny_model(1)
    save_rounds(tmp_path, Rounds(other.base, other.corrector, RoundsConfig()), lambda _: "#\n")
    with pytest.raises(InputError, match=r"belongs to another base\.safetensors"):
        load_model(tmp_path)
