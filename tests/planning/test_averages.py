"""Raw weights and their average as points of one sweep; steps in epochs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mclr.config.reading import parse_tier
from mclr.cost.cuts import cuts_of
from mclr.errors import UserError
from mclr.jobs.selection import best_point, select
from mclr.jobs.training import selected_spec
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan
from mclr.planning.points import is_average
from mclr.planning.specs import FinetuneSpec
from mclr.report.methods import describe, varying
from mclr.settings.section import canonical


def planned(tiny: dict[str, Any], run: str = "var-mclr", **changes: Any) -> Plan:
    tiny["runs"][run] |= changes
    return Plan(parse_tier(tiny, "tiny.yaml"))


BOTH = {"ema": {"std": 0.1, "evaluate": "both"}}


def test_a_specification_without_the_section_is_as_it_was(tiny: dict[str, Any]) -> None:
    """Its text keys states and results: no key of the section may appear in it."""
    spec = planned(tiny).finetune_spec("var-mclr-seed0")
    assert set(spec.content()["run"]) == {
        *("batch", "checkpoints", "final", "lr", "model", "noise", "objective", "sweep"),
    }  # fmt: skip
    assert "optimizer" not in canonical(planned(tiny).tier)
    assert "epochs" not in canonical(planned(tiny).tier)


def test_a_specification_holds_what_was_said_alone(tiny: dict[str, Any]) -> None:
    plan = planned(tiny, optimizer={"clip": 2, "ema": {"std": 0.1}})
    spec = plan.finetune_spec("var-mclr-seed0")
    assert spec.content()["run"]["optimizer"] == {"clip": 2.0, "ema": {"std": 0.1}}
    assert FinetuneSpec.model_validate_json(canonical(spec)) == spec
    assert plan.runs["var-mclr-seed0"].hyperparameters["optimizer"]["clip"] == 2


def test_points_of_both(tiny: dict[str, Any]) -> None:
    plan = planned(tiny, optimizer=BOTH)
    points = [p for p in plan.points("var-mclr") if p.seed == 0]
    assert [(p.step, p.averaged) for p in points] == [(2, False), (2, True), (4, False), (4, True)]
    assert [p.path.split("/")[2] for p in points[:2]] == ["step-000002", "step-000002-average"]
    assert len({p.path for p in plan.points("var-mclr")}) == 8
    rows = [row for row in plan.evaluate_spec("var-mclr").points if row.seed == 0]
    kinds = [row.hyperparameters["optimizer"]["ema"]["evaluate"] for row in rows]  # type: ignore[index,call-overload]
    assert kinds == ["raw", "average"] * 2
    assert [is_average(canonical(row.hyperparameters)) for row in rows] == [False, True] * 2
    assert rows[1].checkpoint.endswith("var-mclr-seed0/checkpoints/step-000002-average.safetensors")
    assert {row.run_id for row in rows} == {"var-mclr-seed0"}


def test_files_of_both(tiny: dict[str, Any]) -> None:
    """Every file that a point samples, or a selection may copy, is made by the run."""
    jobs = Jobs(planned(tiny, optimizer=BOTH))
    made = jobs.finetune("var-mclr-seed0").outputs["checkpoints"]
    names = [Path(path).name for path in made]
    assert names == [f"step-{s:06d}{e}.safetensors" for s in (2, 4) for e in ("", "-average")]
    assert set(made) < set(jobs.best("var-mclr").inputs["checkpoints"])
    sampled = {jobs.sample(p.path, 0).inputs["weights"] for p in jobs.plan.points("var-mclr")}
    assert sampled == set(jobs.best("var-mclr").inputs["checkpoints"])


@pytest.mark.parametrize(("evaluate", "ending"), [("average", "-average"), ("raw", "")])
def test_one_kind_alone(tiny: dict[str, Any], evaluate: str, ending: str) -> None:
    jobs = Jobs(planned(tiny, optimizer={"ema": {"half_life": 64, "evaluate": evaluate}}))
    made = jobs.finetune("var-mclr-seed0").outputs["checkpoints"]
    assert [Path(path).name for path in made] == [
        f"step-{step:06d}{ending}.safetensors" for step in (2, 4)
    ]
    (row, *_) = jobs.plan.evaluate_spec("var-mclr").points
    assert is_average(canonical(row.hyperparameters)) == (evaluate == "average")


def test_the_better_kind_is_selected(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["final"] = {"seeds": [7]}
    plan = planned(tiny, optimizer=BOTH)
    rows = [row.model_dump() for row in plan.evaluate_spec("var-mclr").points]
    for row in rows:
        averaged = is_average(canonical(row["hyperparameters"]))
        row["fd_cnn"] = 5.0 - averaged * row["step"] + row["seed"]
    evaluation = tmp_path / "e.json"
    evaluation.write_text(json.dumps({"rows": rows}))
    best = best_point(evaluation, "cnn")
    assert best["checkpoint"].endswith("step-000004-average.safetensors") and best["step"] == 4
    select(evaluation, "cnn", tmp_path / "s.json")
    final = selected_spec(plan.finetune_spec("var-mclr-final-seed7"), tmp_path / "s.json")
    assert final.run.how.evaluated == (True,) and final.run.checkpoints == [4]
    assert final.run.how.steps == 4


def test_what_differs_is_said(tiny: dict[str, Any]) -> None:
    points = planned(tiny, optimizer=BOTH).points("var-mclr")[:2]
    texts = [canonical(point.run.hyperparameters) for point in points]
    assert varying(texts) == {"optimizer.ema.evaluate"}
    assert describe(texts[1], varying(texts)) == "weights=average"


def test_numbers_of_the_section_are_swept(tiny: dict[str, Any]) -> None:
    optimizer = {"name": "adamw", "weight_decay": 0.1, "ema": {"std": 0.1}}
    sweep = {"optimizer.weight_decay": [0.01, 0.1], "optimizer.ema.std": [0.05, 0.1]}
    plan = planned(tiny, optimizer=optimizer, sweep=sweep)
    runs = [run for run in plan.of("var-mclr") if run.seed == 0]
    assert [run.settings.how.weight_decay for run in runs if run.settings] == [0.01, 0.01, 0.1, 0.1]
    assert runs[1].run_id == "var-mclr-weight_decay0.01-std0.1-seed0"


# ------------------------------------------------------------------ epochs


def test_steps_in_epochs(tiny: dict[str, Any]) -> None:
    """1,000 of 1,797 digits are trained on: minibatches that are complete."""
    del tiny["runs"]["var-mclr"]["checkpoints"]
    plan = planned(tiny, epochs=[0.001, 0.1, 1.5], batch=16)
    assert plan.runs["var-mclr-seed0"].checkpoints == (1, 6, 93)
    run = plan.finetune_spec("var-mclr-seed0").content()["run"]
    assert run["checkpoints"] == [1, 6, 93] and "epochs" not in run


def test_epochs_follow_a_swept_batch(tiny: dict[str, Any]) -> None:
    del tiny["runs"]["var-mclr"]["checkpoints"]
    plan = planned(tiny, epochs=[1], sweep={"batch": [8, 16]})
    assert [run.checkpoints for run in plan.of("var-mclr") if run.seed == 0] == [(125,), (62,)]


def test_a_final_run_cannot_follow_a_swept_batch(tiny: dict[str, Any]) -> None:
    """Its schedule would be that of the first batch; without a schedule there is none to follow."""
    del tiny["runs"]["var-mclr"]["checkpoints"]
    swept = {"epochs": [0.5, 1], "sweep": {"batch": [16, 64]}}
    planned(tiny, **swept)
    tiny["final"] = {"seeds": [7]}
    planned(tiny)
    with pytest.raises(UserError, match=r"sweep\.batch: with `epochs` .* give `checkpoints`"):
        planned(tiny, **swept, optimizer={"schedule": "linear"})


def test_epochs_of_ones_own_images(tiny: dict[str, Any]) -> None:
    del tiny["runs"]["var-mclr"]["checkpoints"]
    data = {"source": "images", "path": "x", "resolution": 8, "n_reference": 50_000}
    tiny["data"] = data | {"reference": "train", "count": 1_281_167}
    plan = planned(tiny, epochs=[0.1, 1], batch=256)
    assert plan.runs["var-mclr-seed0"].checkpoints == (500, 5004)
    tiny["data"] = data | {"count": 1_281_167}
    assert planned(tiny).runs["var-mclr-seed0"].checkpoints[-1] == 4809
    tiny["data"] = data
    with pytest.raises(UserError, match=r"runs\.var-mclr\.epochs: .* data\.count must say"):
        planned(tiny)


def test_what_halves_checkpoints_halves_epochs(tiny: dict[str, Any]) -> None:
    del tiny["runs"]["var-mclr"]["checkpoints"]
    tier = planned(tiny, epochs=[0.1, 0.2, 1]).tier
    (cut,) = (cut for cut in cuts_of(tier) if cut.name == "half of the checkpoints")
    assert cut.tier.runs["var-mclr"].epochs == [0.1, 1]
    assert cut.tier.runs["var-cca"].checkpoints == [4]


def test_epochs_too_short_to_tell_apart(tiny: dict[str, Any]) -> None:
    del tiny["runs"]["var-mclr"]["checkpoints"]
    with pytest.raises(UserError, match=r"are steps \[1, 1\]; they must differ"):
        planned(tiny, epochs=[0.0001, 0.001])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": [1]}, "give steps there, or epochs in their place"),
        ({"optimizer": {"warmup": 2.5}}, "optimizer.warmup: expected whole steps, or a share"),
        ({"optimizer": {"weight_decay": 0.1}}, "optimizer: weight_decay: of adamw alone"),
        ({"optimizer": {"final": 0.1}}, "optimizer: final, hold: a constant rate ends as it was"),
        ({"optimizer": {"ema": {}}}, "optimizer.ema: give either std"),
        ({"optimizer": {"ema": {"std": 0.5}}}, "optimizer.ema.std: "),
        ({"optimizer": {"name": "sgd"}}, "optimizer.name: "),
        ({"optimizer": {"clipp": 1}}, "optimizer.clipp: unknown key, did you mean 'clip'?"),
        ({"sweep": {"optimizer.clip": [1]}}, "sweep.optimizer.clip: expected numbers"),
    ],
)
def test_mistakes(tiny: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        planned(tiny, **changes)
    assert words in str(caught.value) and "runs.var-mclr" in str(caught.value)
