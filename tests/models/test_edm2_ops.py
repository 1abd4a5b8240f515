"""EDM2 operations and blocks: closed forms first, then officially recorded tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.network import Block
from mclr.models.edm2.operations import (
    FixedConv,
    MPConv,
    MPFourier,
    mp_cat,
    mp_silu,
    mp_sum,
    normalize,
    resample,
)

GOLDEN = Path(__file__).parents[1] / "golden"


def load_arrays(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / name, allow_pickle=False) as data:
        return {k: torch.from_numpy(v) for k, v in data.items() if v.dtype.kind in "fi"}


def load_meta(name: str) -> dict[str, Any]:
    with np.load(GOLDEN / name, allow_pickle=False) as data:
        meta: dict[str, Any] = json.loads(str(data["meta_json"]))
    return meta


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Tolerance of the golden README for forwards: 2e-5 of the largest value."""
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    bound = 2e-5 * expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=bound)


@pytest.fixture(scope="module")
def ops() -> dict[str, Tensor]:
    return load_arrays("edm2_ops.npz")


@pytest.fixture()
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# --- operations: closed forms -----------------------------------------------------------------


def test_operations_keep_unit_variance(rng: torch.Generator) -> None:
    a, b = torch.randn(2, 1000, 64, generator=rng), torch.randn(2, 1000, 64, generator=rng)
    assert mp_silu(a).square().mean().item() == pytest.approx(1, abs=0.02)
    for t in (0.0, 0.3, 0.5, 1.0):
        assert mp_sum(a, b, t).std().item() == pytest.approx(1, abs=0.02)
        assert mp_cat(a, b[:, :500], t).square().mean().item() == pytest.approx(1, abs=0.02)
    # A balanced mp_cat gives both inputs the same total magnitude, whatever their channel counts.
    joined = mp_cat(a, b[:, :100], 0.5).square()
    ratio = joined[:, :1000].sum() / joined[:, 1000:].sum()
    assert ratio.item() == pytest.approx(1, abs=0.1)


def test_normalize_gives_unit_rms_and_a_finite_gradient_at_zero() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    y = normalize(x)
    assert y[0].square().mean().item() == pytest.approx(1, abs=1e-4)
    assert y[1].tolist() == [0.0, 0.0]
    torch.autograd.backward(y.sum())
    assert x.grad is not None and bool(x.grad.isfinite().all())


@pytest.mark.parametrize("dims", [(1,), (2, 3), (1, 2, 3)])
def test_gradient_of_normalize(rng: torch.Generator, dims: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, 4, 2, generator=rng, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: normalize(x, dims), (x,))


def test_normalize_of_large_half_precision_values_is_finite(rng: torch.Generator) -> None:
    """Squares of clipped activations exceed the largest float16."""
    x = torch.full((1, 4, 1, 1), 256.0)
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(normalize(x.to(dtype)), torch.ones(1, 4, 1, 1, dtype=dtype))


def test_resample_of_a_constant_and_of_one_pixel() -> None:
    ones = torch.ones(1, 2, 4, 4)
    assert torch.equal(resample(ones, mode="down"), torch.ones(1, 2, 2, 2))
    assert torch.equal(resample(ones, mode="up"), torch.ones(1, 2, 8, 8))
    assert resample(ones) is ones
    corner = torch.zeros(1, 1, 2, 2)
    corner[..., 0, 0] = 1
    assert resample(corner, mode="up")[0, 0, :2, :2].tolist() == [[1, 1], [1, 1]]
    assert resample(corner, mode="up").sum() == 4


def test_mpconv_ignores_the_scale_of_its_weight(rng: torch.Generator) -> None:
    layer = MPConv(6, 4, (3, 3))
    torch.nn.init.normal_(layer.weight, generator=rng)
    norms = layer.effective_weight().flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(4), rtol=2e-4, atol=0)
    torch.testing.assert_close(layer.effective_weight(2.0), 2 * layer.effective_weight())
    before = layer.effective_weight().detach()
    with torch.no_grad():
        layer.weight.mul_(7)
    torch.testing.assert_close(layer.effective_weight().detach(), before, rtol=2e-4, atol=0)


def test_factor_of_a_layer_multiplies_its_result(rng: torch.Generator) -> None:
    layer, scaled = MPConv(6, 4, (3, 3)), MPConv(6, 4, (3, 3), factor=0.3)
    torch.nn.init.normal_(layer.weight, generator=rng)
    scaled.load_state_dict(layer.state_dict())
    x = torch.randn(2, 6, 4, 4, generator=rng)
    torch.testing.assert_close(scaled(x, 2.0), 0.6 * layer(x))


def test_one_pixel_convolution_in_low_precision(rng: torch.Generator) -> None:
    """There it is a matrix product; here the convolution it stands for."""
    layer = MPConv(6, 4, (1, 1))
    torch.nn.init.normal_(layer.weight, generator=rng)
    x = torch.randn(2, 6, 3, 5, generator=rng)
    low = layer(x.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), layer(x), rtol=0, atol=0.03)


@pytest.mark.parametrize("kernel", [(), (3, 3)])
@pytest.mark.parametrize("gain", [1.0, torch.tensor(0.4)])
def test_fixed_layer_is_the_layer_at_that_moment(
    rng: torch.Generator, kernel: tuple[int, ...], gain: float | Tensor
) -> None:
    layer = MPConv(6, 4, kernel)
    torch.nn.init.normal_(layer.weight, generator=rng)
    x = torch.randn(2, 6, *kernel, generator=rng)
    fixed, expected = FixedConv(layer, gain, torch.float32), layer(x, gain)
    torch.nn.init.normal_(layer.weight, generator=rng)
    torch.testing.assert_close(fixed(x), expected)
    assert not list(fixed.parameters())


# --- operations: golden -----------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.5, 0.3, 0.0, 1.0])
def test_golden_mp_sum(ops: dict[str, Tensor], t: float) -> None:
    assert_close(mp_sum(ops["x"], ops["y"], t), ops[f"mp_sum_t{t}"])


@pytest.mark.parametrize("t", [0.5, 0.3])
def test_golden_mp_cat(ops: dict[str, Tensor], t: float) -> None:
    assert_close(mp_cat(ops["x"], ops["z"], t), ops[f"mp_cat_t{t}"])


def test_golden_mp_silu_and_normalize(ops: dict[str, Tensor]) -> None:
    x = ops["x"]
    assert_close(mp_silu(x), ops["mp_silu"])
    assert_close(normalize(x), ops["normalize_default"])
    assert_close(normalize(x, dim=(1,)), ops["normalize_dim1"])
    assert_close(normalize(x * 1e-4, dim=(1,)), ops["normalize_small"])
    assert_close(normalize(ops["w2"]), ops["normalize_w2"])
    assert torch.equal(normalize(torch.zeros_like(ops["normalize_zero"])), ops["normalize_zero"])
    half = normalize(x.half(), dim=(1,))
    assert half.dtype == torch.float16
    torch.testing.assert_close(half, ops["normalize_half"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1)])
@pytest.mark.parametrize("mode", ["up", "down", "keep"])
def test_golden_resample(ops: dict[str, Tensor], taps: tuple[int, ...], mode: str) -> None:
    expected = ops[f"resample_{mode}_{'_'.join(map(str, taps))}"]
    assert_close(resample(ops["x"], taps, mode), expected)  # type: ignore[arg-type]


def test_golden_fourier(ops: dict[str, Tensor]) -> None:
    layer = MPFourier(16)
    layer.load_state_dict({"freqs": ops["fourier_freqs"], "phases": ops["fourier_phases"]})
    torch.testing.assert_close(layer(ops["fourier_in"]), ops["fourier_out"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["lin", "lin_gain", "conv1", "conv3", "conv3_gain"])
def test_golden_mpconv(ops: dict[str, Tensor], case: str) -> None:
    def key(name: str) -> Tensor:
        return ops[f"mpconv_{case}_{name}"]

    shape = key("w").shape
    layer = MPConv(shape[1], shape[0], tuple(shape[2:]))
    layer.load_state_dict({"weight": key("w")})
    assert_close(layer(key("x"), gain=key("gain")), key("out"))
    layer.normalize_weight_()
    assert_close(layer.weight.detach(), key("train_w_after"))
    out = layer(key("x"), gain=key("gain"))
    assert_close(out, key("train_out"))
    (out * key("R")).sum().backward()
    assert layer.weight.grad is not None
    assert_close(layer.weight.grad, key("grad_w"))


@pytest.mark.parametrize("name", sorted(load_meta("edm2_ops.npz")["blocks"]))
def test_golden_block(ops: dict[str, Tensor], name: str) -> None:
    spec = dict(load_meta("edm2_ops.npz")["blocks"][name])
    shaping = {k: spec.pop(k) for k in ("channels_per_head", "clip_act") if k in spec}
    config = Edm2Network(img_resolution=8, img_channels=1, label_dim=0, **shaping)
    block = Block(
        spec.pop("in_channels"),
        spec.pop("out_channels"),
        spec.pop("emb_channels"),
        config,
        encoder=spec.pop("flavor") == "enc",
        **spec,
    )
    prefix = f"block_{name}_sd:"
    block.load_state_dict({k[len(prefix) :]: v for k, v in ops.items() if k.startswith(prefix)})
    out = block(ops[f"block_{name}_x"], ops[f"block_{name}_emb"])
    assert_close(out, ops[f"block_{name}_out"])
