"""EDM2 network: the official implementation's recorded tensors, then properties."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from mclr.errors import UserError
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.precond import Precond, build

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = Edm2Network(
    img_resolution=8,
    img_channels=1,
    label_dim=3,
    model_channels=8,
    channel_mult=(1, 2),
    num_blocks=1,
    attn_resolutions=(4,),
    channels_per_head=8,
    logvar_channels=8,
)


def load_arrays(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / name, allow_pickle=False) as data:
        return {k: torch.from_numpy(v) for k, v in data.items() if v.dtype.kind in "fi"}


def load_net(name: str) -> Precond:
    path = GOLDEN / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    known = {k: v for k, v in config.items() if k not in ("class_name", "use_fp16")}
    net = Precond(Edm2Network(**known))
    net.load_state_dict(load_file(path))
    return net.eval()


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Tolerance of the golden README for forwards: 2e-5 of the largest value."""
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    bound = 2e-5 * expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=bound)


@pytest.fixture(scope="module")
def fwd() -> dict[str, Tensor]:
    return load_arrays("edm2_forward.npz")


@pytest.fixture()
def net() -> Precond:
    return load_net("edm2_net")


@pytest.fixture()
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# --- whole network: golden --------------------------------------------------------------------


def test_golden_forward(net: Precond, fwd: dict[str, Tensor]) -> None:
    x, sigma, labels = fwd["x"], fwd["sigma"], fwd["labels"]
    denoised, logvar = net(x, sigma, labels, return_logvar=True)
    assert_close(denoised, fwd["D"])
    assert_close(logvar, fwd["logvar"])
    assert torch.equal(net(x, sigma, labels), denoised)


def test_golden_label_and_sigma_forms(net: Precond, fwd: dict[str, Tensor]) -> None:
    x, sigma, labels = fwd["x"], fwd["sigma"], fwd["labels"]
    assert_close(net(x, sigma), fwd["D_labels_none"])
    assert_close(net(x, sigma, torch.zeros_like(labels)), fwd["D_labels_zero"])
    assert_close(net(x, sigma, fwd["labels_soft"]), fwd["D_labels_soft"])
    assert_close(net(x, sigma, labels[:1]), fwd["D_one_label_row"])
    assert_close(net(x, fwd["sigma_scalar"], labels), fwd["D_sigma_scalar"])


@pytest.mark.parametrize("name", ["gnet_uncond", "gnet_auto"])
def test_golden_guiding_networks(fwd: dict[str, Tensor], name: str) -> None:
    guide = load_net(f"edm2_{name}")
    out, logvar = guide(fwd["x"], fwd["sigma"], fwd["labels"], return_logvar=True)
    assert_close(out, fwd[f"D_{name}"])
    assert_close(logvar, fwd[f"logvar_{name}"])


def test_golden_intermediate_values(net: Precond, fwd: dict[str, Tensor]) -> None:
    seen: dict[str, Tensor] = {}
    for name, module in net.unet.named_modules():
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    net(fwd["x"], fwd["sigma"], fwd["labels"])
    assert_close(seen[""], fwd["F"])
    assert_close(seen["emb_noise"], fwd["emb_noise_out"])
    assert_close(seen["emb_fourier"], fwd["emb_fourier_out"])
    with np.load(GOLDEN / "edm2_forward.npz") as data:
        names = [str(n).removeprefix("unet.") for n in data["block_names"]]
    means = torch.stack([seen[n].abs().mean() for n in names])
    assert_close(means, fwd["block_mean_abs"])


def test_golden_half_stored_weights(net: Precond, fwd: dict[str, Tensor]) -> None:
    """Official files hold float16: used as they are, and after a cast back to float32."""
    net.half()
    for key, cast in (("halfstored", net), ("halfstored_upcast", copy.deepcopy(net).float())):
        out, logvar = cast(fwd["x"], fwd["sigma"], fwd["labels"], return_logvar=True)
        assert_close(out, fwd[f"D_{key}"])
        assert_close(logvar, fwd[f"logvar_{key}"])


def test_golden_training_forward_and_gradients(net: Precond, fwd: dict[str, Tensor]) -> None:
    args = (fwd["x"], fwd["sigma"], fwd["labels"])
    net.train()
    net.normalize_weights_()
    for key, expected in load_file(GOLDEN / "edm2_net_after_train_forward.safetensors").items():
        torch.testing.assert_close(net.state_dict()[key], expected, rtol=1e-5, atol=1e-6)
    out, logvar = net(*args, return_logvar=True)
    assert_close(out, fwd["train_D"])
    assert_close(logvar, fwd["train_logvar"])
    loss = (out * fwd["train_R"]).sum() + 0.5 * logvar.sum()
    torch.testing.assert_close(loss, fwd["train_loss"], rtol=1e-4, atol=1e-3)
    loss.backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    for key in (k for k in fwd if k.startswith("grad:")):
        grad, expected = grads[key.removeprefix("grad:")], fwd[key]
        assert grad is not None
        assert (grad - expected).abs().max() <= 1e-4 * expected.abs().max()
    with np.load(GOLDEN / "edm2_forward.npz") as data:
        names = [str(n) for n in data["grad_norm_names"]]
    assert set(names) == set(grads)
    norms = torch.stack([g.norm() for n in names if (g := grads[n]) is not None])
    torch.testing.assert_close(norms, fwd["grad_norms"], rtol=2e-4, atol=1e-5)
    net.normalize_weights_()
    assert_close(net(*args), fwd["train_D_second_forward"])


# --- whole network: properties ----------------------------------------------------------------


def test_training_forward_leaves_parameters_alone(net: Precond, fwd: dict[str, Tensor]) -> None:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.train()
    first = net(fwd["x"], fwd["sigma"], fwd["labels"])
    assert torch.equal(net(fwd["x"], fwd["sigma"], fwd["labels"]), first)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_batch_rows_do_not_influence_each_other(net: Precond, fwd: dict[str, Tensor]) -> None:
    whole = net(fwd["x"], fwd["sigma"], fwd["labels"])
    assert_close(net(fwd["x"][2:3], fwd["sigma"][2:3], fwd["labels"][2:3]), whole[2:3])


def test_fresh_network_returns_the_skip_path(rng: torch.Generator) -> None:
    """Zero output gain: D = c_skip x exactly, whatever the random weights are."""
    net, x = build(TINY, rng), torch.randn(2, 1, 8, 8, generator=rng)
    sigma = torch.tensor([0.5, 2.0])
    c_skip = 0.25 / (sigma**2 + 0.25)
    torch.testing.assert_close(net(x, sigma), c_skip.reshape(-1, 1, 1, 1) * x)


def with_output(config: Edm2Network) -> Precond:
    """A network of fixed random weights whose gains are 1, so that every layer matters."""
    net = build(config, torch.Generator().manual_seed(1))
    for name, parameter in net.named_parameters():
        if name.endswith("gain"):
            torch.nn.init.ones_(parameter)
    return net.eval()


@pytest.mark.parametrize(
    "change",
    [
        {"label_balance": 0.2},
        {"concat_balance": 0.2},
        {"res_balance": 0.7},
        {"attn_balance": 0.7},
        {"clip_act": 0.5},
        {"resample_filter": (1, 3, 3, 1)},
        {"sigma_data": 1.0},
    ],
)
def test_every_balance_reaches_the_output(change: dict[str, Any], rng: torch.Generator) -> None:
    x, labels = torch.randn(2, 1, 8, 8, generator=rng), torch.eye(3)[:2]
    plain, changed = with_output(TINY), with_output(TINY.model_copy(update=change))
    changed.load_state_dict(plain.state_dict())
    sigma = torch.tensor(1.0)
    assert not torch.allclose(plain(x, sigma, labels), changed(x, sigma, labels), atol=1e-3)


def test_label_balance_zero_ignores_labels_and_no_clip_is_a_wide_clip(
    rng: torch.Generator,
) -> None:
    x, sigma = torch.randn(2, 1, 8, 8, generator=rng), torch.tensor(1.0)
    blind = with_output(TINY.model_copy(update={"label_balance": 0.0}))
    assert_close(blind(x, sigma, torch.eye(3)[:2]), blind(x, sigma))
    no_clip = with_output(TINY.model_copy(update={"clip_act": None}))
    assert torch.equal(no_clip(x, sigma), with_output(TINY)(x, sigma))


def test_embedding_widths_follow_their_multipliers() -> None:
    net = Precond(TINY.model_copy(update={"channel_mult_noise": 3, "channel_mult_emb": 5}))
    assert net.unet.emb_noise.weight.shape == (40, 24)
    assert Precond(TINY).unet.emb_noise.weight.shape == (16, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_activations_stay_close(
    net: Precond, fwd: dict[str, Tensor], dtype: torch.dtype
) -> None:
    args = (fwd["x"], fwd["sigma"], fwd["labels"])
    low, full = net(*args, dtype=dtype), net(*args)
    assert low.dtype == torch.float32
    error = ((low - full).abs().max() / full.abs().max()).item()
    step = torch.finfo(dtype).eps
    assert step / 100 < error < 4 * step


def test_dropout_acts_in_training_only(rng: torch.Generator) -> None:
    net = build(TINY.model_copy(update={"dropout": 0.5}), rng)
    torch.nn.init.ones_(net.unet.out_gain)
    x, sigma = torch.randn(2, 1, 8, 8, generator=rng), torch.tensor(1.0)
    assert torch.equal(net.eval()(x, sigma), net(x, sigma))
    assert not torch.equal(net.train()(x, sigma), net(x, sigma))


def test_wrong_label_width_is_explained(net: Precond, fwd: dict[str, Tensor]) -> None:
    for labels in (torch.zeros(4, 7), torch.tensor(3)):
        with pytest.raises(UserError, match=r"expected \(N, 10\)"):
            net(fwd["x"], fwd["sigma"], labels)
