"""The jobs of a tier: who makes which file, and what stands behind a result."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tiers import NAMES, ROOT, jobs_of

from mclr.config.reading import load_tier, parse_tier
from mclr.errors import UserError
from mclr.planning.job import flat
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan
from mclr.report.names import views_of


def small(tiny: dict[str, Any]) -> Jobs:
    """One model, one experiment, one seed, one shard."""
    tiny["seeds"], tiny["models"] = [0], {"edm2": tiny["models"]["edm2"]}
    tiny["runs"] = {"edm2-mclr": tiny["runs"]["edm2-mclr"]}
    tiny["evaluation"]["shards"] = 1
    tier = parse_tier(tiny, "tiny")
    return Jobs(Plan(tier), views_of(tier))


def names(dag: Jobs, *targets: str) -> list[str]:
    return [job.name for job in dag.behind(targets)]


FOLDER = "data/raw/tiny-dit/"


@pytest.mark.parametrize("name", NAMES)
def test_every_file_that_is_read_is_made_by_one_job(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's own images are no file of the plan: the job that indexes them reads none."""
    monkeypatch.chdir(ROOT)
    dag = jobs_of(name)
    jobs = dag.by_name.values()
    makers = Counter(file for job in jobs for file in flat(job.outputs))
    assert set(makers.values()) == {1}
    # A model's folder in diffusers' layout is the user's own, too.
    read = {job.name: {f for f in flat(job.inputs) if not f.startswith(FOLDER)} for job in jobs}
    assert set().union(*read.values()) <= makers.keys()
    for job in jobs:
        made = {file for need in dag.needs(job) for file in flat(dag.by_name[need].outputs)}
        assert read[job.name] <= made, job.name


def test_the_users_own_weights_are_made_by_nobody(tiny: dict[str, Any]) -> None:
    tiny["models"]["edm2"]["base"] = {"released": "mine/base.pkl"}
    dag = Jobs(Plan(parse_tier(tiny, "tiny")))
    jobs = dag.by_name.values()
    made = {file for job in jobs for file in flat(job.outputs)}
    read = {file for job in jobs for file in flat(job.inputs)}
    assert read - made == {"mine/base.pkl"}
    taken = dag.by_name["import_base:edm2"]
    assert taken.inputs["source"] == ["mine/base.pkl"] and dag.needs(taken) == ["prepare"]


@pytest.mark.parametrize("name", NAMES)
def test_no_job_waits_for_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is an order to run them in, and a target brings all that its jobs need."""
    monkeypatch.chdir(ROOT)
    dag = jobs_of(name)
    done: set[str] = set()
    pending = {job.name: dag.needs(job) for job in dag.by_name.values()}
    while ready := [job for job, needs in pending.items() if done.issuperset(needs)]:
        done.update(ready)
        pending = {job: needs for job, needs in pending.items() if job not in done}
    assert pending == {}
    found = set(names(dag))
    assert all(found.issuperset(dag.needs(dag.by_name[job])) for job in found)


POINTS = {
    "edm2-base": [f"step-000004/guidance-{scale}" for scale in ("0", "0.5", "2")],
    "edm2-mclr": ["step-000002/guidance-0", "step-000004/guidance-0"],
}


def samples(experiment: str, run: str) -> list[str]:
    return [f"sample:{experiment}/{run}/{point}/seed-0:0" for point in POINTS[experiment]]


DATA = ["fetch", "prepare", "feature_net:cnn"]
GRID = samples("edm2-mclr", "edm2-mclr-seed0")


def test_what_stands_behind_an_evaluation(tiny: dict[str, Any]) -> None:
    """The base model's own images are no part of it."""
    run = "finetune:edm2-mclr-seed0"
    assert names(small(tiny), "edm2-mclr") == [
        *DATA, "base:edm2", run, *GRID, "evaluate:edm2-mclr",
    ]  # fmt: skip


def test_what_stands_behind_the_table(tiny: dict[str, Any]) -> None:
    """Everything is measured, and nothing is selected."""
    dag = small(tiny)
    measured = [
        *DATA, "base:edm2", "floors:edm2", "finetune:edm2-mclr-seed0",
        *samples("edm2-base", "edm2-base"), *GRID, "evaluate:edm2-base", "evaluate:edm2-mclr",
    ]  # fmt: skip
    assert names(dag, "table1") == [*measured, "effective_config", "metrics", "table1"]
    last = ["effective_config", "metrics", "claims", "table1", "figures", "similarity"]
    everything = [*measured, "best:edm2-mclr", *last, "report", "track"]
    assert names(dag) == everything
    assert names(dag, "table1", "edm2-mclr") == names(dag, "table1")
    assert set(dag.by_name) - set(everything) == {"select:edm2-base", "select:edm2-mclr"}


def test_all_keeps_the_best_checkpoints_of_the_rows_of_the_table(tiny: dict[str, Any]) -> None:
    tiny["runs"]["edm2-cca"]["final"] = False
    dag = Jobs(Plan(parse_tier(tiny, "tiny")))
    kept = {job.subject for job in dag.behind() if job.rule == "best"}
    assert kept == tiny["runs"].keys() - {"edm2-cca"}
    assert "best:edm2-cca" in dag.by_name


def test_what_final_runs_and_studies_wait_for() -> None:
    dag = jobs_of("stages")
    needs = {name: dag.needs(job) for name, job in dag.by_name.items()}
    data, coder = "prepare_smaller:4", "tokenizer:latent"
    select = "select:latent-mclr"
    assert needs["finetune_final:latent-mclr-final-seed1"] == [
        data, coder, "encode:latent", "base:latent", select,
    ]  # fmt: skip
    (guided,) = (job for job in dag.by_name.values() if job.point and job.point.guide == "base")
    net = "feature_net:cnn-4px"
    assert needs[guided.name] == [data, "best:latent-mclr", coder, "base:latent", net]
    assert needs["separation:latent"] == [
        data, "metrics", "base:latent", "best:latent-mclr", coder,
    ]  # fmt: skip
    chosen = [name for name, wanted in needs.items() if "select:latent-base" in wanted]
    assert {name.split("/")[0] for name in chosen} == {
        "sample:latent-base-final", "evaluate:latent-base-final", "evaluate:latent-base-study",
    }  # fmt: skip


def test_an_unknown_target_is_named(tiny_plan: Plan) -> None:
    known = r"table1, figures, claims, report, track, edm2-base, var-base, edm2-mclr"
    with pytest.raises(UserError, match=rf"--target: unknown name 'x'; choose from {known}"):
        Jobs(tiny_plan).behind(["table1", "x"])


def test_one_row_is_what_stands_behind_it() -> None:
    row = Jobs(Plan(load_tier(Path(ROOT, "config", "imagenet.yaml")))).behind(["edm2-s-mclr"])
    assert sum(job.rule == "finetune" for job in row) == 8
    assert sum(job.rule == "sample" for job in row) == 8 * 6 * 20
    assert {job.rule for job in row} >= {"encode_pixels", "published_net", "import_base"}
    assert not any("edm2-l" in job.name or "guide" in job.rule for job in row)
