"""What a job is told is the same before and after it has been JSON on a command line."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from tiers import NAMES, PUBLISHED, ROOT, content_of, jobs_of

from mclr.config.reading import parse_tier
from mclr.metrics.features import SETTINGS
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan
from mclr.planning.specs import ENCODING, BaseSpec, TokenizerSpec
from mclr.report.names import views_of
from mclr.settings.section import canonical

READ_AS = {
    **dict.fromkeys(("encode", "encode_pixels"), ENCODING),
    **dict.fromkeys(("feature_net", "published_net"), SETTINGS),
}
"""Rules whose commands tell several types of specification apart."""


@pytest.mark.parametrize("name", NAMES)
def test_every_specification_survives_json(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    specs = [(job, job.spec) for job in jobs_of(name).by_name.values() if job.specify]
    assert {job.rule for job, _ in specs} >= {"finetune", "sample", "evaluate", "floors"}
    for job, spec in specs:
        text = canonical(spec)
        again = type(spec).model_validate_json(text)
        assert again == spec and canonical(again) == text, job.name
        read = READ_AS[job.rule].validate_json(text) if job.rule in READ_AS else again
        assert type(read) is type(spec) and canonical(read) == text, job.name


def test_a_key_without_a_value_is_absent(tiny_plan: Plan) -> None:
    spec = tiny_plan.base_spec("edm2")
    assert set(spec.content()) == {"identity", "base", "network", "precision", "noise"}
    assert "sampler" in BaseSpec.model_fields and spec.sampler is None
    assert TokenizerSpec().content() == {}
    more = spec.with_(sampler=tiny_plan.sample_spec(tiny_plan.points("edm2-base")[0]).sampler)
    assert set(more.content()) - set(spec.content()) == {"sampler"}


def test_a_changed_copy_is_checked(tiny_plan: Plan) -> None:
    point = tiny_plan.points("edm2-base")[0]
    spec = tiny_plan.sample_spec(point)
    assert spec.with_(shards=1).content() == spec.content() | {"shards": 1}
    assert spec == tiny_plan.sample_spec(point)
    for wrong in ({"shards": 0}, {"shard": 1}, {"guide": "nobody"}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            spec.with_(**wrong)


def other_numbers(content: Any, floats: bool) -> Any:
    """The same with whole numbers written the other way: 1 as 1.0, or 1.0 as 1."""
    if isinstance(content, dict):
        return {key: other_numbers(value, floats) for key, value in content.items()}
    if isinstance(content, list):
        return [other_numbers(value, floats) for value in content]
    if isinstance(content, bool) or not isinstance(content, int | float):
        return content
    return float(content) if floats else int(content) if content == int(content) else content


@pytest.mark.parametrize("floats", [True, False])
@pytest.mark.parametrize("name", dict.fromkeys((*NAMES, *PUBLISHED)))
def test_one_and_one_point_zero_are_the_same_runs(
    name: str, floats: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Specifications and names of runs and points; as YAML has them, and as JSON gives them back.

    Options of a family of one's own go to its class as they are written.
    """
    monkeypatch.chdir(ROOT)
    content = content_of(name)
    other = other_numbers(content, floats)
    for model, settings in content["models"].items():
        if "options" in settings:
            other["models"][model]["options"] = settings["options"]
    found = []
    for told in (content, other):
        tier = parse_tier(told, name)
        jobs = Jobs(Plan(tier), views_of(tier)).by_name.values()
        found.append([(j.name, j.outputs, canonical(j.spec) if j.specify else "") for j in jobs])
    assert found[0] == found[1]


def test_settings_of_ones_own_objective_have_one_form(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    found = set()
    for one in (1, 1.0, "1e0", "1"):
        objective = {"implementation": "docs/examples/own_objective.py:Ipo", "beta": one, "K": 2}
        run = tiny["runs"]["edm2-mclr"] | {"objective": objective}
        plan = Plan(parse_tier(tiny | {"runs": {"own": run}}, "tiny"))
        found.add(canonical(plan.finetune_spec("own-seed0")))
    assert len(found) == 1 and '"beta":1,' in found.pop()
