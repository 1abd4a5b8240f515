"""A model of one's own family as a folder: what is in it, what is not, and how it draws."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, Trained

from mclr.config.reading import parse_tier
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.inference import ClassConditionalPipeline
from mclr.inference.export import model_config
from mclr.inference.folder import write_folder
from mclr.inference.source import find_source
from mclr.jobs.inputs import Data
from mclr.jobs.training import train_base
from mclr.models.families import make_family
from mclr.models.family import load_network
from mclr.models.own.family import OwnFamily, family_class
from mclr.planning.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
CLASS = f"""
from mclr.models.own.family import family_class


class Secret(family_class("{ROOT / "docs/examples/own_family.py"}:GaussianPixels")):
    def generate(self, *given, **how):
        return super().generate(*given, **how) * self.sampler["contrast"]
"""


@pytest.fixture
def tier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tier:
    """Of one's own family, in a folder that its results go to."""
    monkeypatch.chdir(tmp_path)
    Path("secret.py").write_text(CLASS)
    model = {
        "family": "own",
        "label": "Secret",
        "implementation": "secret.py:Secret",
        "options": {"least_std": 0.05},
        "nfe": 1,
        "base": {"seed": 0, "steps": 5, "batch": 16, "lr": 0.05},
        "sampler": {"contrast": 0.5},
        "guidance": [0.5],
    }
    return parse_tier(TINY | {"models": {"own": model}, "runs": {}}, "own")


@pytest.fixture
def folder(tier: Tier, trained: Trained, tmp_path: Path) -> Path:
    """Exported but for its card, which needs metrics."""
    shutil.copytree(trained.prepared, Path("data", "prepared", "tiny"))
    spec, run = Plan(tier).base_spec("own"), Path("results", "tiny", "runs", "own-base")
    train_base(spec, Data(trained.prepared), None, run, tmp_path / "state")
    source = find_source(tier, "own-base")
    write_folder(tmp_path / "model", model_config(source), source.weights, source.tokenizer)
    return tmp_path / "model"


def own_class() -> type[OwnFamily]:
    return family_class("secret.py:Secret")


def drawn(pipeline: ClassConditionalPipeline, **how: Any) -> torch.Tensor:
    found = pipeline([0, 7], [3, 4], output_type="tensor", **how).images
    assert isinstance(found, torch.Tensor)
    return found


def test_the_folder_names_options_and_sampler_and_no_code(folder: Path) -> None:
    written = json.loads((folder / "config.json").read_text())
    assert written["network"] == {"family": "own", "options": {"least_std": 0.05}}
    assert (written["sampler"], written["null_label"]) == ({"contrast": 0.5}, True)
    text = "".join(p.read_text(errors="replace") for p in folder.glob("*.json"))
    assert "secret" not in text and not list(folder.glob("*.py"))


def test_it_draws_what_the_pipeline_draws(folder: Path, tier: Tier, trained: Trained) -> None:
    pipeline = ClassConditionalPipeline.from_pretrained(folder, family=own_class())
    plan = Plan(tier)
    family = make_family(plan.sample_spec(plan.points("own-base")[0]), pipeline.config.manifest)
    weights = Path("results/tiny/runs/own-base/checkpoints/step-000005.safetensors")
    net = load_network(family, weights)
    wanted = family.decode(family.generate(net, [3, 4], torch.tensor([0, 7]), 0.0))
    assert torch.equal(drawn(pipeline), wanted)


def test_its_sampler_can_be_overridden_and_its_class_is_needed(folder: Path) -> None:
    with pytest.raises(UserError, match=r"family=TheClass\), and to `mclr draw` --family"):
        ClassConditionalPipeline.from_pretrained(folder)
    pipeline = ClassConditionalPipeline.from_pretrained(folder, family=own_class())
    usual, flat = drawn(pipeline), drawn(pipeline, contrast=0.0)
    assert usual.float().std() > 0 and flat.unique().tolist() == [128]
    assert torch.equal(drawn(pipeline), usual)
    with pytest.raises(UserError, match=r"'steps' is unknown, this model has contrast"):
        drawn(pipeline, steps=3)
    with pytest.raises(UserError, match=r"sampler setting contrast: .*valid number"):
        drawn(pipeline, contrast="much")


def test_draw_takes_the_class_of_the_caller(folder: Path) -> None:
    draw = ("-m", "mclr", "draw", "--model", folder, "--classes", "0,1", "--output", "grid.png")
    code = ("--family", "secret.py:Secret", "--sampler", "contrast=0")
    refused, done = (
        subprocess.run(
            (sys.executable, *draw, *more), capture_output=True, text=True, cwd=folder.parent
        )
        for more in ((), code)
    )
    assert refused.returncode == 2
    assert "--family path/to/file.py:TheClass" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert (folder.parent / "grid.png").is_file()
