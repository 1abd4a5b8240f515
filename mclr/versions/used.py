"""Which kinds of job a tier has, and which options its configuration uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mclr.config.features import PublishedFeatures
from mclr.config.models import Model, released_files
from mclr.config.tier import Tier
from mclr.planning.plan import Plan
from mclr.versions import kinds

ALWAYS = (
    *("evaluate", "floors", "metrics", "claims", "similarity"),
    *("effective-config", "table", "figures", "report", "track"),
)
NAMES = {"tier", "model", "label", "path", "released", "from", "implementation", "name", "seed"}
"""Keys whose values are names or numbers that no code asks about."""


def kinds_of(tier: Tier) -> set[str]:
    """The kinds of job that ``snakemake all`` runs for a tier."""
    found = {*ALWAYS, *_of_data(tier)}
    for net in tier.features.values():
        command = "published-net" if isinstance(net, PublishedFeatures) else "feature-net"
        found.add(kinds.of_net(command, net))
    for model in tier.models.values():
        found |= _of_model(tier, model)
    for run in tier.runs.values():
        found.add(kinds.of_finetuning(tier.models[run.model], run.objective))
        if run.final:
            found.add("best")
    if tier.final or tier.studies:
        found.add("select")
    return found & kinds.KINDS.keys()


def _of_data(tier: Tier) -> set[str]:
    released = any(released_files(model) for model in tier.models.values())
    published = any(isinstance(net, PublishedFeatures) for net in tier.features.values())
    found = {"prepare-images"} if tier.data.source == "images" else {"fetch", "prepare"}
    return found | ({"fetch-released"} if released or published else set())


def _of_model(tier: Tier, model: Model) -> set[str]:
    released = released_files(model)
    found = {kinds.of_model("sample", model)}
    roles = {"base": True, "guide": getattr(model, "guide", None) is not None}
    for role in (role for role, there in roles.items() if there):
        found.add(kinds.of_model("import-base" if role in released else "base", model))
    if tier.separation:
        found.add(kinds.of_model("separation", model))
    if getattr(model, "tokenizer", None) or getattr(model, "autoencoder", None):
        command = "import-tokenizer" if "tokenizer" in released else "tokenizer"
        found |= {kinds.of_model(command, model), kinds.of_model("encode", model)}
    elif tier.data.source == "images":
        found.add(f"encode.{kinds.PIXELS}")
    return found


def options_of(tier: Tier) -> set[str]:
    """What a tier's configuration asks for, with numbers told apart as 0, 1 and others.

    ``models.edm2.network.attn_resolutions=list``: a model, run or net is named by its family,
    objective or kind, because other names mean nothing.
    """
    found = {*_leaves("data", tier.data.source, _plain(tier.data))}
    for section in ("evaluation", "final", "separation"):
        found |= {*_leaves(section, "", _plain(getattr(tier, section)))}
    for net in tier.features.values():
        found |= {*_leaves("features", net.kind, _plain(net))}
    for model in tier.models.values():
        found |= {*_leaves("models", model.family, _plain(model))}
    for run in tier.runs.values():
        content = _plain(run)
        content["sweep"] = sorted(run.sweep)
        del content["objective"]
        found |= {*_leaves("runs", tier.models[run.model].family, content)}
    for trained in Plan(tier).runs.values():
        if trained.settings:
            names = f"{tier.models[trained.model].family}.{trained.settings.objective.name}"
            found |= {*_leaves("objectives", names, _plain(trained.settings.objective))}
    for name, study in tier.studies.items():
        of_base = name.removesuffix("-base")
        is_base = of_base in tier.models
        studied = tier.models[of_base if is_base else tier.runs[name].model]
        names = f"{studied.family}.{'base' if is_base else 'tuned'}"
        found |= {*_leaves("studies", names, _plain(study))}
    first, rest = tier.report.nets
    return found | {f"report.features={'one net' if first == rest else 'two nets'}"}


def _plain(section: Any) -> Any:
    return section.model_dump(mode="json", by_alias=True) if section else None


def _leaves(section: str, name: str, content: Any) -> Iterator[str]:
    where = f"{section}.{name}" if name else section
    if isinstance(content, dict):
        for key, value in content.items():
            if key not in NAMES:
                yield from _leaves(where, str(key), value)
    elif content == "sweep" or where.endswith(".sweep"):
        yield from (f"{where}={key}" for key in content)
    else:
        yield f"{where}={_class(content)}"


def _class(value: Any) -> str:
    """What code may ask of a value."""
    if isinstance(value, list):
        return "list" if value else "empty"
    if isinstance(value, bool | str) or value is None:
        return str(value).lower()
    return str(value) if value in (0, 1) else "number"
