"""The fashion tier before anything runs: equal budgets, sources of values, the DAG."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml
from checkout import ROOT, copy_tree

from mclr.config.reading import load_tier
from mclr.planning.plan import Plan

FASHION = "config/fashion.yaml"
COMPARED = ("mclr", "ccdpo", "cca", "ddo")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan(load_tier(ROOT / FASHION))


def test_methods_compared_have_equal_budgets(plan: Plan) -> None:
    """As many settings, checkpoints and images a step for each method of a model."""
    budgets: dict[str, dict[str, list[tuple[object, ...]]]] = {}
    for name, run in plan.tier.runs.items():
        if run.final and run.objective.method in COMPARED:
            settings = len(plan.of(name)), tuple(run.checkpoints), run.batch
            budgets.setdefault(run.model, {}).setdefault(run.objective.method, []).append(settings)
    assert set(budgets) == set(plan.tier.models)
    for model, of_methods in budgets.items():
        first = next(iter(of_methods.values()))
        assert len(first) == 1, model
        assert all(budget == first for budget in of_methods.values()), (model, of_methods)


def test_finals_use_other_seeds_than_the_selection(plan: Plan) -> None:
    assert plan.tier.final is not None and len(plan.tier.final.seeds) >= 3
    for runs in plan.finals.values():
        for run in runs:
            assert run.is_base or run.seed in plan.tier.final.seeds


def test_guidance_scales_are_those_of_the_paper(plan: Plan) -> None:
    """Figure 4."""
    scales = {
        "edm2": [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1, 1.5, 2, 3],
        "var": [0.5, 0.8, 1.1, 1.5, 1.7, 2, 2.5, 3, 4, 5, 7, 10, 15],
    }
    for model in plan.tier.models.values():
        assert model.guidance == scales[model.family]


@pytest.mark.parametrize("config", ["config/digits.yaml", FASHION])
def test_every_number_names_its_source(config: str) -> None:
    """In a comment on its line; in ``runs`` and ``studies`` one above the section will do."""
    text = (ROOT / config).read_text()
    lines = text.splitlines()

    def bare(node: yaml.Node) -> list[str]:
        """The lines of numbers without a comment."""
        if isinstance(node, yaml.ScalarNode):
            line = lines[node.start_mark.line]
            is_number = node.tag.endswith((":int", ":float"))
            return [line] if is_number and "#" not in line else []
        if isinstance(node, yaml.SequenceNode):
            return [line for item in node.value for line in bare(item)]
        return [line for _, value in node.value for line in bare(value)]

    for key, section in yaml.compose(text).value:
        head = lines[key.start_mark.line - 1]
        if key.value not in ("runs", "studies") or not head.startswith("#"):
            assert bare(section) == [], key.value


def test_the_dag_holds_every_job(plan: Plan, tmp_path: Path) -> None:
    tier = plan.tier
    encoders = sum(
        getattr(m, "tokenizer", None) is not None or getattr(m, "autoencoder", None) is not None
        for m in tier.models.values()
    )
    finals = [run for run in plan.runs.values() if run.is_final]
    tuned = [run for run in plan.runs.values() if not run.is_base and not run.is_final]
    points = [point for points in plan.evaluations.values() for point in points]
    selected = {run.experiment for run in finals}
    selected |= {p.run.experiment for p in points if None in (p.guidance, p.step)}
    selected |= {ps[0].run.experiment for ps in plan.evaluations.values() if ps[0].stage != "grid"}
    contrasted = {run.model for run in tuned if run.method == "ddo"}
    smaller = {model.resolution for model in tier.models.values()} - {None}
    expected = Counter(f"base_{model}".replace("-", "_") for model in tier.models)
    expected += Counter(
        f"finetune_{run.run_id}".replace("-", "_").replace(".", "_") for run in tuned
    )
    once = ("fetch", "prepare", "effective_config", "metrics", "table1", "figures", "claims")
    expected += Counter([*once, "similarity", "report", "track"])
    expected += Counter(
        {
            "prepare_smaller": len(smaller),
            "feature_net": len(plan.nets),
            "tokenizer": encoders,
            "encode": encoders,
            "negatives": len(contrasted),
            "finetune_final": len(finals),
            "sample": len(points) * tier.evaluation.shards,
            "evaluate": len(plan.evaluations),
            "floors": len(tier.models),
            "select": len(selected),
            "best": sum(experiment.final for experiment in tier.runs.values()),
            "separation": len(tier.models),
        }
    )
    planned = copy_tree(tmp_path / "checkout", FASHION).planned("all")
    assert planned == expected
