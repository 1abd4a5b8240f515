"""Which kinds of job a tier has, and which options its configuration uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mclr.config.tier import Tier
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan
from mclr.report.names import views_of

NAMES = {"tier", "model", "label", "path", "released", "from", "implementation", "name", "seed"}
"""Keys whose values are names or numbers that no code asks about."""


def kinds_of(tier: Tier) -> set[str]:
    """The kinds of job that ``snakemake all`` runs for a tier."""
    return {job.kind for job in Jobs(Plan(tier), views_of(tier)).behind()}


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
    for run in tier.tuned.values():
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
