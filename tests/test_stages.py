"""Final runs, studies and resolutions: what is planned beyond the grid of each experiment."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Trained, edited

from mclr.config.reading import parse_tier
from mclr.errors import UserError
from mclr.files import load_tensors, read_json, save_tensors, write_json
from mclr.jobs.evaluation import evaluate
from mclr.jobs.inputs import Data
from mclr.jobs.sampling import sample
from mclr.jobs.selection import select
from mclr.jobs.training import finetune
from mclr.models.edm2.sampler import guided_denoiser, heun_sample, time_steps, within_interval
from mclr.planning.plan import Plan
from mclr.planning.specs import SampleSpec
from mclr.settings.section import canonical

STUDY = {
    "guidance": [0.5],
    "dial": [0.5, 2],
    "autoguidance": [0.7],
    "interval": {"guidance": [1], "low": 0.1, "high": 5},
}


@pytest.fixture
def staged(tiny: dict[str, Any]) -> dict[str, Any]:
    """The tiny tier with one experiment a family, final seeds and studies."""
    tiny["runs"] = {name: tiny["runs"][name] for name in ("edm2-mclr", "var-mclr")}
    tiny["runs"]["edm2-mclr"] |= {
        "noise": {"P_mean": -0.5, "P_std": 1.0},
        "sweep": {"lr": [1e-3, 2e-3]},
    }
    tiny["seeds"] = [0]
    tiny["final"] = {"seeds": [2, 3]}
    tiny["studies"] = {
        "edm2-mclr": STUDY,
        "edm2-base": {"interval": STUDY["interval"]},
        "var-mclr": {"guidance": [1.5], "dial": [0.5]},
    }
    return tiny


def plan_of(content: dict[str, Any]) -> Plan:
    return Plan(parse_tier(content, "my.yaml"))


def test_evaluations_and_runs(staged: dict[str, Any]) -> None:
    plan = plan_of(staged)
    names = ["edm2-base", "var-base", "edm2-mclr", "var-mclr"]
    finals = [f"{name}-final" for name in names]
    studies = [f"{name}-study" for name in ("edm2-mclr", "edm2-base", "var-mclr")]
    assert list(plan.evaluations) == [*names, *finals, *studies]
    assert plan.experiments == names
    assert [run.run_id for run in plan.of("var-mclr")] == ["var-mclr-seed0"]
    assert [run.run_id for run in plan.all_of("var-mclr")] == [
        "var-mclr-seed0", "var-mclr-final-seed2", "var-mclr-final-seed3",
    ]  # fmt: skip
    paths = [point.path for points in plan.evaluations.values() for point in points]
    assert len(paths) == len(set(paths))


def test_methods_of_points(staged: dict[str, Any]) -> None:
    plan = plan_of(staged)
    methods = {name: [p.method for p in points] for name, points in plan.evaluations.items()}
    assert methods["edm2-base-final"] == ["base", "base", "cfg", "cfg"]
    assert methods["var-mclr-final"] == ["mclr", "mclr"]
    assert methods["edm2-mclr-study"] == [
        "mclr+cfg", "mclr-dial", "mclr-dial", "mclr+autoguidance", "cfg-interval",
    ]  # fmt: skip
    assert [p.seed for p in plan.evaluations["var-mclr-final"]] == [2, 3]
    assert {p.seed for p in plan.evaluations["edm2-mclr-study"]} == {0}


def test_an_experiment_can_stay_out_of_the_finals(staged: dict[str, Any]) -> None:
    staged["runs"]["edm2-mclr"]["final"] = False
    assert "edm2-mclr-final" not in plan_of(staged).evaluations
    del staged["final"]
    assert list(plan_of(staged).finals) == []


def test_noise_of_the_fine_tuning_alone(staged: dict[str, Any]) -> None:
    plan = plan_of(staged)
    run = plan.of("edm2-mclr")[0]
    assert run.hyperparameters["P_mean"] == -0.5
    tuned, base = plan.finetune_spec(run.run_id).content(), plan.base_spec("edm2").content()
    assert tuned["run"]["noise"] == {"P_mean": -0.5, "P_std": 1.0}
    assert base["noise"] == tuned["noise"] == {"P_mean": -0.8, "P_std": 1.6}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"final": {"seeds": [0, 5]}}, r"final\.seeds: \[0\] are among seeds too"),
        ({"studies": {"edm2-dpo": {}}}, "studies: unknown name 'edm2-dpo'; choose from edm2-base"),
        ({"studies": {"edm2-base": {"dial": [2]}}}, "a base model has an interval alone"),
        ({"studies": {"var-mclr": {"autoguidance": [1]}}}, "need a diffusion model"),
    ],
)
def test_impossible_stages(staged: dict[str, Any], edit: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan_of(staged | edit)


def test_a_study_of_another_method_has_no_name_in_results(staged: dict[str, Any]) -> None:
    staged["runs"]["edm2-mclr"]["objective"] = {"name": "ccdpo", "beta": 0.1}
    with pytest.raises(UserError, match="studies are of base models and of plain MCLR"):
        plan_of(staged | {"studies": {"edm2-mclr": {"guidance": [1]}}})


def test_nets_at_each_resolution(tiny: dict[str, Any]) -> None:
    tiny["models"]["edm2"]["resolution"] = 4
    assert plan_of(tiny).nets == {"cnn-4px": ("cnn", 4), "cnn": ("cnn", None)}


# ------------------------------------------------------------------ selection and finals


def test_a_base_model_selects_its_guidance(tmp_path: Path) -> None:
    rows = [
        {"run_id": "b", "method": m, "hyperparameters": {}, "step": 4, "guidance": g,
         "checkpoint": "c", "fd_cnn": fd}
        for m, g, fd in (("base", 0.0, 1.0), ("cfg", 0.5, 3.0), ("cfg", 2.0, 2.0))
    ]  # fmt: skip
    write_json(tmp_path / "e.json", {"rows": rows})
    select(tmp_path / "e.json", "cnn", tmp_path / "s.json")
    found = read_json(tmp_path / "s.json")
    assert (found["guidance"], found["by"], found["value"]) == (2.0, "fd_cnn", 2.0)


@pytest.fixture
def selection(tmp_path: Path) -> Path:
    path = tmp_path / "selection.json"
    hyperparameters = {"lr": 0.002, "batch": 8, "K": 4, "dsm": 0.0, "P_mean": -0.5, "P_std": 1.0}
    write_json(path, {"run_id": "edm2-mclr-lr0.002-seed0", "method": "mclr", "step": 3,
                      "hyperparameters": hyperparameters, "guidance": 0.0})  # fmt: skip
    return path


def test_final_run_is_the_selected_one_with_another_seed(
    staged: dict[str, Any], trained: Trained, selection: Path, tmp_path: Path
) -> None:
    """As a run of the grid with these hyperparameters and this step would have been."""
    plan = plan_of(staged)
    spec = plan.finetune_spec("edm2-mclr-final-seed2")
    paths = (Data(trained.prepared), trained.base("edm2"), None, None)
    finetune(spec, *paths, tmp_path / "final", tmp_path / "state", selection=selection)

    staged["seeds"], staged["final"] = [2], {"seeds": [9]}
    staged["runs"]["edm2-mclr"] |= {"checkpoints": [3]}
    grid = plan_of(staged).finetune_spec("edm2-mclr-lr0.002-seed2")
    finetune(grid, *paths, tmp_path / "grid", tmp_path / "state")

    final = load_tensors(tmp_path / "final/checkpoints/final.safetensors")[0]
    same = load_tensors(tmp_path / "grid/checkpoints/step-000003.safetensors")[0]
    assert all(torch.equal(final[name], same[name]) for name in same)
    facts = read_json(tmp_path / "final/provenance.json")
    assert (facts["hyperparameters"]["lr"], facts["seed"]) == (0.002, 2)


def test_rows_of_finals_and_studies_tell_what_was_selected(
    staged: dict[str, Any], trained: Trained, selection: Path, tmp_path: Path
) -> None:
    plan = plan_of(staged)
    spec = plan.evaluate_spec("edm2-mclr-final").with_(shards=1)
    for planned in plan.evaluations["edm2-mclr-final"]:
        files = [tmp_path / planned.path / f"shard-000.{kind}" for kind in ("parquet", "png")]
        sample(
            plan.sample_spec(planned).with_(shards=1), 0, trained.manifest, trained.base("edm2"),
            None, {"cnn": trained.net / "net.safetensors"}, *files,
        )  # fmt: skip
    evaluate(spec, trained.manifest, {"cnn": trained.net}, tmp_path, tmp_path / "e.json", selection)
    rows = read_json(tmp_path / "e.json")["rows"]
    assert [(r["stage"], r["step"], r["seed"], r["dial"]) for r in rows] == [
        ("final", 3, 2, 1.0), ("final", 3, 3, 1.0),
    ]  # fmt: skip
    assert rows[0]["hyperparameters"]["lr"] == 0.002
    assert rows[0]["checkpoint"].endswith("edm2-mclr-final-seed2/checkpoints/final.safetensors")


# ------------------------------------------------------------------ ways to sample


def images(trained: Trained, folder: Path, spec: SampleSpec, **how: Any) -> torch.Tensor:
    """The features of 20 samples."""
    from mclr.metrics.features import read_features

    sample(
        spec.with_(shards=1), 0, trained.manifest, how.pop("weights", trained.base("edm2")), None,
        {"cnn": trained.net / "net.safetensors"}, folder / "f.parquet", folder / "g.png", **how,
    )  # fmt: skip
    return read_features([folder / "f.parquet"], "cnn").features


@pytest.fixture
def tuned(trained: Trained, tmp_path: Path) -> Path:
    """Weights other than those of the base model."""
    tensors, metadata = load_tensors(trained.base("edm2"))
    path = tmp_path / "tuned.safetensors"
    noise = torch.Generator().manual_seed(0)
    moved = {
        n: v + 0.3 * torch.randn(v.shape, generator=noise) if v.is_floating_point() else v
        for n, v in tensors.items()
    }
    save_tensors(path, moved, metadata)
    return path


def test_dial(trained: Trained, tuned: Path, tiny_plan: Plan, tmp_path: Path) -> None:
    """t = 0 is the base model, t = 1 the fine-tuned one, and t = 2 is neither."""
    spec = tiny_plan.sample_spec(tiny_plan.points("edm2-base")[0])
    base = trained.base("edm2")
    ends = [images(trained, tmp_path, spec, weights=w) for w in (base, tuned)]
    assert not torch.equal(*ends)
    dialled = {
        t: images(trained, tmp_path, spec.with_(dial=t), weights=tuned, base=base)
        for t in (0.0, 0.5, 2.0)
    }
    assert torch.equal(dialled[0.0], ends[0])
    for t in (0.5, 2.0):
        assert not any(torch.equal(dialled[t], end) for end in ends)


def test_autoguidance_of_equal_models_changes_nothing(
    trained: Trained, tuned: Path, tiny_plan: Plan, tmp_path: Path
) -> None:
    spec = tiny_plan.sample_spec(tiny_plan.points("edm2-base")[0])
    guided = spec.with_(guidance=0.8, guide="base")
    base = trained.base("edm2")
    plain = images(trained, tmp_path, spec)
    assert torch.equal(images(trained, tmp_path, guided, base=base), plain)
    other = images(trained, tmp_path, guided, weights=tuned, base=base)
    assert not torch.equal(other, images(trained, tmp_path, spec, weights=tuned))


def test_guidance_in_an_interval(trained: Trained, tiny_plan: Plan, tmp_path: Path) -> None:
    """All levels: CFG. No level: no guidance. Some levels: something else."""
    spec = tiny_plan.sample_spec(tiny_plan.points("edm2-base")[0])
    spec = edited(spec, sampler={"num_steps": 5})
    cfg = spec.with_(guidance=2.0)
    plain, full = (images(trained, tmp_path, s) for s in (spec, cfg))
    assert torch.equal(images(trained, tmp_path, cfg.with_(interval=[0, 1e6])), full)
    assert torch.equal(images(trained, tmp_path, cfg.with_(interval=[200, 300])), plain)
    some = images(trained, tmp_path, cfg.with_(interval=[0.05, 1]))
    assert not torch.equal(some, full)
    assert not torch.equal(some, plain)


def test_selected_guidance_is_read(trained: Trained, tiny_plan: Plan, tmp_path: Path) -> None:
    spec = tiny_plan.sample_spec(tiny_plan.points("edm2-base")[0])
    write_json(tmp_path / "s.json", {"guidance": 2.0})
    found = images(trained, tmp_path, spec.with_(guidance=None), selection=tmp_path / "s.json")
    assert torch.equal(found, images(trained, tmp_path, spec.with_(guidance=2.0)))


def test_evaluations_within_an_interval_are_counted_as_they_are_made(
    tiny: dict[str, Any],
) -> None:
    tiny["models"]["edm2"]["sampler"]["num_steps"] = 6
    model = plan_of(tiny).tier.models["edm2"]
    levels = time_steps(6)[:-1].tolist()
    for low, high in ((0.0, 100.0), (levels[3] * 0.99, levels[1] * 1.01), (200.0, 300.0)):
        rows = 0

        def net(x: torch.Tensor, sigma: torch.Tensor, labels: Any) -> torch.Tensor:
            nonlocal rows
            rows += len(x)
            return x * 0.5

        labels = torch.eye(2)[:1]
        guided, plain = (guided_denoiser(net, labels, gamma) for gamma in (1.0, 0.0))
        heun_sample(
            within_interval(guided, plain, (low, high)), torch.randn(1, 1, 2, 2), num_steps=6
        )
        assert model.nfe_of(True, (low, high)) == rows


def test_specs_of_points_differ_by_how_they_are_sampled(staged: dict[str, Any]) -> None:
    plan = plan_of(copy.deepcopy(staged))
    specs = [canonical(plan.sample_spec(p)) for p in plan.evaluations["edm2-mclr-study"]]
    assert len(set(specs)) == len(specs)
