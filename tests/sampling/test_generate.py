"""From seeds and classes to 8-bit images: the official generator's pixels, and batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from mclr.data.load import Manifest
from mclr.files import load_tensors
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.family import Edm2Family
from mclr.models.edm2.precond import Precond
from mclr.models.edm2.sampler import guided_denoiser, heun_sample
from mclr.models.pixels import RgbEncoder
from mclr.models.seeded import seeded_noise

GOLDEN = Path(__file__).parents[1] / "golden"
SHAPE = (3, 16, 16)
SAMPLER = {"sigma_min": 0.002, "sigma_max": 80, "rho": 7}

with np.load(GOLDEN / "edm2_generate.npz") as _data:
    CASES: dict[str, dict[str, Any]] = json.loads(str(_data["meta_json"]))["cases"]
    REF = {k: torch.from_numpy(v) for k, v in _data.items() if v.dtype.kind in "fiu"}
SEEDS = REF["seeds"].tolist()


def load_net(name: str) -> Precond:
    path = GOLDEN / f"edm2_{name}.safetensors"
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    known = {k: v for k, v in config.items() if k not in ("class_name", "use_fp16")}
    net = Precond(Edm2Network(**known))
    net.load_state_dict(load_tensors(path)[0])
    return net.eval()


@pytest.fixture(scope="module")
def nets() -> dict[str, Precond]:
    return {name: load_net(name) for name in ("net", "gnet_auto")}


class OfficialDraws:
    """One CPU generator per seed: noise, then a class, then the noise of each churned step."""

    def __init__(self, seeds: list[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed % 2**32) for seed in seeds]

    def randn(self, shape: tuple[int, ...]) -> Tensor:
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators])

    def classes(self, count: int) -> Tensor:
        return torch.stack([torch.randint(count, (), generator=g) for g in self.generators])


def assert_same_pictures(found: Tensor, expected: Tensor) -> None:
    """At most one level off, in fewer than 0.5 % of the values (measured: 1 value of 15,360)."""
    assert found.dtype == torch.uint8 and found.shape == expected.shape
    levels = (found.int() - expected.int()).abs()
    assert levels.max() <= 1
    assert (levels > 0).float().mean() < 0.005


# --- recorded ----------------------------------------------------------------------------------


def test_recorded_order_of_draws() -> None:
    with np.load(GOLDEN / "edm2_sampler.npz") as data:
        recorded = {k: torch.from_numpy(data[k]) for k in data.files if k.startswith("rng_")}
    draws = OfficialDraws(recorded["rng_seeds"].tolist())
    assert torch.equal(draws.randn(SHAPE), recorded["rng_noise"])
    assert torch.equal(draws.classes(10), recorded["rng_label_idx"])
    assert torch.equal(draws.randn((3, 4, 4)), recorded["rng_noise_second"])


@pytest.mark.parametrize("tag", CASES)
def test_recorded_images(nets: dict[str, Precond], tag: str) -> None:
    """The official program in batches of 2, 2 and 1; here all five at once."""
    case, draws = CASES[tag], OfficialDraws(SEEDS)
    noise = seeded_noise(SEEDS, SHAPE)
    assert torch.equal(noise, REF["noise"]) and torch.equal(draws.randn(SHAPE), noise)
    drawn = draws.classes(10)
    classes = torch.full_like(drawn, case["class_idx"]) if "class_idx" in case else drawn
    labels = torch.nn.functional.one_hot(classes, 10).float()
    assert torch.equal(labels, REF[f"{tag}_labels"])
    guide = nets[case["gnet"]] if "gnet" in case else None
    # EDM2 counts guidance as w = 1 + γ, and gives the guiding network the label too.
    gamma = case.get("guidance", 1.0) - 1.0
    x = heun_sample(
        guided_denoiser(nets["net"], labels, gamma, guide, guide_labels=labels),
        noise,
        num_steps=case["num_steps"],
        S_churn=case.get("S_churn", 0.0),
        randn=lambda x: draws.randn(SHAPE),
    )
    assert_same_pictures(RgbEncoder().decode(x), REF[f"{tag}_images"])
    assert REF[f"{tag}_batch_sizes"].sum() == len(x)


def test_family_makes_the_recorded_images(nets: dict[str, Precond]) -> None:
    decided = {"img_resolution", "img_channels", "label_dim"}
    network = nets["net"].config.model_dump(exclude=decided)
    manifest = Manifest(3, 16, 10, tuple("0123456789"), {})
    family = Edm2Family(network, manifest, None, {**SAMPLER, "num_steps": 6})
    for rows in (slice(0, 2), slice(2, 4), slice(4, 5), slice(0, 5)):
        classes = REF["plain_labels"][rows].argmax(1)
        x = family.generate(nets["net"], SEEDS[rows], classes, 0.0)
        assert_same_pictures(family.decode(x), REF["plain_images"][rows])


# --- an image is its seed ----------------------------------------------------------------------

Sample = Callable[[list[int]], Tensor]


@pytest.fixture(params=["plain", "churn", "null label", "autoguidance"])
def sample(request: pytest.FixtureRequest, nets: dict[str, Precond]) -> Sample:
    """Sampling by seed: rows of 12 seeds and classes to images (N, 3, 16, 16)."""
    gamma = 0.7 if request.param in ("null label", "autoguidance") else 0.0
    guide = nets["gnet_auto"] if request.param == "autoguidance" else None
    classes = torch.eye(10)[torch.arange(12) % 10]

    def run(rows: list[int]) -> Tensor:
        seeds, streams = [100 + row for row in rows], iter(range(1, 9))
        labels = classes[rows]
        return heun_sample(
            guided_denoiser(nets["net"], labels, gamma, guide, labels if guide else None),
            seeded_noise(seeds, SHAPE),
            num_steps=4,
            S_churn=4 if request.param == "churn" else 0,
            randn=lambda x: seeded_noise(seeds, SHAPE, next(streams)),
        )

    return run


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_neighbours_do_not_change_a_bit(sample: Sample, size: int) -> None:
    """Equal batch size, equal place in the batch, all other seeds and classes exchanged."""
    place = size // 2
    others = [row for row in range(12) if row != 3]
    first = others[: size - 1]
    second = others[::-1][: size - 1]
    first.insert(place, 3)
    second.insert(place, 3)
    assert size == 1 or first != second
    assert torch.equal(sample(first)[place], sample(second)[place])


def test_batch_size_changes_no_more_than_rounding(sample: Sample) -> None:
    """Batches of 1, 2, 3 and 5, shuffled: within 3e-5 of the largest value.

    Measured: 6e-6 with one network, 1e-5 with two, and equal 8-bit images. Matrix products of
    another size may add up in another order, so bits are not promised.
    """
    together = sample([0, 1, 2, 3, 4])
    for batches in ([[0], [1], [2], [3], [4]], [[0, 1], [2, 3], [4]], [[4, 1, 0], [3, 2]]):
        order = [row for rows in batches for row in rows]
        apart = torch.cat([sample(rows) for rows in batches])
        error = (apart - together[order]).abs().max()
        assert error <= 3e-5 * together.abs().max()
        decode = RgbEncoder().decode
        assert_same_pictures(decode(apart), decode(together[order]))
