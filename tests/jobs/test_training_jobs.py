"""Training jobs: what they publish, and that a killed job ends with the same files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import TRAINING, Trained, edited

from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.events import read_events
from mclr.files import load_tensors, read_json, save_tensors, sha256
from mclr.files.checksums import note_of, noted
from mclr.jobs.feature_net import train_feature_net
from mclr.jobs.inputs import Data, state_folder
from mclr.jobs.sampling import sample_negatives
from mclr.jobs.tokenizer import train_tokenizer
from mclr.jobs.training import finetune, train_base
from mclr.planning.plan import Plan
from mclr.settings.section import canonical
from mclr.training import loop
from mclr.training.share import WHOLE, Share

MODELS = ("edm2", "var")


@pytest.fixture(scope="module")
def negatives(tmp_path_factory: pytest.TempPathFactory, trained: Trained, tiny_plan: Plan) -> Any:
    folder = tmp_path_factory.mktemp("negatives")
    for model in MODELS:
        sample_negatives(
            tiny_plan.negatives_spec(model), trained.manifest, trained.base(model),
            trained.tokenizer_of(model), folder / f"{model}.safetensors",
        )  # fmt: skip
    return folder


def tune(
    folder: Path, trained: Trained, plan: Plan, run_id: str, negatives: Path | None = None,
    share: Share = WHOLE, **edit: Any,
) -> Path:  # fmt: skip
    spec, model = edited(plan.finetune_spec(run_id), run=edit), plan.runs[run_id].model
    run = folder / run_id
    finetune(
        spec, Data(trained.prepared), trained.base(model), trained.tokenizer_of(model),
        negatives / f"{model}.safetensors" if negatives else None, run, folder / "state",
        share,
    )  # fmt: skip
    return run


# ------------------------------------------------------------------ memory


@pytest.mark.parametrize("model", MODELS)
def test_micro_batches_end_at_the_same_weights(
    model: str, trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    """Two Adam steps, of which the first ignores the gradient's size: 2 lr bounds any change."""
    ends = []
    for name, share in (("whole", WHOLE), ("parts", Share(3))):
        run = tune(tmp_path / name, trained, tiny_plan, f"{model}-ccdpo-seed0", share=share)
        ends.append(load_tensors(run / "checkpoints" / "step-000002.safetensors")[0])
    start, (whole, parts) = load_tensors(trained.base(model))[0], ends
    names = [name for name in whole if name not in ("lvl_1L", "attn_bias_for_masking")]
    moved = torch.cat([(whole[name] - start[name]).abs().flatten() for name in names])
    apart = torch.cat([(whole[name] - parts[name]).abs().flatten() for name in names])
    assert moved.max() > 1e-3
    assert apart.median() < 1e-6


# ------------------------------------------------------------------ what is published


def test_base_run(trained: Trained, tiny_plan: Plan, manifest: Manifest) -> None:
    for model in MODELS:
        run, spec = trained.base(model).parent.parent, tiny_plan.base_spec(model)
        assert yaml.safe_load((run / "config.yaml").read_text()) == spec.content()
        provenance = read_json(run / "provenance.json")
        assert provenance["data_sha256"] == manifest.hashes["train"]
        read = [trained.prepared / "train.parquet", trained.tokenizer_of(model)]
        assert provenance["inputs"] == {str(path): sha256(path) for path in read if path}
        assert len(provenance["config_sha256"]) == 64 and provenance["seconds"] >= 0
        assert provenance["experiment"] == f"{model}-base" and provenance["method"] == "base"
        assert {"git_commit", "git_dirty", "hardware", "python", "packages", "code"} <= set(
            provenance
        )
        names = [event["event"] for event in read_events(run / "events.jsonl")]
        assert names == ["start", "train", "checkpoint", "end"]
        metadata = load_tensors(trained.base(model))[1]
        assert metadata == {"step": "4", "spec": canonical(spec)}


def test_private_state_is_gone(trained: Trained) -> None:
    assert not (trained.edm2.parents[2] / "s").exists()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["mclr", "ccdpo", "cca", "ddo"])
def test_fine_tuning(
    model: str, name: str, trained: Trained, tiny_plan: Plan, negatives: Path, tmp_path: Path
) -> None:
    ddo = negatives if name == "ddo" else None
    run = tune(tmp_path, trained, tiny_plan, f"{model}-{name}-seed1", ddo)
    files = sorted((run / "checkpoints").glob("[!.]*"))
    assert [file.name for file in files] == ["step-000002.safetensors", "step-000004.safetensors"]
    assert [noted(file) for file in files] == [sha256(file) for file in files]
    first, last, base = (load_tensors(f)[0] for f in (*files, trained.base(model)))
    assert first.keys() == base.keys()
    assert any(not torch.equal(first[key], base[key]) for key in base)
    assert any(not torch.equal(first[key], last[key]) for key in base)
    events = read_events(run / "events.jsonl")
    assert [e["step"] for e in events if e["event"] == "checkpoint"] == [2, 4]
    assert [e["nimg"] for e in events if e["event"] == "train"] == [16, 32]
    provenance = read_json(run / "provenance.json")
    assert (provenance["seed"], provenance["method"], provenance["model"]) == (1, name, model)
    assert provenance["hyperparameters"]["lr"] == 0.001
    assert not (tmp_path / "state").exists()


def test_damaged_data_are_not_trained_on(trained: Trained, tiny_plan: Plan, tmp_path: Path) -> None:
    """Nothing is begun, and nothing says that it was trained on what the manifest names."""
    prepared = tmp_path / "prepared"
    shutil.copytree(trained.prepared, prepared)
    split = prepared / "train.parquet"
    content = bytearray(split.read_bytes())
    content[len(content) // 2] ^= 1
    split.write_bytes(content)
    run = tmp_path / "run"
    with pytest.raises(UserError, match=r"train\.parquet: damaged: .*Delete .*prepared and run"):
        train_base(tiny_plan.base_spec("edm2"), Data(prepared), None, run, tmp_path / "state")
    assert not run.exists()


def test_a_damaged_base_is_not_fine_tuned(
    trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    base = tmp_path / "step-000004.safetensors"
    for file in (trained.edm2, note_of(trained.edm2)):
        shutil.copy(file, base.with_name(file.name))
    content = bytearray(base.read_bytes())
    content[-1] ^= 64
    base.write_bytes(content)
    with pytest.raises(UserError, match=r"step-000004\.safetensors: damaged"):
        finetune(
            tiny_plan.finetune_spec("edm2-mclr-seed0"), Data(trained.prepared), base, None, None,
            tmp_path / "run", tmp_path / "state",
        )  # fmt: skip


def test_what_a_kill_during_publication_left_is_removed(
    trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    run = tmp_path / "edm2-mclr-seed0"
    for left in (
        run / ".config.yaml.1.tmp",
        run / "checkpoints" / ".step-000001.safetensors.1.tmp",
    ):
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"half")
    assert tune(tmp_path, trained, tiny_plan, run.name) == run
    assert (run / "config.yaml").is_file()
    assert not list(run.rglob(".*.tmp"))


def test_seeds_differ(trained: Trained, tiny_plan: Plan, tmp_path: Path) -> None:
    runs = [tune(tmp_path, trained, tiny_plan, f"edm2-mclr-seed{seed}") for seed in (0, 1)]
    a, b = (load_tensors(run / "checkpoints" / "step-000004.safetensors")[0] for run in runs)
    assert any(not torch.equal(a[key], b[key]) for key in a)


def test_ddo_uses_its_own_number_of_negatives(
    trained: Trained, tiny_plan: Plan, negatives: Path, tmp_path: Path
) -> None:
    """Two runs that differ in n_negatives share one file; each takes the first of its number."""
    tensors, metadata = load_tensors(negatives / "edm2.safetensors")
    cut = tmp_path / "cut"
    kept = {name: value[:12].clone() for name, value in tensors.items()}
    save_tensors(cut / "edm2.safetensors", kept, metadata)
    objective = {"name": "ddo", "alpha": 2, "beta": 0.1, "n_negatives": 12}
    found = [
        tune(tmp_path / str(i), trained, tiny_plan, "edm2-ddo-seed0", n, objective=objective)
        for i, n in enumerate((negatives, cut))
    ]
    a, b = (load_tensors(run / "checkpoints" / "step-000004.safetensors")[0] for run in found)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_ddo_without_negatives(trained: Trained, tiny_plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give --negatives"):
        tune(tmp_path, trained, tiny_plan, "edm2-ddo-seed0")


def test_damaged_base(trained: Trained, tiny_plan: Plan, tmp_path: Path) -> None:
    broken = tmp_path / "step-000004.safetensors"
    broken.write_bytes(trained.edm2.read_bytes()[:-10])
    spec = tiny_plan.finetune_spec("edm2-mclr-seed0")
    with pytest.raises(UserError, match=r"step-000004\.safetensors: checkpoint is truncated"):
        finetune(spec, Data(trained.prepared), broken, None, None, tmp_path / "run", tmp_path / "s")
    assert not (tmp_path / "run").exists()


def test_tokenizer_is_required(trained: Trained, tiny_plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs its tokenizer's weights: give --tokenizer"):
        train_base(
            tiny_plan.base_spec("var"), Data(trained.prepared), None, tmp_path, tmp_path / "s"
        )


def test_training_again_gives_the_same_bytes(
    trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    data, state = Data(trained.prepared), tmp_path / "state"
    train_base(tiny_plan.base_spec("edm2"), data, None, tmp_path / "edm2-base", state)
    train_tokenizer(tiny_plan.tokenizer_spec("var"), data, tmp_path / "t" / "var", state)
    net = tiny_plan.tier.features["cnn"]
    train_feature_net(net, data, tmp_path / "cnn", state)
    again = tmp_path / "edm2-base" / "checkpoints" / "step-000004.safetensors"
    assert sha256(again) == sha256(trained.edm2)
    assert sha256(tmp_path / "t" / "var") == sha256(trained.tokenizer)
    for name in ("net.safetensors", "reference.parquet", "info.json"):
        assert sha256(tmp_path / "cnn" / name) == sha256(trained.net / name)


def test_tokenizer_learns(trained: Trained, tiny_plan: Plan, tmp_path: Path) -> None:
    training = {**TRAINING, "steps": 60}
    spec = edited(tiny_plan.tokenizer_spec("var"), tokenizer={"training": training})
    output = tmp_path / "t" / "var.safetensors"
    train_tokenizer(spec, Data(trained.prepared), output, tmp_path / "state")
    events = read_events(tmp_path / "t" / "var-training" / "events.jsonl")
    train = [e for e in events if e["event"] == "train"]
    assert train[-1]["reconstruction"] < 0.8 * train[0]["reconstruction"]
    assert 0 < train[-1]["codes_used"] <= 1


# ------------------------------------------------------------------ keys and resuming


def test_key_covers_specification_version_and_inputs(tiny_plan: Plan, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("a")

    def key(lr: float, version: str = "base.edm2 1") -> str:
        spec = edited(tiny_plan.base_spec("edm2"), base={"lr": lr})
        return state_folder(tmp_path / "s", version, spec, data).key

    first = key(1)
    assert key(1) == first != key(2)
    data.write_text("b")
    second = key(1)
    assert len({first, second, key(1, "base.edm2 2")}) == 3


def test_interrupted_fine_tuning(
    trained: Trained, tiny_plan: Plan, negatives: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Two draws of DDO's and a crash in the middle: the published files are the same bytes."""
    monkeypatch.setattr(loop, "STATE_SECONDS", 0.0)
    for run_id in ("edm2-ddo-seed0", "var-ccdpo-seed0"):
        ddo = negatives if "ddo" in run_id else None
        whole = tune(tmp_path / "whole", trained, tiny_plan, run_id, ddo)
        original = loop._step

        def dies(trainee: Any, step: int, *rest: Any, original: Any = original) -> Any:
            if step == 3:
                raise RuntimeError("power cut")
            return original(trainee, step, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "_step", dies)
            with pytest.raises(RuntimeError, match="power cut"):
                tune(tmp_path / "parts", trained, tiny_plan, run_id, ddo)
        assert not (tmp_path / "parts" / run_id / "checkpoints").exists()
        parts = tune(tmp_path / "parts", trained, tiny_plan, run_id, ddo)
        resumed = [e for e in read_events(parts / "events.jsonl") if e["event"] == "resume"]
        assert [event["step"] for event in resumed] == [3]
        for step in (2, 4):
            name = f"checkpoints/step-{step:06d}.safetensors"
            assert sha256(whole / name) == sha256(parts / name)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "mclr.cli", *map(str, arguments)]


def stop_after_first_event(arguments: list[str], events: Path) -> tuple[int, str]:
    """Start a job, send SIGTERM once it has recorded a step; its exit status and messages."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=env) as process:
        deadline = time.monotonic() + 120
        while not any(e["event"] == "train" for e in read_events(events)):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def assert_stopped(status: int, errors: str, name: str, events: Path, steps: int) -> None:
    assert status == 128 + signal.SIGTERM == 143
    assert f"{name}: stopped at step " in errors and "run again to resume" in errors
    assert "Traceback" not in errors
    recorded = read_events(events)
    assert recorded[-1]["event"] in ("train", "checkpoint") and recorded[-1]["step"] < steps


def test_sigterm_to_a_real_base_job(trained: Trained, tiny_plan: Plan, tmp_path: Path) -> None:
    """EDM2 with Adam and an average of weights: killed by SIGTERM, run again, same bytes."""
    steps, data = 250, Data(trained.prepared)
    spec = edited(tiny_plan.base_spec("edm2"), base={"steps": steps, "batch": 2})
    run, state = tmp_path / "parts" / "edm2-base", tmp_path / "state"
    arguments = command(
        "base", "--spec", canonical(spec), "--data", trained.prepared, "--run", run,
        "--state", state,
    )  # fmt: skip
    status, errors = stop_after_first_event(arguments, run / "events.jsonl")
    assert_stopped(status, errors, "edm2-base", run / "events.jsonl", steps)
    assert not (run / "checkpoints").exists()
    done = int(load_tensors(state / "state.safetensors")[1]["step"])
    train_base(spec, data, None, run, state)
    train_base(spec, data, None, tmp_path / "whole" / "edm2-base", tmp_path / "other")
    resumed = [e for e in read_events(run / "events.jsonl") if e["event"] == "resume"]
    assert [event["step"] for event in resumed] == [done]
    name = f"checkpoints/step-{steps:06d}.safetensors"
    assert sha256(run / name) == sha256(tmp_path / "whole" / "edm2-base" / name)


def test_sigterm_to_a_real_fine_tuning_job(
    trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    run_id, steps = "var-mclr-seed0", 250
    run_settings = {"checkpoints": [5, steps], "batch": 2}
    spec = edited(tiny_plan.finetune_spec(run_id), run=run_settings)
    run = tmp_path / "parts" / run_id
    arguments = command(
        "finetune", "--spec", canonical(spec), "--data", trained.prepared,
        "--base", trained.var, "--tokenizer", trained.tokenizer, "--run", run,
        "--state", tmp_path / "state",
    )  # fmt: skip
    status, errors = stop_after_first_event(arguments, run / "events.jsonl")
    assert_stopped(status, errors, run_id, run / "events.jsonl", steps)
    inputs = Data(trained.prepared), trained.var, trained.tokenizer, None
    finetune(spec, *inputs, run, tmp_path / "state")
    whole = tmp_path / "whole" / run_id
    finetune(spec, *inputs, whole, tmp_path / "other")
    for step in (5, steps):
        name = f"checkpoints/step-{step:06d}.safetensors"
        assert sha256(run / name) == sha256(whole / name)
