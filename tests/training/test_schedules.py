"""Schedules and the averaging of weights against closed forms and recorded official values."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mclr.models.recipe import edm2_learning_rate, linear_learning_rate
from mclr.training.schedules import ema_exponent, update_ema

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "edm2_schedules_phema.npz")
META = json.loads(str(GOLDEN["meta_json"]))


@pytest.mark.parametrize("case", range(4))
def test_edm2_learning_rate(case: int) -> None:
    """All recorded schedules; ref_batches 0 means no decay, for us a decay that never begins."""
    settings, recorded = META["lr_cases"][case], GOLDEN[f"lr_case{case}"]
    batch = settings["batch_size"]
    for nimg, lr in zip(GOLDEN["nimg"].tolist(), recorded.tolist(), strict=True):
        if nimg % batch:
            continue
        found = edm2_learning_rate(
            nimg // batch,
            batch,
            lr=settings["ref_lr"],
            decay_steps=settings["ref_batches"] or 10**12,
            rampup_images=settings["rampup_Mimg"] * 10**6,
        )
        assert found == pytest.approx(lr, rel=1e-9)


def test_enough_recorded_learning_rates_are_comparable() -> None:
    for settings in META["lr_cases"]:
        assert (GOLDEN["nimg"] % settings["batch_size"] == 0).sum() >= 5


def test_edm2_learning_rate_by_hand() -> None:
    def lr(step: int, rampup: int = 80) -> float:
        return edm2_learning_rate(step, 8, lr=0.01, decay_steps=4, rampup_images=rampup)

    assert lr(0) == 0.0
    assert lr(5) == pytest.approx(0.01 / math.sqrt(5 / 4) * 40 / 80)
    assert lr(16) == pytest.approx(0.005)
    assert lr(0, rampup=0) == lr(4, rampup=0) == 0.01


def test_linear_learning_rate() -> None:
    found = [linear_learning_rate(t, lr=1.0, warmup_steps=2, steps=6) for t in range(6)]
    assert found == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25])
    assert linear_learning_rate(0, lr=3.0, warmup_steps=0, steps=5) == 3.0
    assert linear_learning_rate(4, lr=3.0, warmup_steps=5, steps=5) == 3.0


def test_ema_exponent_is_the_official_one() -> None:
    for std, exponent in zip(GOLDEN["stds"].tolist(), GOLDEN["std_to_exp"].tolist(), strict=True):
        assert ema_exponent(std) == pytest.approx(exponent, rel=1e-9)
    assert ema_exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert ema_exponent(0.10) == pytest.approx(6.94, abs=0.005)


def test_beta_is_the_official_one() -> None:
    """Averaging 0 into 1 leaves β: read off at the recorded times (in units of their batch)."""
    delta = int(GOLDEN["beta_t_delta"])
    compared = 0
    for i, std in enumerate(GOLDEN["stds"].tolist()):
        for j, t_next in enumerate(GOLDEN["beta_t_next"].tolist()):
            if t_next % delta:
                continue
            net, ema = (nn.Linear(1, 1, bias=False).double() for _ in range(2))
            nn.init.zeros_(net.weight)
            nn.init.ones_(ema.weight)
            update_ema(ema, net, t_next // delta, std)
            assert ema.weight.item() == pytest.approx(GOLDEN["beta"][i, j], rel=1e-9, abs=1e-15)
            compared += 1
    assert compared >= 20


def test_recorded_average_of_weights() -> None:
    """The official PowerFunctionEMA on a sequence of parameters."""
    steps = (GOLDEN["ema_nimg"] // META["ema_batch_size"]).tolist()
    for k, std in enumerate(META["ema_stds"]):
        net, ema = (nn.Linear(8, 1, bias=False) for _ in range(2))
        ema.load_state_dict({"weight": torch.from_numpy(GOLDEN["toy_init"])[None]})
        for t, step in enumerate(steps):
            net.load_state_dict({"weight": torch.from_numpy(GOLDEN["ema_params"][t])[None]})
            update_ema(ema, net, step, std)
            expected = torch.from_numpy(GOLDEN["ema_values"][t, k])
            torch.testing.assert_close(ema.weight[0], expected, rtol=2e-6, atol=1e-6)


def test_first_average_is_the_weights_and_buffers_are_copied() -> None:
    net, ema = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(net.weight, 0.3)
    nn.init.constant_(net.running_mean, 5.0)  # type: ignore[arg-type]
    update_ema(ema, net, 1, 0.1)
    assert torch.equal(ema.weight, net.weight)
    update_ema(ema, net, 2, 0.1)
    assert torch.equal(ema.running_mean, net.running_mean)  # type: ignore[arg-type]
    assert ema.weight.grad_fn is None
