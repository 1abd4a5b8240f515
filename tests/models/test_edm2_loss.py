"""EDM2's training loss, element by element, and its gradients: recorded official values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mclr.data.load import Manifest
from mclr.files import load_tensors
from mclr.likelihood import Draw
from mclr.models.edm2.family import Edm2Family
from mclr.models.edm2.precond import Precond

GOLDEN = Path(__file__).parents[1] / "golden"
with np.load(GOLDEN / "edm2_loss.npz") as _data:
    META: dict[str, Any] = json.loads(str(_data["meta_json"]))
    REF = {k: torch.from_numpy(v) for k, v in _data.items() if v.dtype.kind == "f"}
LABELS = REF["labels"].argmax(1)
NULL = torch.full_like(LABELS, 10)


@pytest.fixture()
def family() -> Edm2Family:
    manifest = Manifest(3, 16, 10, tuple("0123456789"), {})
    decided = ("img_resolution", "img_channels", "label_dim", "use_fp16")
    network = {key: value for key, value in META["net"].items() if key not in decided}
    return Edm2Family(network, manifest, None, None)


@pytest.fixture()
def net(family: Edm2Family) -> Precond:
    net = Precond(family.config)
    net.load_state_dict(load_tensors(GOLDEN / "edm2_net.safetensors")[0])
    return net.eval()


def draw(case: int) -> Draw:
    settings = META["cases"][case]
    sigma = (REF[f"case{case}_rnd_normal"] * settings["P_std"] + settings["P_mean"]).exp()
    torch.testing.assert_close(sigma, REF[f"case{case}_sigma"], rtol=1e-6, atol=0)
    return Draw(sigma.flatten(), REF[f"case{case}_noise_unit"])


class OneElement:
    """A network of which only one element of one image is looked at."""

    def __init__(self, denoised: Tensor, logvar: Tensor) -> None:
        self.denoised, self.logvar = denoised, logvar

    def __call__(self, *args: Any, return_logvar: bool) -> tuple[Tensor, Tensor]:
        assert return_logvar
        return self.denoised, self.logvar


@torch.no_grad()
def elements(family: Edm2Family, net: Precond, labels: Tensor, draw: Draw) -> Tensor:
    """The loss of every element (N, C, H, W): the base loss of that element alone."""
    assert draw.sigma is not None and draw.epsilon is not None
    x, sigma = REF["images"], draw.sigma
    noisy = x + sigma.view(-1, 1, 1, 1) * draw.epsilon
    denoised, logvar = net(noisy, sigma, family.one_hot(labels), return_logvar=True)
    loss = torch.empty_like(x)
    for n, c, i, j in np.ndindex(*x.shape):
        at = (slice(n, n + 1), slice(c, c + 1), slice(i, i + 1), slice(j, j + 1))
        alone: Any = OneElement(denoised[at], logvar[n : n + 1])
        rows = slice(n, n + 1)
        loss[at] = family.base_loss(alone, x[at], labels[rows], Draw(sigma[rows], x[at]))
    return loss


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Float32 noise of a forward pass: 1e-5 of the value and 4e-6 of the largest value."""
    bound = 4e-6 * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=bound)


@pytest.mark.parametrize("case", [0, 1])
def test_recorded_loss_of_every_element(family: Edm2Family, net: Precond, case: int) -> None:
    noise = draw(case)
    assert_close(elements(family, net, LABELS, noise), REF[f"case{case}_loss_eval"])
    assert_close(elements(family, net, NULL, noise), REF[f"case{case}_loss_eval_nolabels"])
    net.normalize_weights_()  # what the official network does first in train mode
    assert_close(elements(family, net.train(), LABELS, noise), REF[f"case{case}_loss_train"])


@pytest.mark.parametrize("case", [0, 1])
def test_recorded_gradients(family: Edm2Family, net: Precond, case: int) -> None:
    net.train().normalize_weights_()
    loss = family.base_loss(net, REF["images"], LABELS, draw(case))
    expected = REF[f"case{case}_loss_train"].sum() / len(LABELS)
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-6, atol=0)
    names = [key for key in REF if key.startswith(f"case{case}_grad:")]
    assert len(names) == 6
    parameters = [net.get_parameter(name.partition(":")[2]) for name in names]
    for name, grad in zip(names, torch.autograd.grad(loss, parameters), strict=True):
        error = (grad - REF[name]).abs().max()
        assert error <= 2e-5 * REF[name].abs().max(), name
