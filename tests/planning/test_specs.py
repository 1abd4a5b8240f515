"""What a job is told is the same before and after it has been JSON on a command line."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from tiers import NAMES, ROOT, jobs_of

from mclr.metrics.features import SETTINGS
from mclr.planning.plan import Plan
from mclr.planning.specs import ENCODING, BaseSpec, TokenizerSpec
from mclr.settings.base import canonical

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
