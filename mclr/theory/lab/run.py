"""The theory lab: runs one topic, and gathers all of them into theory.json and theory.html.

Light module: the workflow imports it while parsing, and topics are imported when they run.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from mclr.errors import UserError
from mclr.files import read_json, write_json, write_text
from mclr.report.embedded import file_uri
from mclr.theory.lab.statement import Statement

# Module of mclr.theory → what it is about, in the order of the page.
TOPICS = {
    "figure1": "Figure 1: base models lack class-specificity",
    "theorem1": "Theorem 1: the optimum of MCLR",
    "corollary1": "Corollary 1: MCLR undoes leaks between classes",
    "theorem2": "Theorem 2: the optimum of CC-DPO, and where it runs away",
    "corollary2": "Corollary 2: what CC-DPO undoes",
    "cca": "Appendix C: CCA, and its λ",
    "elbo": "Likelihoods by the ELBO",
    "theorem3": "Theorem 3: weighted MCLR and CFG",
    "corollary3": "Corollary 3: other guidance methods",
    "weighted": "Weighted MCLR in practice",
    "guidance": "Section 2.3: what CFG samples are not",
    "imitation": "Distillation, GFT and MG: what has CFG as its optimum",
    "mixture_denoiser": "A trained denoiser beside the theory",
    "figure3": "Figure 3: what CFG and MCLR do to samples",
}
PACKAGES = ("numpy", "scipy", "torch")
AS_PRINTED = frozenset(
    {
        *("theorem2-words", "theorem2-fixed-prior", "cca-one-strength", "theorem3-form-24-printed"),
        *("elbo-145-printed", "elbo-21-printed", "weighted-other-classes"),
    }
)
"""Sentences and equations of the paper that the computations contradict, as they are printed."""


def module_of(topic: str) -> str:
    """Module of a topic; UserError lists the topics if there is none of that name."""
    if topic not in TOPICS:
        raise UserError(f"theory: unknown topic {topic!r}; expected one of {', '.join(TOPICS)}")
    return f"mclr.theory.topics.{topic}"


def run_topic(topic: str, folder: Path) -> None:
    """Compute a topic: figures into ``<folder>/<topic>/``, then ``<folder>/<topic>.json``.

    Raises:
        UserError: no such topic, or a folder that cannot be written.
    """
    run = importlib.import_module(module_of(topic)).run
    (folder / topic).mkdir(parents=True, exist_ok=True)
    statements: list[Statement] = run(folder / topic)
    write_json(folder / f"{topic}.json", [_plain(statement) for statement in statements])


def _plain(statement: Statement) -> dict[str, Any]:
    """The statement for JSON, which does not take numpy's own kind of numbers."""
    deviation, tolerance = float(statement.deviation), float(statement.tolerance)
    return replace(statement, deviation=deviation, tolerance=tolerance).as_json()


def gather(folder: Path, version: str = "", topics: Iterable[str] = TOPICS) -> dict[str, Any]:
    """Write ``theory.json`` and ``theory.html`` from the results of the topics in ``folder``.

    ``theory.json`` holds every statement with its topic and the files of its figure (relative to
    ``folder``), how many there are, how many hold, and what made them: packages, and ``version`` of
    the result (``workflow/versions.yaml``).

    Raises:
        UserError: a topic has no result, a figure is missing, or two statements share an id.
    """
    sections = {topic: _statements(folder, topic) for topic in topics}
    statements = [statement for section in sections.values() for statement in section]
    ids = [statement["id"] for statement in statements]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise UserError(f"{folder}: statements with one id: {', '.join(twice)}; ids must differ")
    summary = {
        "statements": statements,
        "count": len(statements),
        "holding": sum(statement["holds"] for statement in statements),
        "code": version,
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    write_json(folder / "theory.json", summary)
    write_text(folder / "theory.html", _page(folder, sections, summary))
    return summary


def _statements(folder: Path, topic: str) -> list[dict[str, Any]]:
    """A topic's statements as stored, with their topic and figure files."""
    path = folder / f"{topic}.json"
    if not path.is_file():
        raise UserError(f"{path}: no result; run `mclr theory {topic} --output {folder}` first")
    found = []
    for statement in read_json(path):
        stem = statement["figure"]
        figures = [f"{topic}/{stem}.{kind}" for kind in ("png", "pdf")] if stem else []
        found.append(statement | {"topic": topic, "figures": figures})
    return found


def _page(folder: Path, sections: dict[str, list[dict[str, Any]]], summary: dict[str, Any]) -> str:
    """The page, whole: every figure is embedded once, after the statements it shows."""
    from jinja2 import Environment, StrictUndefined

    template = files("mclr.theory.lab").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    failing = [s for s in summary["statements"] if not s["holds"]]
    content = {
        "sections": [
            {
                "topic": topic,
                "heading": TOPICS[topic],
                "statements": statements,
                "pictures": _pictures(folder, statements),
            }
            for topic, statements in sections.items()
        ],
        "summary": summary,
        "printed": [s for s in failing if s["id"] in AS_PRINTED],
        "failing": [s for s in failing if s["id"] not in AS_PRINTED],
    }
    return environment.from_string(template).render(content)


def _pictures(folder: Path, statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures of a section, each with the statements it shows."""
    shown: dict[str, list[dict[str, Any]]] = {}
    for statement in statements:
        if statement["figures"]:
            shown.setdefault(statement["figures"][0], []).append(statement)
    return [
        {
            "image": file_uri(folder / path, "run its topic again with `mclr theory`"),
            "anchor": Path(path).stem,
            "shows": [s["id"] for s in group],
            "alt": "Figure. It shows: " + "; ".join(s["claim"].rstrip(".") for s in group) + ".",
        }
        for path, group in shown.items()
    ]


def _number(value: float) -> str:
    """Two digits are enough to compare a deviation with its tolerance."""
    return f"{value:.2g}"
