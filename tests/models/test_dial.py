"""Networks with a dial: the base at first, told apart by training, set when images are drawn."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tiny import Trained
from torch import Tensor, nn

from mclr.config.reading import parse_tier
from mclr.data.load import Manifest, load_images, step_generator
from mclr.errors import UserError
from mclr.files import load_tensors, save_tensors
from mclr.likelihood import Draw
from mclr.models.config import Model
from mclr.models.dial import FEATURES, Dial, dial_of, turned
from mclr.models.families import make_family
from mclr.models.family import Family, load_network
from mclr.models.own.config import OwnModel
from mclr.models.own.family import OwnFamily
from mclr.planning.plan import Plan

VALUES = (0.05, 0.4, 1.0)


@pytest.fixture(params=["edm2", "var"])
def model(request: Any) -> Any:
    return request.param


@pytest.fixture
def family(model: str, trained: Trained, tiny_plan: Plan, manifest: Manifest) -> Family:
    spec = tiny_plan.sample_spec(tiny_plan.points(f"{model}-base")[0])
    noise = tiny_plan.base_spec(model).noise
    return make_family(spec.with_(noise=noise), manifest, trained.tokenizer_of(model))


@pytest.fixture
def base(model: str, family: Family, trained: Trained) -> nn.Module:
    return load_network(family, trained.base(model))


@pytest.fixture
def samples(family: Family, trained: Trained, manifest: Manifest) -> tuple[Tensor, Tensor, Draw]:
    images, labels = load_images(trained.prepared / "train.parquet", manifest)
    rng = step_generator(0)
    x = family.from_encoded(family.encode(images[:6]), rng)
    return x, labels[:6], family.draw(x, rng)


def at(draw: Draw, value: float | list[float], n: int = 6) -> Draw:
    values = [value] * n if isinstance(value, float) else value
    return Draw(draw.sigma, draw.epsilon, dial=torch.tensor(values))


def dialled(family: Family, base: nn.Module, size: float = 0.0) -> nn.Module:
    """A copy with a dial, whose weight is random of a size."""
    net = family.with_dial(copy.deepcopy(base))
    dial = dial_of(net)
    assert dial is not None
    with torch.no_grad():
        dial.weight.normal_(generator=step_generator(1)).mul_(size)
    return net


def test_it_begins_as_the_base_at_every_value(
    family: Family, base: nn.Module, samples: tuple[Tensor, Tensor, Draw]
) -> None:
    x, labels, draw = samples
    net = family.with_dial(copy.deepcopy(base))
    with torch.no_grad():
        plain = family.predict(base, x, labels, draw).values
        for value in VALUES:
            assert torch.equal(family.predict(net, x, labels, at(draw, value)).values, plain)
            still = turned(family.frozen(net), value)
            own = family.generate(still, [1, 2], torch.tensor([3, 4]), 0.0)
            assert torch.equal(
                own, family.generate(family.frozen(base), [1, 2], torch.tensor([3, 4]), 0.0)
            )


def test_a_network_without_one_takes_no_notice(
    family: Family, base: nn.Module, samples: tuple[Tensor, Tensor, Draw]
) -> None:
    x, labels, draw = samples
    with torch.no_grad():
        plain = family.log_likelihood(base, x, labels, draw)
        assert torch.equal(family.log_likelihood(base, x, labels, at(draw, 0.3)), plain)
    with pytest.raises(UserError, match="this network has none"):
        turned(base, 0.5)


def test_each_sample_has_its_own_value(
    family: Family, base: nn.Module, samples: tuple[Tensor, Tensor, Draw]
) -> None:
    x, labels, draw = samples
    net = dialled(family, base, 3.0)
    mixed = [0.2, 1.0, 0.2, 1.0, 0.2, 1.0]
    with torch.no_grad():
        low, high = (family.log_likelihood(net, x, labels, at(draw, v)) for v in (0.2, 1.0))
        found = family.log_likelihood(net, x, labels, at(draw, mixed))
        rest = family.log_likelihood(net, x, labels, draw)
    assert (low != high).all()
    torch.testing.assert_close(found[::2], low[::2])
    torch.testing.assert_close(found[1::2], high[1::2])
    torch.testing.assert_close(rest, high)  # not told, it stands at 1: no guidance


def test_turned_networks_share_their_weights_and_draw_otherwise(
    family: Family, base: nn.Module, samples: tuple[Tensor, Tensor, Draw]
) -> None:
    x, labels, draw = samples
    net = family.frozen(dialled(family, base, 3.0))
    low, high = turned(net, 0.2), turned(net, 1.0)
    shared = {t.data_ptr() for t in net.state_dict().values()}
    assert {t.data_ptr() for t in low.state_dict().values()} == shared
    with torch.no_grad():
        said = [family.predict(n, x, labels, draw).values for n in (low, high)]
        told = family.predict(net, x, labels, at(draw, 0.2)).values
        torch.testing.assert_close(said[0], told)
        assert not torch.equal(*said)
        seeds, classes = list(range(8)), torch.arange(8)
        drawn = [family.generate(n, seeds, classes, 0.0) for n in (low, high)]
        assert not torch.equal(*drawn)
        family.generate(low, seeds, classes, 1.0)  # and CFG on top


def test_the_values_that_it_has(family: Family, base: nn.Module) -> None:
    net = dialled(family, base)
    for value in (0.0, -0.1, 1.01, float("nan")):
        with pytest.raises(UserError, match="a value above 0 and up to 1"):
            turned(net, value)


def test_weights_of_a_network_with_a_dial(
    model: str,
    family: Family,
    base: nn.Module,
    trained: Trained,
    tiny_plan: Plan,
    manifest: Manifest,
    tmp_path: Any,
) -> None:
    """Its file has one tensor more; a family told of the dial alone loads it."""
    net = dialled(family, base, 1.0)
    file = tmp_path / "dialled.safetensors"
    save_tensors(file, net.state_dict(), {})
    more = load_tensors(file)[0].keys() - load_tensors(trained.base(model))[0].keys()
    assert [name.endswith("dial.weight") for name in more] == [True]
    spec = tiny_plan.sample_spec(tiny_plan.points(f"{model}-base")[0])
    told = spec.with_(network=spec.content()["network"] | {"dial": True})
    other = make_family(told, manifest, trained.tokenizer_of(model))
    loaded = load_network(other, file)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in loaded.state_dict().items())
    with pytest.raises(UserError, match="weights do not fit"):
        load_network(family, file)
    with pytest.raises(UserError, match="weights do not fit"):
        load_network(other, trained.base(model))


def test_random_networks_do_not_depend_on_whether_they_have_one(
    model: str, family: Family, tiny_plan: Plan, trained: Trained, manifest: Manifest
) -> None:
    spec = tiny_plan.sample_spec(tiny_plan.points(f"{model}-base")[0])
    told = spec.with_(network=spec.content()["network"] | {"dial": True})
    other = make_family(told, manifest, trained.tokenizer_of(model)).build(step_generator(3))
    own = family.build(step_generator(3)).state_dict()
    assert all(torch.equal(other.state_dict()[name], value) for name, value in own.items())
    dial = dial_of(other)
    assert dial is not None and torch.equal(dial.weight, torch.zeros_like(dial.weight))


def test_its_features_tell_values_apart() -> None:
    """Any function on a grid of as many values as it has features is within its reach."""
    dial = Dial(FEATURES)
    with torch.no_grad():
        dial.weight.copy_(torch.eye(FEATURES))
        features = dial(torch.linspace(0, 1, FEATURES))
    assert torch.linalg.matrix_rank(features.double()) == FEATURES


def test_what_configurations_and_families_say_is_the_same(tiny: dict[str, Any]) -> None:
    from mclr.models.diffusers.config import DiffusersModel
    from mclr.models.diffusers.family import DiffusersFamily
    from mclr.models.edm2.family import Edm2Family
    from mclr.models.var.family import VarFamily

    models: dict[str, Model] = parse_tier(tiny, "tiny").models
    assert models["edm2"].has_dial and Edm2Family.has_dial
    assert models["var"].has_dial and VarFamily.has_dial
    assert not (DiffusersModel.has_dial or DiffusersFamily.has_dial)
    assert not (OwnModel.has_dial or OwnFamily.has_dial)
