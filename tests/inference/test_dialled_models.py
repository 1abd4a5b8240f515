"""A model with a dial: exported with its range, drawn at a value; a model without refuses one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import config_of
from tiny import Trained
from torch import Tensor

from mclr.config.reading import parse_tier
from mclr.data.load import Manifest, step_generator
from mclr.errors import UserError
from mclr.files import save_tensors, write_json
from mclr.inference import ClassConditionalPipeline
from mclr.inference.export import model_config
from mclr.inference.folder import DialConfig, read_config, write_folder
from mclr.inference.source import find_source
from mclr.jobs.sampling import sample
from mclr.models.dial import dial_of
from mclr.models.families import make_family
from mclr.models.family import load_network
from mclr.planning.plan import Plan
from mclr.settings.section import canonical

VALUES = [0.25, 0.5, 1.0]


def plan_of(tiny: dict[str, Any]) -> Plan:
    for model in ("edm2", "var"):
        run = {"model": model, "objective": {"name": "gft", "beta": "input"}, "lr": 0.001}
        tiny["runs"][f"{model}-gft"] = run | {"batch": 8, "checkpoints": [4], "dial": VALUES}
    return Plan(parse_tier(tiny, "tiny"))


@pytest.fixture(params=["edm2", "var"])
def model(request: Any) -> Any:
    return request.param


@pytest.fixture
def weights(
    model: str, tiny: dict[str, Any], trained: Trained, manifest: Manifest, tmp_path: Path
) -> Path:
    """A network with a dial that matters."""
    spec = plan_of(tiny).base_spec(model)
    family = make_family(spec, manifest, trained.tokenizer_of(model))
    net = family.with_dial(load_network(family, trained.base(model)))
    dial = dial_of(net)
    assert dial is not None
    with torch.no_grad():
        dial.weight.normal_(generator=step_generator(1)).mul_(3)
    save_tensors(tmp_path / "weights.safetensors", net.state_dict(), {})
    return tmp_path / "weights.safetensors"


@pytest.fixture
def folder(
    model: str, tiny: dict[str, Any], trained: Trained, weights: Path, tmp_path: Path
) -> Path:
    plan = plan_of(tiny)
    spec = plan.sample_spec(plan.points(f"{model}-gft")[0])
    config = config_of(spec, trained.manifest, DialConfig(default=0.5))
    write_folder(tmp_path / "model", config, weights, trained.tokenizer_of(model))
    return tmp_path / "model"


def images(pipeline: ClassConditionalPipeline, **how: Any) -> Tensor:
    found = pipeline([0, 3, 7], 5, output_type="tensor", **how).images
    assert isinstance(found, Tensor)
    return found


def test_it_draws_at_its_value(folder: Path) -> None:
    pipeline = ClassConditionalPipeline.from_pretrained(folder)
    assert pipeline.config.dial == DialConfig(default=0.5)
    own = images(pipeline)
    assert torch.equal(own, images(pipeline, dial=0.5))
    assert not torch.equal(own, images(pipeline, dial=1))
    assert torch.equal(own, images(pipeline))  # the value of a call is of that call alone
    assert images(pipeline, dial=0.2, guidance=1.0).shape == own.shape
    assert (pipeline.dial_at(), pipeline.dial_at(0.1)) == (0.5, 0.1)
    for value in (0, -1, 1.5, float("nan")):
        with pytest.raises(UserError, match=r"above 0 and up to 1, .*; 0\.5 is"):
            images(pipeline, dial=value)


def test_its_images_are_those_of_the_sampling_job(
    model: str,
    folder: Path,
    weights: Path,
    tiny: dict[str, Any],
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At every value: by seed, in the batches of the job; with the selected value where none is."""
    import mclr.jobs.sampling as job

    plan, batches = plan_of(tiny), []
    measure = job.net_features

    def measured(nets: Any, batch: Tensor) -> Any:
        batches.append(batch)
        return measure(nets, batch)

    monkeypatch.setattr(job, "net_features", measured)
    pipeline = ClassConditionalPipeline.from_pretrained(folder)
    selection = tmp_path / "selection.json"
    write_json(selection, {"hyperparameters": {"dial": 0.25}})
    points = [p for p in plan.points(f"{model}-gft") if p.seed == 0]
    specs = [plan.sample_spec(p).with_(shards=1) for p in points]
    told = {k: v for k, v in specs[0].content().items() if k != "beta"}
    for spec, value in [*zip(specs, VALUES, strict=True), (type(specs[0])(**told), 0.25)]:
        batches.clear()
        sample(
            spec, 0, trained.manifest, weights, trained.tokenizer_of(model),
            {"cnn": trained.net / "net.safetensors"}, tmp_path / "f.parquet", tmp_path / "g.png",
            selection=selection,
        )  # fmt: skip
        labels = [seed % 10 for seed in range(20)]
        drawn = pipeline(labels, 0, dial=value, output_type="tensor").images
        assert isinstance(drawn, Tensor)
        assert torch.equal(torch.cat(batches[:4]), drawn)


def test_the_command_sets_it_and_says_where_it_stands(folder: Path, tmp_path: Path) -> None:
    draw = ("mclr", "draw", "--model", str(folder), "--classes", "0,3", "--per-class", "1")

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (sys.executable, "-m", *draw, "--output", str(tmp_path / "x.png"), *more),
            env=os.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip

    told = run("--dial", "0.3")
    assert told.returncode == 0, told.stderr
    assert told.stdout.endswith("from 0; dial at 0.3\n")
    assert json.loads(run("--json").stdout)["dial"] == 0.5
    refused = run("--dial", "0")
    assert refused.returncode == 2 and "dial 0: expected a value above 0" in refused.stderr


def test_a_model_without_one_refuses_a_value(
    model: str, tiny: dict[str, Any], trained: Trained, tmp_path: Path
) -> None:
    plan = plan_of(tiny)
    spec = plan.sample_spec(plan.points(f"{model}-base")[0])
    config = config_of(spec, trained.manifest)
    write_folder(tmp_path / "m", config, trained.base(model), trained.tokenizer_of(model))
    assert "dial" not in json.loads((tmp_path / "m" / "config.json").read_text())
    pipeline = ClassConditionalPipeline.from_pretrained(tmp_path / "m")
    assert pipeline.dial_at() is None
    with pytest.raises(UserError, match=r"dial 0\.3: this model has none"):
        images(pipeline, dial=0.3)


def test_a_folder_that_says_half_of_it_is_damaged(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "dial": None}))
    with pytest.raises(UserError, match="a network with a dial has both"):
        read_config(folder)


def test_export_names_the_dial_and_where_the_best_was_found(
    model: str,
    tiny: dict[str, Any],
    trained: Trained,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row of the metrics, picture and default are those at the value of lowest FD."""
    monkeypatch.chdir(tmp_path)
    plan, name = plan_of(tiny), f"{model}-gft"
    run = f"{name}-seed1"
    about = {"spec": canonical(plan.finetune_spec(run)), "step": "4"}
    save_tensors(Path(plan.files.best(name)), {"w": torch.zeros(3)}, about)
    about_data = {"shape": [1, 8, 8], "class_names": ["a"], "source": {"name": "x"}}
    splits = {"train": {"sha256": "0"}}
    write_json(Path(plan.files.prepared(None)["manifest"]), about_data | {"splits": splits})
    rows = [
        row.model_dump() | {"fd_cnn": abs(float(str(row.hyperparameters["dial"])) - 0.5)}
        for row in plan.evaluate_spec(name).points
    ]
    write_json(Path(plan.files.evaluation(name)), {"rows": rows})
    source = find_source(plan.tier, name)
    assert (source.run.run_id, source.run.value) == (run, 0.5)
    (point,) = (p for p in plan.points(name) if p.path in str(source.grid))
    assert point.run.hyperparameters == source.run.hyperparameters
    if model == "edm2":
        config = model_config(source)
        assert config.dial == DialConfig(default=0.5)
        assert config.network["dial"] is True and config.format == 2
