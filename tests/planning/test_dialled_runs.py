"""Runs whose network has a dial: points for its values, specifications, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mclr.config.reading import parse_tier
from mclr.errors import UserError
from mclr.files import write_json
from mclr.jobs.evaluation import _selected
from mclr.jobs.selection import select
from mclr.jobs.training import selected_spec
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan
from mclr.planning.points import FINAL
from mclr.planning.specs import FinetuneSpec, SampleSpec
from mclr.report.edges import edges_of
from mclr.report.methods import methods_for
from mclr.settings.section import canonical

VALUES = [0.25, 0.5, 1.0]


def with_run(tiny: dict[str, Any], **changes: Any) -> dict[str, Any]:
    run = {"model": "edm2", "objective": {"name": "gft", "beta": "input"}, "lr": 0.001}
    run |= {"batch": 8, "checkpoints": [2, 4], "dial": VALUES}
    tiny["runs"]["edm2-gft"] = run | changes
    return tiny


def planned(tiny: dict[str, Any], **changes: Any) -> Plan:
    return Plan(parse_tier(with_run(tiny, **changes), "tiny.yaml"))


def test_every_checkpoint_is_measured_at_every_value(tiny: dict[str, Any]) -> None:
    plan = planned(tiny)
    points = [p for p in plan.points("edm2-gft") if p.seed == 0]
    assert [(p.step, p.run.value) for p in points] == [(s, v) for s in (2, 4) for v in VALUES]
    assert {p.method for p in points} == {"gft+dial"}
    assert len({p.path for p in plan.points("edm2-gft")}) == 2 * len(points)
    rows = plan.evaluate_spec("edm2-gft").points
    assert [row.hyperparameters["dial"] for row in rows[:3]] == VALUES
    assert {row.hyperparameters["beta"] for row in rows} == {"input"}
    assert {row.nfe for row in rows} == {plan.tier.models["edm2"].nfe_of(guided=False)}
    assert {(row.guidance, row.dial) for row in rows} == {(0.0, 1.0)}  # no CFG, weights as trained


def test_sampling_is_told_of_the_dial_and_training_not_of_its_values(tiny: dict[str, Any]) -> None:
    plan = planned(tiny)
    specs = [plan.sample_spec(p) for p in plan.points("edm2-gft") if p.seed == 0][:3]
    assert [spec.beta for spec in specs] == VALUES
    assert all(spec.content()["network"]["dial"] is True for spec in specs)
    assert SampleSpec.model_validate_json(canonical(specs[0])) == specs[0]
    trained = plan.finetune_spec("edm2-gft-seed0")
    assert trained == planned(tiny, dial=[0.1]).finetune_spec("edm2-gft-seed0")
    assert '"dial"' not in canonical(trained)
    assert FinetuneSpec.model_validate_json(canonical(trained)) == trained


def test_specifications_of_other_runs_are_as_they_were(tiny: dict[str, Any]) -> None:
    """No key of a dial may appear in them: their text keys states and results."""
    plan = planned(tiny)
    for experiment in ("edm2-mclr", "edm2-base", "var-cca"):
        for point in plan.points(experiment):
            content = plan.sample_spec(point).content()
            assert "beta" not in content and "dial" not in content["network"]
            assert "beta-" not in point.path
    fixed = planned(tiny, objective={"name": "gft", "beta": 0.5}, dial=[])
    assert '"dial"' not in canonical(fixed.finetune_spec("edm2-gft-seed0"))
    assert {p.method for p in fixed.points("edm2-gft")} == {"gft"}


def test_the_final_seeds_are_sampled_at_the_value_that_was_selected(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    tiny["final"] = {"seeds": [7]}
    plan = planned(tiny)
    (point,) = plan.evaluations["edm2-gft-final"]
    jobs = Jobs(plan)
    assert point.is_selected and plan.sample_spec(point).beta is None
    assert jobs.sample(point.path, 0).inputs["selection"] == [plan.files.selection("edm2-gft")]
    grid = plan.evaluations["edm2-gft"]
    assert all(jobs.sample(p.path, 0).inputs["selection"] == [] for p in grid)
    rows = [
        row.model_dump() | {"fd_cnn": abs(row.hyperparameters["dial"] - 0.5) + (row.step == 4)}  # type: ignore[operator]
        for row in plan.evaluate_spec("edm2-gft").points
    ]
    evaluation, selection = tmp_path / "evaluation.json", tmp_path / "selection.json"
    write_json(evaluation, {"rows": rows})
    select(evaluation, "cnn", selection)
    told = selected_spec(plan.finetune_spec("edm2-gft-final-seed7"), selection)
    assert told.run.objective.needs.dial and told.run.checkpoints == [2]
    assert told.identity.hyperparameters["dial"] == 0.5
    from mclr.files import read_json
    from mclr.jobs.sampling import _value

    assert _value(plan.sample_spec(point), selection) == 0.5
    with pytest.raises(UserError, match="give --selection"):
        _value(plan.sample_spec(point), None)
    (final,) = plan.evaluate_spec("edm2-gft-final").points
    assert _selected(final, read_json(selection))["hyperparameters"]["dial"] == 0.5
    assert final.stage == FINAL


def test_raw_weights_and_their_average_each_have_all_values(tiny: dict[str, Any]) -> None:
    plan = planned(tiny, optimizer={"ema": {"std": 0.1, "evaluate": "both"}})
    points = [p for p in plan.points("edm2-gft") if p.seed == 0]
    assert len({canonical(p.run.hyperparameters) for p in points}) == 2 * len(VALUES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dial": []}, "runs.edm2-gft.dial: β is an input, so say at which values"),
        ({"dial": [0]}, "greater than 0"),
        ({"dial": [1.5]}, "less than or equal to 1"),
        ({"dial": [0.5, 0.5]}, "values must differ"),
        ({"objective": {"name": "gft", "beta": 0.5}}, "is of gft with `beta: input` alone"),
        ({"objective": {"name": "mclr"}}, "is of gft with `beta: input` alone"),
        (
            {"objective": {"name": "gft", "beta": "often"}},
            "beta: input should be 'input', got 'often'",
        ),
        ({"sweep": {"objective.beta": [0.1]}}, "expected numbers for a key of this run"),
    ],
)
def test_what_is_refused(tiny: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        planned(tiny, **changes)


def test_another_round_does_not_start_from_a_dial(tiny: dict[str, Any]) -> None:
    tiny["runs"]["edm2-mclr"]["from"] = "edm2-gft"
    with pytest.raises(UserError, match="edm2-gft has a dial; start from a network without one"):
        planned(tiny)


def test_families_that_cannot_have_one_are_named(tiny: dict[str, Any]) -> None:
    own = {"family": "own", "label": "Own", "implementation": "x.py:X", "nfe": 2, "guidance": []}
    own["base"] = {"seed": 0, "steps": 2, "batch": 4, "lr": 0.1, "label_dropout": 0.1}
    own["base"] |= {"warmup_steps": 0, "weight_decay": 0}  # type: ignore[operator]
    tiny["models"]["own"] = own
    with pytest.raises(UserError, match=r"networks of models\.own cannot take β as an\s+input"):
        planned(tiny, model="own")


def test_every_point_counts(tiny: dict[str, Any]) -> None:
    """Of more points than a tier may have, so many are said that the values are among them."""
    many = [i / 60_000 for i in range(1, 60_001)]
    with pytest.raises(UserError, match=r"24\d,\d{3} points would be evaluated"):
        planned(tiny, dial=many)


def test_an_edge_of_the_dial_is_marked_but_for_its_end(tiny: dict[str, Any]) -> None:
    import pandas as pd

    plan = planned(tiny)
    rows = [
        row.model_dump() | {"hyperparameters": canonical(row.hyperparameters), "n_samples": 20}
        for row in plan.evaluate_spec("edm2-gft").points
        if row.seed == 0 and row.step == 2
    ]
    metrics = pd.DataFrame(
        [*rows, rows[1] | {"step": 4}, rows[0] | {"step": 4}, rows[2] | {"step": 4}]
    )
    found = [edges_of(metrics, plan.tier, row) for row in rows]
    assert found == [("dial smallest",), (), ()]  # 1, no guidance, is the end of the dial


def test_it_is_a_row_of_its_own(tiny: dict[str, Any]) -> None:
    methods = methods_for(planned(tiny).tier, "edm2")
    assert methods["gft+dial"].in_table and methods["gft+dial"].dial
    assert methods["gft+dial"].suffix != methods["gft"].suffix
