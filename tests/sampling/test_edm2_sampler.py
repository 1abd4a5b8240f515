"""EDM2 sampler: exact solutions first, then the official sampler's recorded images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from mclr.errors import UserError
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.precond import Precond
from mclr.models.edm2.sampler import guided_denoiser, heun_sample, time_steps
from mclr.models.seeded import seeded_noise

GOLDEN = Path(__file__).parents[1] / "golden"


def load_net(name: str) -> Precond:
    path = GOLDEN / f"edm2_{name}.safetensors"
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    known = {k: v for k, v in config.items() if k not in ("class_name", "use_fp16")}
    net = Precond(Edm2Network(**known))
    net.load_state_dict(load_file(path))
    return net.eval()


with np.load(GOLDEN / "edm2_sampler.npz", allow_pickle=False) as _data:
    REF = {k: torch.from_numpy(v) for k, v in _data.items() if v.dtype.kind in "fi"}
    CASES = {case["tag"]: case for case in json.loads(str(_data["meta_json"]))["cases"]}


@pytest.fixture(scope="module")
def nets() -> dict[str, Precond]:
    return {name: load_net(name) for name in ("net", "gnet_uncond", "gnet_auto")}


class Recorder:
    """A network that notes the noise level of each call."""

    def __init__(self, net: Callable[..., Tensor]) -> None:
        self.net = net
        self.sigmas: list[float] = []
        self.rows: list[int] = []

    def __call__(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        self.sigmas.append(sigma.flatten()[0].item())
        self.rows.append(x.shape[0])
        return self.net(x, sigma, labels)


def gaussian_denoiser(mu: float, s: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Exact D for data N(mu, s^2): posterior mean of the image given x."""
    return lambda x, sigma: mu + s**2 / (s**2 + sigma**2) * (x - mu)


def assert_images_close(actual: Tensor, expected: Tensor) -> None:
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()


# --- golden -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", sorted(CASES))
def test_golden_images_and_call_sigmas(nets: dict[str, Precond], tag: str) -> None:
    case = CASES[tag]
    kw = dict(case["kw"])
    gamma = kw.pop("guidance", 1.0) - 1.0  # EDM2 counts w = 1 + gamma
    main = Recorder(nets["net"])
    guide = nets[case["gnet"]] if "gnet" in case else None
    draws = iter(REF[f"{tag}_draws"]) if case.get("rec") else iter(())
    image = heun_sample(
        guided_denoiser(main, REF["labels"], gamma, guide, guide_labels=REF["labels"]),
        REF["noise"],
        randn=lambda x: next(draws),
        dtype=getattr(torch, case.get("dtype", "float32")),
        **kw,
    )
    assert_images_close(image, REF[f"{tag}_out"])
    sigmas = REF[f"{tag}_net_call_sigmas"].tolist()
    assert main.sigmas == pytest.approx(sigmas, rel=1e-6)
    assert len(main.sigmas) == 2 * kw["num_steps"] - 1
    assert next(draws, None) is None, "every recorded draw is used"


def test_golden_images_without_labels(nets: dict[str, Precond]) -> None:
    for key, net in (("nolabels8_out", nets["net"]), ("uncond8_out", nets["gnet_uncond"])):
        image = heun_sample(guided_denoiser(net, None, 0.0), REF["noise"], num_steps=8)
        assert_images_close(image, REF[key])


def test_golden_noise_of_a_seed() -> None:
    seeds = REF["rng_seeds"].tolist()
    assert torch.equal(seeded_noise(seeds, REF["rng_noise"].shape[1:]), REF["rng_noise"])


# --- the solver -------------------------------------------------------------------------------


def test_solver_converges_to_the_exact_flow_at_second_order() -> None:
    """Data N(mu, s^2): x(0) = mu + (x(T) - mu) s / sqrt(s^2 + T^2)."""
    mu, s, top = 0.3, 0.5, 80.0
    noise = seeded_noise([1, 2], (1, 4, 4))
    exact = mu + (noise.double() * top - mu) * s / (s**2 + top**2) ** 0.5
    errors = []
    for num_steps in (32, 64, 128):
        image = heun_sample(
            gaussian_denoiser(mu, s), noise, num_steps=num_steps, dtype=torch.float64
        )
        errors.append((image - exact).abs().max().item())
    assert errors[-1] < 1e-3
    assert errors[0] / errors[1] > 3.5 and errors[1] / errors[2] > 3.5


def test_churn_keeps_the_distribution() -> None:
    """Added and removed noise balance: the spread of the data is still found."""
    mu, s = 0.3, 0.5
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 1, 1, 1, generator=rng)
    image = heun_sample(
        gaussian_denoiser(mu, s),
        noise,
        num_steps=64,
        S_churn=20,
        randn=lambda x: torch.randn(x.shape, generator=rng, dtype=torch.float64),
    )
    assert image.dtype == torch.float32
    assert image.mean().item() == pytest.approx(mu, abs=0.02)
    assert image.std().item() == pytest.approx(s, abs=0.02)


def test_sampling_builds_no_graph(nets: dict[str, Precond]) -> None:
    denoise = guided_denoiser(nets["net"], REF["labels"], 0.0)
    assert not heun_sample(denoise, REF["noise"], num_steps=2).requires_grad


def test_image_does_not_depend_on_its_batch(nets: dict[str, Precond]) -> None:
    seeds = [3, 7, 11]

    def sample(rows: list[int]) -> Tensor:
        labels = REF["labels"][rows]
        noise = seeded_noise([seeds[i] for i in rows], (3, 16, 16))
        return heun_sample(guided_denoiser(nets["net"], labels, 0.5), noise, num_steps=4)

    assert_images_close(sample([1]), sample([0, 1, 2])[1:2])


def test_time_steps_hit_both_ends_and_zero() -> None:
    t = time_steps(5, sigma_min=0.01, sigma_max=20, rho=3, dtype=torch.float64)
    assert t.shape == (6,) and t.dtype == torch.float64
    assert t[0].item() == pytest.approx(20) and t[-2].item() == pytest.approx(0.01)
    assert t[-1] == 0 and bool((t[1:] < t[:-1]).all())
    roots = t[:-1] ** (1 / 3)
    torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(4))


def test_impossible_settings_are_explained() -> None:
    denoise, noise = gaussian_denoiser(0, 1), torch.zeros(1, 1, 2, 2)
    with pytest.raises(UserError, match="num_steps 1"):
        heun_sample(denoise, noise, num_steps=1)
    with pytest.raises(UserError, match="sigma_min"):
        heun_sample(denoise, noise, sigma_min=0)
    with pytest.raises(UserError, match="randn"):
        heun_sample(denoise, noise, S_churn=1)
    with pytest.raises(UserError, match="stream"):
        seeded_noise([0], (2,), stream=-1)


# --- guidance ---------------------------------------------------------------------------------


def test_no_guidance_is_one_call_of_the_network_alone(nets: dict[str, Precond]) -> None:
    main = Recorder(nets["net"])
    x, sigma, labels = REF["noise"], torch.tensor(2.0), REF["labels"]
    out = guided_denoiser(main, labels, 0.0, guide_net=nets["gnet_auto"])(x, sigma)
    assert main.rows == [3] and torch.equal(out, nets["net"](x, sigma, labels))


@pytest.mark.parametrize("sigma", [torch.tensor(2.0), torch.tensor([0.5, 1.0, 2.0])])
@pytest.mark.parametrize("rows", [slice(None), slice(0, 1)])
def test_self_guidance_is_one_call_of_2n_rows(
    nets: dict[str, Precond], sigma: Tensor, rows: slice
) -> None:
    main, net = Recorder(nets["net"]), nets["net"]
    x, labels = REF["noise"], REF["labels"][rows]
    out = guided_denoiser(main, labels, 0.7)(x, sigma)
    d_c, d_null = net(x, sigma, labels), net(x, sigma, None)
    torch.testing.assert_close(out, d_c + 0.7 * (d_c - d_null), rtol=1e-4, atol=1e-4)
    assert main.rows == [6]


def test_self_guidance_away_from_other_labels(nets: dict[str, Precond]) -> None:
    net, x, sigma, labels = nets["net"], REF["noise"], torch.tensor(2.0), REF["labels"]
    other = labels.roll(1, dims=1)
    out = guided_denoiser(net, labels, 0.7, guide_labels=other)(x, sigma)
    d_c, d_o = net(x, sigma, labels), net(x, sigma, other)
    torch.testing.assert_close(out, d_c + 0.7 * (d_c - d_o), rtol=1e-4, atol=1e-4)


def test_guiding_network_gets_the_null_label_unless_told(nets: dict[str, Precond]) -> None:
    net, guide, labels = nets["net"], nets["gnet_auto"], REF["labels"]
    x, sigma = REF["noise"], torch.tensor(2.0)
    d_c = net(x, sigma, labels)
    for guide_labels in (None, labels):
        out = guided_denoiser(net, labels, 0.7, guide, guide_labels)(x, sigma)
        expected = d_c + 0.7 * (d_c - guide(x, sigma, guide_labels))
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def test_guidance_without_any_contrast_is_explained(nets: dict[str, Precond]) -> None:
    with pytest.raises(UserError, match="guide"):
        guided_denoiser(nets["net"], None, 0.5)


# --- noise ------------------------------------------------------------------------------------


def test_noise_depends_on_its_own_seed_and_stream_only() -> None:
    shape = (3, 8, 8)
    state = torch.get_rng_state()
    many = seeded_noise([5, 6, 7], shape)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(seeded_noise([6], shape)[0], many[1])
    assert torch.equal(seeded_noise([7, 5], shape), many[[2, 0]])
    assert many.shape == (3, *shape) and many.dtype == torch.float32
    assert seeded_noise([], shape).shape == (0, *shape)


def test_streams_and_seeds_give_unrelated_noise() -> None:
    draws = torch.stack([seeded_noise(range(3), (1024,), stream=k) for k in range(3)])
    correlation = torch.corrcoef(draws.reshape(9, -1)) - torch.eye(9)
    assert correlation.abs().max() < 0.15
    assert draws.mean().abs() < 0.05 and abs(draws.std() - 1) < 0.05
