"""What a tier has before its Table 1 is made: a line per experiment, and what to do with each."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from mclr.config.evaluation import fd_and_rest
from mclr.config.reading import parse_tier, read_yaml
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.events import ended, read_events
from mclr.files import read_json
from mclr.planning.plan import Plan
from mclr.planning.points import Run
from mclr.settings.section import canonical, dotted

SHOWN = 3
"""Keys of a configuration that differ, which are named; of more, the number."""


def what_there_is(tier: Tier, folder: Path, config: Path) -> list[str]:
    """Lines on the experiments that have begun; none where nothing has.

    folder: ``results/<tier>``. config: file of the tier, for the commands that are named.
    """
    plan, given = Plan(tier), f"--configfile {shlex.quote(str(config))} --cores 2"
    lines, missing = [], []
    for experiment in plan.experiments:
        evaluation = folder / "evaluations" / f"{experiment}.json"
        if evaluation.is_file():
            lines += [f"{experiment}: {text}" for text in _measured(evaluation, tier)]
            lines += [f"  {text}" for text in _use(plan, experiment, config, given)]
            continue
        runs = plan.of(experiment)
        states = [_state(folder, run) for run in runs]
        finished = sum(state == "finished" for state in states)
        if not any(states):
            missing.append(experiment)
            continue
        lines.append(f"{experiment}: {finished} of {len(runs)} runs finished, not measured yet")
        lines += [f"  {path}" for run in runs for path in _last(plan, run)]
        lines.append(f"  measure it:  snakemake {given} -- {plan.files.evaluation(experiment)}")
    if lines and missing:
        lines.append(f"not begun: {', '.join(missing)}")
    return lines


def edited(tier: Tier, folder: Path) -> str:
    """How a configuration differs from that of the results in ``folder``, in words; '' if not."""
    made_with = folder / "config.yaml"
    if not made_with.is_file():
        return ""
    try:
        before = json.loads(canonical(parse_tier(read_yaml(made_with), str(made_with))))
    except UserError:  # of another version: `snakemake` says what is stale
        return ""
    old, new = dotted(before), dotted(json.loads(canonical(tier)))
    changes = [
        f"{key} {_value(old, key)}, now {_value(new, key)}"
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    ]
    more = f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    return "; ".join(changes[:SHOWN]) + more


def _value(values: dict[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "absent"


def _state(folder: Path, run: Run) -> str:
    """``finished``, ``running``, or '' before a run has begun."""
    events = read_events(folder / "runs" / run.run_id / "events.jsonl")
    return "finished" if ended(events) else "running" if events else ""


def _last(plan: Plan, run: Run) -> Iterator[str]:
    """The last checkpoint of a run that exists."""
    paths = [plan.files.checkpoint(run.run_id, step) for step in run.checkpoints]
    yield from [path for path in paths if Path(path).is_file()][-1:]


def _measured(evaluation: Path, tier: Tier) -> Iterator[str]:
    """Metrics of each method's point of lowest FD, means over its seeds."""
    fd, rest = fd_and_rest(tier.report.features)
    columns = {"FD": f"fd_{fd}", "precision": f"precision_{rest}", "recall": f"recall_{rest}"}
    columns["IS"] = "is_mean"
    points: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in read_json(evaluation, "rows")["rows"]:
        named = canonical({key: row[key] for key in ("hyperparameters", "step", "guidance")})
        points.setdefault(row["method"], {}).setdefault(named, []).append(row)
    for found in points.values():
        rows = min(found.values(), key=lambda rows: fmean(row[f"fd_{fd}"] for row in rows))
        values = (f"{name} {fmean(row[key] for row in rows):.3g}" for name, key in columns.items())
        guidance, step = rows[0]["guidance"], rows[0]["step"]
        where = f"CFG of {guidance:g}" if guidance else f"step {step}"
        yield f"{', '.join(values)} at {where} ({len(rows)} seed{'s' if len(rows) > 1 else ''})"


def _use(plan: Plan, experiment: str, config: Path, given: str) -> Iterator[str]:
    """The command that makes a model folder of it, and what it needs first."""
    first = plan.of(experiment)[0]
    if first.taken:
        return
    best = plan.files.best(experiment)
    if not first.is_base and not Path(best).is_file():
        yield f"keep the best:  snakemake {given} -- {best}"
    place = f"--experiment {experiment} --output my-{experiment}"
    yield f"use it:  mclr export-model --config {shlex.quote(str(config))} {place}"
