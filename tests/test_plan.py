"""Runs, points and job specifications; an edit reaches the jobs that read the key, and no other."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from mclr.config.objectives import CcDpo
from mclr.config.reading import parse_tier
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.planning.plan import Plan
from mclr.settings.section import canonical


def plan_of(content: dict[str, Any]) -> Plan:
    return Plan(parse_tier(content, "my.yaml"))


def test_run_ids_and_experiments(tiny_plan: Plan) -> None:
    names = [f"{m}-{o}" for m in ("edm2", "var") for o in ("mclr", "ccdpo", "cca", "ddo")]
    assert tiny_plan.experiments == ["edm2-base", "var-base", *names]
    assert list(tiny_plan.runs) == [
        "edm2-base", "var-base", *(f"{name}-seed{seed}" for name in names for seed in (0, 1)),
    ]  # fmt: skip
    assert [run.run_id for run in tiny_plan.of("var-cca")] == ["var-cca-seed0", "var-cca-seed1"]


def test_base_run(tiny_plan: Plan) -> None:
    run = tiny_plan.runs["edm2-base"]
    assert (run.method, run.checkpoints, run.is_base) == ("base", (4,), True)
    assert run.hyperparameters == {}


def test_fine_tuning_run(tiny_plan: Plan) -> None:
    run = tiny_plan.runs["edm2-cca-seed1"]
    assert (run.model, run.method, run.seed, run.checkpoints) == ("edm2", "cca", 1, (2, 4))
    assert not run.is_base
    assert run.hyperparameters == {
        "lr": 0.001, "batch": 8, "beta": 0.1, "lambda": 0.5, "K": 2, "uncond_ratio": 0.0,
    }  # fmt: skip


def test_sweeps_multiply(tiny: dict[str, Any]) -> None:
    tiny["runs"] = {"ccdpo": tiny["runs"]["edm2-ccdpo"]}
    tiny["runs"]["ccdpo"]["sweep"] = {"lr": [1e-4, 2e-4], "objective.beta": [0.1, 1], "batch": [4]}
    runs = plan_of(tiny).of("ccdpo")
    assert [run.run_id for run in runs][:3] == [
        "ccdpo-lr0.0001-beta0.1-batch4-seed0",
        "ccdpo-lr0.0001-beta0.1-batch4-seed1",
        "ccdpo-lr0.0001-beta1-batch4-seed0",
    ]
    assert len(runs) == 8
    assert runs[2].hyperparameters == {"lr": 0.0001, "batch": 4, "beta": 1.0, "K": 2}
    spec = Plan(parse_tier(tiny, "")).finetune_spec(runs[2].run_id).run
    assert isinstance(spec.objective, CcDpo)
    assert (spec.lr, spec.objective.beta, spec.sweep) == (0.0001, 1.0, {})


def test_sweep_by_alias_and_of_integers(tiny: dict[str, Any]) -> None:
    tiny["runs"] = {"cca": tiny["runs"]["edm2-cca"]}
    tiny["runs"]["cca"]["sweep"] = {"objective.lambda": [2], "objective.K": [1, 4]}
    runs = plan_of(tiny).of("cca")
    assert [run.run_id for run in runs][::2] == ["cca-lambda2-K1-seed0", "cca-lambda2-K4-seed0"]
    assert json.dumps(runs[2].hyperparameters["K"]) == "4"


@pytest.mark.parametrize("key", ["lrr", "lr.x", "objective", "objective.gamma", "a.b.c", "model"])
def test_bad_sweep_key(tiny: dict[str, Any], key: str) -> None:
    tiny["runs"]["edm2-ccdpo"]["sweep"] = {key: [1]}
    where = re.escape(f"runs.edm2-ccdpo.sweep.{key}: expected numbers for a key of this run")
    with pytest.raises(UserError, match=where + r", such as lr or objective\.beta/K"):
        plan_of(tiny)


def test_bad_sweep_value(tiny: dict[str, Any]) -> None:
    tiny["runs"]["edm2-ccdpo"]["sweep"] = {"lr": [-1]}
    with pytest.raises(UserError, match=r"runs\.edm2-ccdpo\.sweep: .*greater than 0"):
        plan_of(tiny)


def test_two_runs_of_one_name(tiny: dict[str, Any]) -> None:
    tiny["runs"]["edm2-ccdpo"]["sweep"] = {"lr": [0.1, 0.1]}
    with pytest.raises(UserError, match=r"two runs have the name edm2-ccdpo-lr0\.1-seed0"):
        plan_of(tiny)


def test_points(tiny_plan: Plan) -> None:
    """Base models: each guidance scale and block of seeds; fine-tuned: no guidance, own block."""
    base = tiny_plan.points("edm2-base")
    assert [(p.step, p.guidance, p.seed) for p in base] == [
        (4, g, s) for g in (0.0, 0.5, 2.0) for s in (0, 1)
    ]
    tuned = tiny_plan.points("edm2-mclr")
    assert [(p.run.run_id, p.step, p.guidance, p.seed) for p in tuned] == [
        (f"edm2-mclr-seed{s}", step, 0.0, s) for s in (0, 1) for step in (2, 4)
    ]
    assert base[2].path == "edm2-base/edm2-base/step-000004/guidance-0.5/seed-0"
    every = [p.path for e in tiny_plan.experiments for p in tiny_plan.points(e)]
    assert len(every) == len(set(every)) == 6 + 4 + 8 * 4


def test_evaluations_per_image(tiny_plan: Plan) -> None:
    edm2, var = tiny_plan.tier.models["edm2"], tiny_plan.tier.models["var"]
    assert [edm2.nfe_of(g > 0) for g in (0.0, 2.0)] == [3, 6]
    assert [var.nfe_of(g > 0) for g in (0.0, 1.5)] == [3, 6]


def test_rows(tiny_plan: Plan) -> None:
    rows = tiny_plan.evaluate_spec("var-base").points
    assert [row.method for row in rows] == ["base", "base", "cfg", "cfg"]
    assert [row.nfe for row in rows] == [3, 3, 6, 6]
    row = tiny_plan.evaluate_spec("edm2-ddo").points[-1]
    assert row.checkpoint == tiny_plan.files.checkpoint("edm2-ddo-seed1", 4)
    assert row.checkpoint == "results/tiny/runs/edm2-ddo-seed1/checkpoints/step-000004.safetensors"
    assert (row.model, row.method, row.seed, row.step) == ("edm2", "ddo", 1, 4)


def test_negatives_serve_the_most_demanding_run(tiny: dict[str, Any]) -> None:
    assert plan_of(tiny).negatives_spec("edm2").n_negatives == 24
    tiny["runs"]["edm2-ddo"]["sweep"] = {"objective.n_negatives": [10, 50]}
    assert plan_of(tiny).negatives_spec("edm2").n_negatives == 50
    del tiny["runs"]["edm2-ddo"]
    assert plan_of(tiny).negatives_spec("edm2").n_negatives == 0


# ------------------------------------------------------------------ who reads which key


def specs(content: dict[str, Any]) -> dict[str, str]:
    """The specification of every job of a tier, as the text that Snakemake compares."""
    plan = plan_of(content)
    found: dict[str, Any] = {"prepare": plan.tier.data, "tokenizer": plan.tokenizer_spec("var")}
    for name, net in plan.tier.features.items():
        found[f"feature-net {name}"] = net
    for model in plan.tier.models:
        found[f"base {model}"] = plan.base_spec(model)
        found[f"negatives {model}"] = plan.negatives_spec(model)
    for run_id in plan.runs:
        if not plan.runs[run_id].is_base:
            found[f"finetune {run_id}"] = plan.finetune_spec(run_id)
    for experiment in plan.experiments:
        found[f"evaluate {experiment}"] = plan.evaluate_spec(experiment)
        for point in plan.points(experiment):
            found[f"sample {point.path}"] = plan.sample_spec(point)
    return {job: canonical(spec) for job, spec in found.items()}


def job(*patterns: str) -> Callable[[str], bool]:
    return lambda name: any(re.fullmatch(pattern, name) for pattern in patterns)


EDM2_NETS = (r"(base|negatives) edm2", r"(finetune|sample) edm2-.*")
VAR_NETS = (r"(base|negatives) var", r"(finetune|sample) var-.*")
READERS: dict[str, tuple[Any, Callable[[str], bool]]] = {
    "tier": ("other", job(r"evaluate .*")),
    "data.n_reference": (700, job("prepare")),
    "data.split_seed": (1, job("prepare")),
    "features.cnn.steps": (5, job("feature-net cnn")),
    "report.features": ("cnn2", job()),
    "models.edm2.label": ("EDM", job()),
    "models.edm2.network.model_channels": (8, job(*EDM2_NETS)),
    "models.edm2.base.lr": (0.02, job("base edm2")),
    "models.edm2.base.ema_std": (0.05, job("base edm2")),
    "models.edm2.noise.P_mean": (-1.0, job("base edm2", "finetune edm2-.*")),
    "models.edm2.sampler.sigma_max": (70.0, job("negatives edm2", "sample edm2-.*")),
    "models.edm2.sampler.num_steps": (
        3, job("negatives edm2", "sample edm2-.*", "evaluate edm2-.*"),
    ),
    "models.edm2.guidance": ([0.5, 3], job("evaluate edm2-base", ".*/guidance-[23]/.*")),
    "models.var.label": ("V", job()),
    "models.var.tokenizer.training.lr": (0.02, job("tokenizer")),
    "models.var.tokenizer.network.vocab_size": (16, job("tokenizer", *VAR_NETS)),
    "models.var.network.depth": (2, job(*VAR_NETS)),
    "models.var.base.warmup_steps": (1, job("base var")),
    "models.var.sampler.top_p": (0.9, job("negatives var", "sample var-.*")),
    "models.var.decoding": ("bfloat16", job("sample var-.*")),
    "models.var.guidance": ([2.5], job("evaluate var-base", ".*/guidance-[12].5/.*")),
    "runs.edm2-mclr.lr": (0.002, job("(finetune edm2-mclr-seed.|evaluate edm2-mclr)")),
    "runs.edm2-mclr.objective.K": (2, job("(finetune edm2-mclr-seed.|evaluate edm2-mclr)")),
    "runs.var-cca.objective.lambda": (2, job("(finetune var-cca-seed.|evaluate var-cca)")),
    "runs.var-ddo.objective.n_negatives": (
        30, job("negatives var", "finetune var-ddo-seed.", "evaluate var-ddo"),
    ),
    "runs.var-mclr.checkpoints": (
        [2, 5], job("finetune var-mclr-seed.", "evaluate var-mclr", "sample var-mclr/.*[45]/gui.*"),
    ),
    "evaluation.n_samples": (24, job("(evaluate|sample) .*")),
    "evaluation.batch": (5, job("sample .*", "negatives .*")),
    "evaluation.shards": (1, job("(evaluate|sample) .*")),
    "evaluation.labels": ("random", job("(evaluate|sample) .*")),
    "evaluation.neighbourhood": (5, job("evaluate .*")),
    "evaluation.isc_splits": (4, job("evaluate .*")),
    "evaluation.isc_features": ("cnn2", job("evaluate .*")),
    "evaluation.grid_rows": (3, job("sample .*")),
    "seeds": ([0], job(r"(finetune|sample) .*seed-?1.*", "evaluate .*")),
}  # fmt: skip


@pytest.mark.parametrize("key", READERS)
def test_an_edit_reaches_its_readers_only(tiny: dict[str, Any], key: str) -> None:
    tiny["features"]["cnn2"] = dict(tiny["features"]["cnn"])
    value, reads = READERS[key]
    edited = copy.deepcopy(tiny)
    *parents, last = key.split(".")
    section = edited
    for parent in parents:
        section = section[parent]
    assert section.get(last) != value
    section[last] = value
    before, after = specs(tiny), specs(edited)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {name for name in before | after if reads(name)}
    assert changed or key.endswith("label") or key == "report.features"


def test_a_new_run_touches_no_other(tiny: dict[str, Any]) -> None:
    before = specs(tiny)
    tiny["runs"]["edm2-new"] = tiny["runs"]["edm2-mclr"]
    after = specs(tiny)
    assert {name for name in after if before.get(name) != after[name]} == {
        name for name in after if "edm2-new" in name
    }


def test_network_evaluations_are_counted_as_in_table_1(tiny_tier: Tier) -> None:
    edm2, var = tiny_tier.models["edm2"], tiny_tier.models["var"]
    paper = edm2.model_copy(update={"sampler": edm2.sampler.model_copy(update={"num_steps": 32})})
    assert [paper.nfe_of(gamma > 0) for gamma in (0.0, 0.7)] == [63, 126]
    scales = len(var.tokenizer.network.patch_nums)
    assert [var.nfe_of(gamma > 0) for gamma in (0.0, 2.0)] == [scales, 2 * scales]


def test_a_models_transform_decides_what_is_encoded_alone(tiny: dict[str, Any]) -> None:
    tiny["data"] = {"source": "images", "path": "p", "resolution": 8, "reference": "train"}
    plan = Plan(parse_tier(tiny, "tiny"))
    tiny["models"]["var"]["transform"] = "var"
    other = Plan(parse_tier(tiny, "tiny"))
    for name in ("encode_spec", "tokenizer_spec"):
        without, with_it = getattr(plan, name)("var"), getattr(other, name)("var")
        assert with_it.content() == without.content() | {"transform": "var"}
        assert "transform" not in without.content()
    assert other.base_spec("var") == plan.base_spec("var")
    assert other.encode_spec("edm2") == plan.encode_spec("edm2")


def test_rounds_start_from_the_best_of_the_one_before(tiny: dict[str, Any]) -> None:
    tiny["runs"]["edm2-ddo-2"] = tiny["runs"]["edm2-ddo"] | {"from": "edm2-ddo"}
    tiny["runs"]["edm2-ddo-2"]["objective"] = tiny["runs"]["edm2-ddo"]["objective"] | {
        "n_negatives": 30
    }
    plan = Plan(parse_tier(tiny, "tiny"))
    first, second = plan.runs["edm2-ddo-seed0"], plan.runs["edm2-ddo-2-seed0"]
    assert plan.start_checkpoint(first.start) == plan.files.checkpoint("edm2-base", 4)
    assert plan.start_checkpoint(second.start) == "results/tiny/best/edm2-ddo.safetensors"
    assert plan.negatives_spec(first.start).n_negatives == 24
    assert plan.negatives_spec(second.start).n_negatives == 30
    assert second.hyperparameters == first.hyperparameters | {
        "from": "edm2-ddo", "n_negatives": 30
    }  # fmt: skip
    assert "from" not in plan.finetune_spec("edm2-ddo-seed0").content()["run"]
    assert plan.finetune_spec("edm2-ddo-2-seed0").content()["run"]["from"] == "edm2-ddo"


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"edm2-mclr": "edm2-none"}, r"runs.edm2-mclr.from: unknown name 'edm2-none'; choose from"),
        ({"edm2-mclr": "var-mclr"}, r"runs.edm2-mclr.from: var-mclr fine-tunes another model"),
        (
            {"edm2-mclr": "edm2-cca", "edm2-cca": "edm2-mclr"},
            r"runs.edm2-cca.from: edm2-mclr starts from edm2-cca itself",
        ),
    ],
)
def test_rounds_that_lead_nowhere(tiny: dict[str, Any], runs: dict[str, str], message: str) -> None:
    for name, start in runs.items():
        tiny["runs"][name]["from"] = start
    with pytest.raises(UserError, match=message):
        parse_tier(tiny, "tiny")
