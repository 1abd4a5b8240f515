"""Final rows whose base models are their own: what is trained, from what, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiers import ROOT

from mclr.config.reading import load_tier, parse_tier
from mclr.cost.estimate import Machines, estimate
from mclr.errors import UserError
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan

FILE = ROOT / "tests/workflow/bases.yaml"


@pytest.fixture
def content() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return found


def dag(content: dict[str, Any]) -> Jobs:
    return Jobs(Plan(parse_tier(content, "bases")))


def test_bases_take_turns_where_there_are_fewer_than_seeds(content: dict[str, Any]) -> None:
    def bases(**final: Any) -> list[str]:
        plan = dag(content | {"final": final}).plan
        points = plan.evaluations["pixel-base-final"]
        return [p.run.run_id.removeprefix("pixel-base") for p in points if p.guidance == 0]

    seeds = [1, 2, 3, 4, 5]
    assert bases(seeds=seeds, bases=5) == [f"-seed{s}" for s in seeds]
    assert bases(seeds=seeds, bases=3) == [f"-seed{s}" for s in (1, 2, 3, 1, 2)]
    assert bases(seeds=seeds) == [""] * 5


def test_a_base_of_its_own_has_another_seed_and_nothing_else(content: dict[str, Any]) -> None:
    plan = dag(content).plan
    own, spec = (
        plan.base_spec("pixel").content(),
        plan.final_base_spec("pixel-base-seed2").content(),
    )
    assert spec["base"] == own["base"] | {"seed": 2}
    assert spec["identity"] == own["identity"] | {"seed": 2}
    assert {k: v for k, v in spec.items() if k not in ("base", "identity")} == {
        k: v for k, v in own.items() if k not in ("base", "identity")
    }


def test_the_grid_and_its_studies_stay_as_they_are(content: dict[str, Any]) -> None:
    with_bases, without = dag(content), dag(content | {"final": {"seeds": [1, 2, 3]}})
    later = ("final", "metrics", "figures", "report")
    grid = [name for name in without.by_name if not any(part in name for part in later)]
    assert len(grid) > 20
    for name in grid:
        assert with_bases.by_name[name].inputs == without.by_name[name].inputs
        assert with_bases.by_name[name].outputs == without.by_name[name].outputs
    finetuned = "finetune_final:pixel-mclr-final-seed3"
    assert with_bases.by_name[finetuned].spec == without.by_name[finetuned].spec


def test_a_base_that_others_trained_is_not_trained_again(content: dict[str, Any]) -> None:
    content["models"]["pixel"]["base"] = {"released": "mine/base.pkl"}
    jobs = dag(content)
    assert not jobs.final_bases("pixel")
    start = jobs.by_name["finetune_final:pixel-mclr-final-seed1"].inputs["base"]
    assert start == jobs.plan.start_checkpoint("pixel")


def test_more_bases_than_seeds_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="final: bases 4: expected at most one for each of the 3"):
        parse_tier(content | {"final": {"seeds": [1, 2, 3], "bases": 4}}, "bases")


def test_a_round_needs_the_final_rows_of_the_one_before(content: dict[str, Any]) -> None:
    content["runs"]["pixel-ddo"]["final"] = False
    with pytest.raises(UserError, match=r"pixel-ddo-2\.from: with final\.bases, pixel-ddo needs"):
        parse_tier(content, "bases")
    parse_tier(content | {"final": {"seeds": [1]}}, "bases")


def test_a_name_that_a_base_has_is_refused(content: dict[str, Any]) -> None:
    content["runs"]["pixel-base-seed1"] = content["runs"]["pixel-mclr"]
    with pytest.raises(UserError, match="pixel-base-seed1: is the name of a base"):
        dag(content)


def test_bases_are_priced() -> None:
    tier = load_tier(FILE)
    one = tier.model_copy(update={"final": tier.final.model_copy(update={"bases": None})})  # type: ignore[union-attr]
    machines = Machines("h100", 1, 0.2)
    with_bases, without = (estimate(t, machines, Path("none")) for t in (tier, one))
    (three,), (single,) = (
        [rule for rule in found.rules if rule.rule == "base"] for found in (with_bases, without)
    )
    assert (three.jobs, single.jobs) == (3, 1)
    assert three.work.macs == pytest.approx(3 * single.work.macs)
    assert with_bases.disk["checkpoints"] > without.disk["checkpoints"]
    assert any(cut.name == "one final seed" and cut.jobs > 9 for cut in with_bases.cuts)
