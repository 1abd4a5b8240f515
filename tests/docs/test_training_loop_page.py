"""docs/howto-training-loop.md: its code runs, in order, and computes what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import mclr
from mclr.files import load_tensors
from mclr.likelihood import denoising_log_likelihood, draw_noise
from mclr.training import library

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "howto-training-loop.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NETWORK, CALL, FUNCTIONS, LOOP, ACCELERATE = BLOCKS


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the first block of the page defines, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return run(NETWORK, {})


def run(block: str, names: dict[str, Any]) -> dict[str, Any]:
    exec(compile(block, "howto-training-loop.md", "exec"), names)
    return names


def log_ratio(names: dict[str, Any], net: Any) -> float:
    """How much likelier images are under their own class: what MCLR raises, Eq. (22)."""
    rng = torch.Generator().manual_seed(9)
    with torch.no_grad():
        loss = names["step_loss"](names["objective"], net, *names["data"].tensors, rng)
    return float(loss.terms["log_ratio"])


def test_the_call(names: dict[str, Any]) -> None:
    before = {name: value.clone() for name, value in names["net"].state_dict().items()}
    run(CALL, names)
    tuned = names["tuned"].state_dict()
    assert all(torch.equal(value, before[k]) for k, value in names["net"].state_dict().items())
    assert any(not torch.equal(value, before[k]) for k, value in tuned.items())
    made = load_tensors(Path("run", "model.safetensors"))[0]
    assert all(torch.equal(value, tuned[k]) for k, value in made.items())
    for name in (library.STATE, library.EVENTS, library.WEIGHTS):
        assert f"`{name}" in PAGE and Path("run", name).exists()


def test_the_likelihood_is_the_papers(names: dict[str, Any]) -> None:
    run(FUNCTIONS, names)
    x, labels = names["images"][:8], names["labels"][:8]
    draw = draw_noise(x, -1.2, 1.2, torch.Generator().manual_seed(1))
    meant = denoising_log_likelihood(names["net"], x, labels, draw, names["SIGMA_DATA"])
    torch.testing.assert_close(names["log_likelihood"](names["net"])(x, labels, draw), meant)


def test_the_loop(names: dict[str, Any]) -> None:
    run(FUNCTIONS, names)
    names["objective"] = names["Mclr"](name="mclr", K=2)
    before = log_ratio(names, names["net"])
    run(LOOP, names)
    assert log_ratio(names, names["net"]) > before
    (listed,) = re.findall(r"`loss.terms` has (.*):", PAGE)
    assert set(re.findall(r"`(\w+)`", listed)) == names["losses"][0].keys()


def test_a_step_of_the_loop_is_a_step_of_the_call(names: dict[str, Any]) -> None:
    """With one image of each class, and what both draw being the same."""
    run(FUNCTIONS, names)
    x, labels = names["images"][:2], names["labels"][:2]
    pair = torch.utils.data.TensorDataset(x, labels)
    tuned = mclr.finetune(names["net"], pair, "mclr", lr=1e-3, batch=2, steps=1)
    moved = {k: (tuned.state_dict()[k] - v).abs() for k, v in names["net"].state_dict().items()}
    # Adam's first step is lr in each weight that has a gradient.
    assert torch.allclose(moved["pictures.weight"][:2], torch.tensor(1e-3), rtol=1e-2)
    assert not moved["pictures.weight"][2].any()


def test_a_step_on_a_gpu(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """By fake tensors, which refuse an operation on two devices: all of it is where the images are.

    As in the loop with accelerate, whose generator stays on the CPU.
    """
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)  # which needs a driver
    run(FUNCTIONS, names)
    objective, rng = names["Mclr"](name="mclr", K=2), torch.Generator()
    with FakeTensorMode(allow_non_fake_inputs=True):
        net = names["Denoiser"]()
        for part in net.modules():
            for name, value in part._parameters.items():
                part._parameters[name] = torch.nn.Parameter(torch.empty_like(value, device="cuda"))
        x, labels = torch.empty(8, 1, 8, 8, device="cuda"), torch.zeros(8, device="cuda").long()
        loss = names["step_loss"](objective, net, x, labels, rng)
    assert loss.value.device.type == "cuda" and loss.value.requires_grad


def test_accelerate(names: dict[str, Any]) -> None:
    run(FUNCTIONS, names)
    names["objective"] = names["Mclr"](name="mclr", K=2)
    before = log_ratio(names, names["net"])
    run(ACCELERATE, names)
    assert log_ratio(names, names["net"]) > before
