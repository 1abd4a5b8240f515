"""The model card: what a model is, how it was made, how good it is, and how to use it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from mclr.data.releases import released_row
from mclr.files import read_json, write_text
from mclr.inference.folder import CARD, SAMPLES, ModelConfig
from mclr.inference.licence import licence_for, parts_of, stated_licence
from mclr.inference.markdown import Raw, escaped, fenced, joined
from mclr.inference.measured import HEADER, Measured, measure, protocols
from mclr.inference.objectives import BASES, LIKELIHOODS
from mclr.inference.source import Source, without_places
from mclr.provenance import UNKNOWN
from mclr.report.methods import methods_for
from mclr.report.rows import COLUMNS
from mclr.report.verdict import RULE
from mclr.settings.origin import Released
from mclr.settings.section import plain


def write_card(
    source: Source, config: ModelConfig, output: Path, licence: str | None = None
) -> Path:
    """Write ``README.md`` into the model folder.

    licence: of the weights; that of the base model, if others trained that, where it is None.

    Raises:
        UserError: metrics, protocols or provenance of the run are missing.
    """
    template = files("mclr.inference").joinpath("card.md.j2").read_text(encoding="utf-8")
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=escaped
    )
    environment.filters |= {"raw": Raw, "joined": joined, "fenced": fenced}
    parts = parts_of(source.model, source.run.taken)
    text = environment.from_string(template).render(
        _content(source, config) | {"licence": licence_for(parts, licence)}
    )
    write_text(output / CARD, text.rstrip() + "\n")
    return output / CARD


def _content(source: Source, config: ModelConfig) -> dict[str, Any]:
    run, names = source.run, config.images.class_names
    found = measure(source)
    family = str(config.network["family"])
    method = methods_for(source.tier, run.model)[run.method]
    return {
        "title": method.suffix,
        "model": source.model,
        "run": run,
        "family": family,
        "latents": config.network.get("autoencoder") is not None,
        "source": source,
        "config": config,
        **_own(source),
        "names": names,
        "examples": json.dumps(names[:2], ensure_ascii=not "".join(names[:2]).isprintable()),
        "numbers": ",".join(str(i) for i in range(min(2, len(names)))),
        "objective": BASES[family] if run.is_base else method,
        "likelihood": LIKELIHOODS[family],
        "images_seen": _images_seen(source),
        "settings": _yaml(_settings(source)),
        "nfe": source.model.nfe_of(guided=False),
        "measured": found,
        "rule": RULE,
        "header": HEADER,
        "columns": COLUMNS,
        "recall": _recall(found, run.is_base),
        "protocol": _protocol(source, found[0].protocol),
        "provenance": _provenance(source),
        "released": _released(source.model.base),
        "tuned": _released(source.run.taken),
        "samples": SAMPLES if source.grid.is_file() else "",
    }


def _own(source: Source) -> dict[str, str]:
    """Module and class of a family of one's own, by their names alone; '' of others."""
    place, _, name = source.spec["network"].get("implementation", "").rpartition(":")
    return {"own_file": re.sub(r"\W", "_", Path(place).stem), "own_class": name}


def _released(weights: object) -> dict[str, str] | None:
    """Where weights that others trained come from, and their licence; None of weights made here."""
    if not isinstance(weights, Released):
        return None
    row = released_row(weights.released) or {}
    return {
        "name": Path(weights.released).name,
        "url": row.get("url", ""),
        "licence": stated_licence(weights.released),
    }


def _images_seen(source: Source) -> int:
    trained = source.run.settings or source.model.base
    return 0 if isinstance(trained, Released) else source.step * trained.batch


def _settings(source: Source) -> dict[str, Any]:
    """Hyperparameters of everything that was trained or is used to draw."""
    model = source.model.model_dump(mode="json", by_alias=True)
    found: dict[str, Any] = {}
    if source.run.settings:
        tuned, how = dict(source.spec["run"]), source.run.settings.optimizer
        tuned |= {"optimizer": plain(how)} if how else {}  # which weights these are
        shown = ("objective", "lr", "batch", "optimizer", "noise")
        kept = {key: tuned[key] for key in shown if tuned.get(key)}
        found["fine_tuning"] = kept | {"steps": source.step, "seed": source.run.seed}
    found["base"] = model["base"]
    for key in ("noise", "network", "precision", "autoencoder", "tokenizer", "sampler"):
        if model.get(key) is not None:
            found[key] = model[key]
    settings: dict[str, Any] = without_places(found)
    return settings


def _yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100).rstrip()


def _recall(found: list[Measured], is_base: bool) -> str:
    """How coverage changed with fine-tuning, in words; nothing for a base model."""
    first = found[0]
    if is_base or not first.base_recall or not first.own_recall:
        return ""
    return f"recall is {first.own_recall}; that of the base model is {first.base_recall}"


def _protocol(source: Source, protocol: str) -> str:
    return _yaml(protocols(source)[protocol])


def _provenance(source: Source) -> list[tuple[str, str]]:
    """(fact, value) of the runs that made the weights."""
    facts: list[tuple[str, str]] = []
    runs = [source.run] if source.run.is_base else [source.run, source.base_run]
    for run in runs:
        made = read_json(source.results / "runs" / run.run_id / "provenance.json")
        facts += [
            (f"{run.run_id}: git commit", _commit(made)),
            (f"{run.run_id}: sha256 of the configuration", made["config_sha256"]),
            (f"{run.run_id}: code", made["code"]),
            (f"{run.run_id}: machine", f"{made['hardware']}; Python {made['python']}"),
        ]
    packages = made["packages"]
    return [*facts, ("packages", ", ".join(f"{n} {v}" for n, v in sorted(packages.items())))]


def _commit(made: Mapping[str, Any]) -> str:
    """The commit of a run, and whether that was all of its code; older records leave it empty."""
    commit = made["git_commit"] or UNKNOWN
    if made["git_dirty"] is None and commit != UNKNOWN:
        return f"{commit} (with or without uncommitted changes)"
    return f"{commit} (with uncommitted changes)" if made["git_dirty"] else commit
