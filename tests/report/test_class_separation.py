"""Likelihood ratios between classes, and statistics of pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from tiny import Trained
from torch import Tensor

from mclr.cli import cli
from mclr.config.evaluation import Separation
from mclr.files import read_json
from mclr.likelihood import Draw
from mclr.metrics.separation import (
    contrast_labels,
    likelihood_ratios,
    pixel_statistics,
    summarise,
)
from mclr.planning.plan import Plan
from mclr.settings.section import canonical


class Gaussian:
    """ℓ(x, c) = −(x − c)²/2 + ε c, with a draw ε that classes share; exact with ``noisy`` off."""

    def __init__(self, noisy: bool) -> None:
        self.noisy = noisy
        self.draws: list[Tensor] = []

    def draw(self, x: Tensor, generator: torch.Generator) -> Draw:
        if not self.noisy:
            return Draw()
        self.draws.append(torch.randn(len(x), generator=generator))
        return Draw(torch.ones(len(x)), self.draws[-1])

    def log_likelihood(self, net: Any, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        noise = torch.zeros(len(x)) if draw.epsilon is None else draw.epsilon
        return -((x - labels) ** 2) / 2 + noise * labels


def test_labels_to_compare_with_are_others_and_evenly_spread() -> None:
    found = contrast_labels(torch.tensor([0, 8]), 10, 3)
    assert found.tolist() == [[0, 1, 5, 9], [8, 9, 3, 7]]
    every = contrast_labels(torch.tensor([2]), 4, 99)
    assert sorted(every[0].tolist()) == [0, 1, 2, 3] and every[0, 0] == 2


@pytest.mark.parametrize("noisy", [False, True])
def test_ratios_in_closed_form(noisy: bool) -> None:
    family = Gaussian(noisy)
    x, labels = torch.tensor([0.0, 1.0]), torch.tensor([[0, 1, 2], [1, 2, 0]])
    generator = torch.Generator().manual_seed(0)
    found = likelihood_ratios(family, None, x, labels, 5, generator)  # type: ignore[arg-type]
    exact = torch.tensor([[0.5, 2.0], [0.5, 0.5]]).double()
    noise = torch.stack(family.draws).mean(0) if noisy else torch.zeros(2)
    shift = noise[:, None] * (labels[:, :1] - labels[:, 1:])
    assert torch.allclose(found, exact + shift.double(), atol=1e-6)


def test_summary_of_ratios() -> None:
    found = summarise(torch.tensor([[1.0, 3.0], [5.0, -1.0], [4.0, 2.0]]).double())
    assert found.mean == pytest.approx((2 + 2 + 3) / 3)
    assert found.error == pytest.approx((1 / 3) ** 0.5 / 3**0.5)
    assert found.top == pytest.approx(2 / 3)


def test_pixel_statistics() -> None:
    images = torch.tensor([[0, 255], [255, 255], [0, 0]], dtype=torch.uint8).view(1, 3, 1, 2)
    found = pixel_statistics(images)
    assert (found["black"], found["white"], found["saturation"]) == (0.5, 0.5, 1.0)
    assert found["contrast"] == pytest.approx(0.3**0.5)


@pytest.mark.parametrize("model", ["edm2", "var"])
def test_job_measures_every_set_of_images(
    model: str, trained: Trained, tiny_plan: Plan, prepared: Path, tmp_path: Path
) -> None:
    points = [p for p in tiny_plan.points(f"{model}-base")]
    study = Separation(n_images=20, draws=2, others=3)
    tier = tiny_plan.tier.model_copy(update={"separation": study})
    spec = Plan(tier).separation_spec(model).with_(batch=8)
    assert (spec.model, spec.features, spec.n_images) == (model, "cnn", 20)
    rows = [
        {
            "model": model, "method": "cfg" if p.guidance else "base", "hyperparameters": "{}",
            "seed": p.seed, "step": p.step, "guidance": p.guidance, "nfe": 1, "n_samples": 20,
            "protocol": "p", "is_mean": 5.0, "fd_cnn": p.guidance, "precision_cnn": 0.5,
            "recall_cnn": 0.5,
        }
        for p in points
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(tmp_path / "metrics.parquet")
    weights, tokenizer = trained.base(model), trained.tokenizer_of(model)
    options = {"spec": canonical(spec), "data": prepared, "metrics": tmp_path / "metrics.parquet"}
    options |= {"base": weights, "tuned": weights, "output": tmp_path / "separation.json"}
    options |= {"tokenizer": tokenizer} if tokenizer else {}
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    CliRunner().invoke(cli, ["separation", *arguments], catch_exceptions=False, obj=1)
    found = read_json(tmp_path / "separation.json")["images"]
    scales = tiny_plan.tier.models[model].guidance
    assert list(found) == sorted(["real", "base", "cfg", "cfg-highest", "mclr"])
    assert found["cfg"]["guidance"] == min(scales)
    assert found["cfg-highest"]["guidance"] == max(scales)
    # The same weights, seeds and draws.
    assert found["mclr"] == found["base"] != found["real"]
    assert 0 <= found["real"]["top"] <= 1 and found["real"]["error"] > 0
