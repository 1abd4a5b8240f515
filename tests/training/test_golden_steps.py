"""Six official EDM2 training steps (loss, Adam, schedule, weight normalisation, averages)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mclr.data.load import Manifest
from mclr.files import load_tensors
from mclr.likelihood import Draw
from mclr.models.edm2.config import Edm2Base
from mclr.models.edm2.family import Edm2Family
from mclr.training.base import base_trainee
from mclr.training.loop import StateFolder, _step

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = np.load(FOLDER / "edm2_train_steps.npz")
META: dict[str, Any] = json.loads(str(GOLDEN["meta_json"]))


def stored(name: str) -> dict[str, Tensor]:
    return load_tensors(FOLDER / f"edm2_trainnet_{name}.safetensors")[0]


class Recorded(Edm2Family):
    """Starts from the recorded weights and replays the recorded noise."""

    step = 0

    def build(self, generator: torch.Generator) -> nn.Module:
        net = super().build(generator)
        net.load_state_dict(stored("init"))
        return net

    def draw(self, x: Tensor, generator: torch.Generator) -> Draw:
        normal = torch.from_numpy(GOLDEN["rnd_normal"][self.step]).flatten()
        epsilon = torch.from_numpy(GOLDEN["noise_unit"][self.step])
        self.step += 1
        return Draw((normal * META["loss"]["P_std"] + META["loss"]["P_mean"]).exp(), epsilon)


@pytest.mark.parametrize("average", [0, 1])
def test_official_steps(average: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = ("img_resolution", "img_channels", "label_dim", "use_fp16")
    net = {key: value for key, value in META["net"].items() if key not in shape}
    side, channels = META["net"]["img_resolution"], META["net"]["img_channels"]
    manifest = Manifest(channels, side, 3, ("a", "b", "c"), {})
    x = torch.from_numpy(GOLDEN["images"]).flatten(0, 1)
    one_hot = torch.from_numpy(GOLDEN["labels"]).flatten(0, 1)
    labels = torch.where(one_hot.sum(1) > 0, one_hot.argmax(1), 3)
    batch, steps = META["batch"], META["steps"]
    settings = Edm2Base(
        seed=0,
        steps=steps,
        batch=batch,
        lr=META["lr"]["ref_lr"],
        lr_decay_steps=META["lr"]["ref_batches"],
        rampup_images=round(META["lr"]["rampup_Mimg"] * 1e6),
        label_dropout=0.0,
        ema_std=META["ema_stds"][average],
    )
    monkeypatch.setattr(
        "mclr.training.base.minibatch",
        lambda n, size, step, seed: torch.arange(step * size, (step + 1) * size),
    )
    trainee = base_trainee(Recorded(net, manifest, None, None), settings, x, labels, 3)
    pixels = x[0].numel()
    for step in range(steps):
        terms = _step(trainee, step, 0, "edm2", StateFolder(tmp_path, "key"))
        recorded = GOLDEN["loss_per_sample_mean"][step].mean() * pixels
        assert terms["loss"] == pytest.approx(recorded, rel=2e-5)
        assert terms["lr"] == pytest.approx(GOLDEN["lr"][step], rel=1e-12)
    final = base_trainee(Recorded(net, manifest, None, None), settings, x, labels, 3).net
    final.load_state_dict(stored("final"))
    Recorded(net, manifest, None, None).after_step(
        final
    )  # official: normalised at the start of the next forward
    close(trainee.net.state_dict(), final.state_dict())
    assert trainee.ema is not None
    close(trainee.ema.state_dict(), stored(f"final_ema{average}"))


def close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)
