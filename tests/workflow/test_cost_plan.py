"""The jobs whose cost is estimated are those that Snakemake plans."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import yaml
from checkout import MICRO, ROOT, STAGES, by_rule, copy_tree

from mclr.config.reading import parse_tier
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan
from mclr.report.names import views_of


def test_jobs_are_those_of_the_workflow(tmp_path: Path) -> None:
    """Both test tiers in one: every kind of model, objective, stage and study."""
    micro, stages = (yaml.safe_load((ROOT / path).read_text()) for path in (MICRO, STAGES))
    both = {"tier": "both"} | {
        key: value for key, value in stages.items() if key not in ("tier", "models", "runs")
    }
    both["models"], both["runs"] = ({**micro[k], **stages[k]} for k in ("models", "runs"))
    both["evaluation"] |= {"batch": 10, "shards": 2}
    checkout = copy_tree(tmp_path / "checkout", "both.yaml")
    (checkout.folder / "both.yaml").write_text(yaml.safe_dump(both))
    tier = parse_tier(both, "both")
    dag = Jobs(Plan(tier), views_of(tier))
    jobs = dag.behind()
    assert Counter(job.rule for job in jobs) == by_rule(checkout.planned("all"))
    names = {job.name for job in jobs}
    assert len(names) == len(jobs)
    assert all(need in names for job in jobs for need in dag.needs(job))
