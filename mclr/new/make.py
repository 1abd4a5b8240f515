"""From images to a configuration file: look, choose, write."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mclr.config.tier import Tier
from mclr.cost.table import duration
from mclr.errors import UserError
from mclr.files import write_text
from mclr.new import summary
from mclr.new.given import check_fit, recognise
from mclr.new.machine import load_in_words, this_machine
from mclr.new.propose import Proposal, propose
from mclr.new.sizes import FAMILIES, sizes_for
from mclr.new.survey import survey
from mclr.new.write import Case
from mclr.planning.collection import no_collection
from mclr.terminal import waiting


@dataclass(frozen=True)
class Wanted:
    """What the user asks for; ``output`` None: config/<name>.yaml, ``cores`` None: all."""

    name: str
    images: str
    output: Path | None = None
    base: Path | None = None
    tokenizer: Path | None = None
    hours: float = 8.0
    cores: int | None = None
    force: bool = False
    resolution: int | None = None
    flip: bool = False

    @property
    def path(self) -> Path:
        return self.output or Path("config", f"{self.name}.yaml")


@dataclass(frozen=True)
class Made:
    """What was written, and from what."""

    case: Case
    proposal: Proposal


def make(
    wanted: Wanted, threads: int, device: str, tell: Callable[[str], None] = lambda _: None
) -> Made:
    """Write a configuration; ``tell`` gets the summary of the images as soon as it is known.

    Raises:
        UserError: the name or the images will not do, the file exists, the base model does not
            fit, or nothing is done in time; nothing is written then.
    """
    _check_name(wanted.name)
    if wanted.path.exists() and not wanted.force:
        raise UserError(
            f"{wanted.path}: there is such a file already; choose another NAME or --output, or "
            "write over it with --force"
        )
    if not wanted.path.parent.is_dir():
        raise UserError(
            f"{wanted.path.parent}: no such folder here; run this in the checkout, or say with "
            "--output where the configuration is to be"
        )
    if wanted.tokenizer and not wanted.base:
        raise UserError("--tokenizer: is that of a base model; give --base, or leave it out")
    if wanted.resolution:
        _check_resolution(wanted.resolution, wanted.base)
    busy = load_in_words()
    base = recognise(wanted.base, wanted.tokenizer) if wanted.base else None
    found = survey(_from_here(wanted.images), threads)
    tell(summary.as_text(found) + "\n")
    if wanted.resolution and wanted.resolution > found.sides[1]:
        raise UserError(
            f"--resolution {wanted.resolution}: half of the images have a short side of "
            f"{found.sides[1]} pixels or less; give no more than that"
        )
    if base:
        check_fit(base, found)
        for line in base.assumed:
            tell(line + "\n")
    machine = this_machine(wanted.cores, device)
    case = Case(
        wanted.name, str(wanted.path), found, machine, wanted.hours, wanted.resolution, wanted.flip
    )
    if busy:
        tell(busy + "\n")
    with waiting("mclr new") as progress, no_collection():
        proposal = propose(case, base, progress)
    write_text(wanted.path, proposal.text)
    return Made(case, proposal)


def _check_name(name: str) -> None:
    try:
        Tier.model_validate({"tier": name})
    except ValidationError as error:
        wrong = [item for item in error.errors() if item["loc"] == ("tier",)]
        if wrong:
            raise UserError(
                f"NAME: {name!r} is no name for a tier ({wrong[0]['msg']}); expected small "
                "letters, digits and hyphens, beginning with a letter"
            ) from None


def _check_resolution(resolution: int, base: Path | None) -> None:
    if base:
        raise UserError("--resolution: is that of the base model; leave one of the two out")
    if resolution not in FAMILIES:
        sides = ", ".join(map(str, FAMILIES))
        raise UserError(
            f"--resolution {resolution}: no networks for that side; choose from {sides} pixels"
        )


def _from_here(path: str) -> str:
    """A path below this folder is relative to it, so that the checkout may move."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def commands(made: Made) -> list[str]:
    """What to run next."""
    case = made.case
    output = shlex.quote(case.output)
    count = case.found.count
    return [
        f"mclr plan {output} --images {count}",
        f"snakemake --configfile {output} --cores {case.machine.jobs} -- all",
    ]


def as_text(made: Made) -> str:
    """What was chosen, what it takes, and what to run next."""
    tier, seconds = made.proposal.tier, made.proposal.seconds
    (model,) = tier.models.values()
    ((name, run),) = tier.tuned.items()
    settings = math.prod(len(values) for values in run.sweep.values())
    tried = f"{settings} setting{'s' if settings > 1 else ''}"
    steps = ", ".join(map(str, run.checkpoints))
    trained = f"{made.proposal.choice.images:,} images" if made.proposal.choice.images else "given"
    scales = ", ".join(f"{scale:g}" for scale in model.guidance)
    classes = ", classes as in the reference" if tier.evaluation.labels == "proportional" else ""
    measured = f"{tier.evaluation.n_samples:,} images each{classes}, by {', '.join(tier.features)}"
    lines = [
        f"{made.case.output}: about {duration(seconds)} on {made.case.machine.text}",
        f"  model              {model.label}, base training: {trained}",
        f"  {name:<18} {tried}, measured after {steps} steps",
        f"  compared with      the base model, and CFG at γ = {scales}",
        f"  measured on        {measured}",
        *_made_smaller(made),
        "",
        "Next, what it costs, and all of it:",
        *(f"  {command}" for command in commands(made)),
    ]
    return "\n".join(lines)


def _made_smaller(made: Made) -> list[str]:
    """A warning, if images become smaller than the largest that there are networks for."""
    case, choice = made.case, made.proposal.choice
    side, chosen = case.found.sides[1], choice.size.resolution
    largest = max((size.resolution for size in sizes_for(side)), default=chosen)
    if choice.base or case.resolution or chosen >= largest:
        return []
    return [
        f"  made smaller       {side} pixels (median short side) become {chosen}×{chosen}; to keep "
        f"more, give more --hours, or --resolution {2 * chosen}"
    ]


def as_numbers(made: Made) -> dict[str, Any]:
    """The same for programs, with everything that was found in the images."""
    case, proposal = made.case, made.proposal
    return {
        "config": case.output,
        "images": summary.as_json(case.found),
        "machine": {"name": case.machine.text, "jobs": case.machine.jobs},
        "tier": proposal.tier.model_dump(mode="json", by_alias=True),
        "seconds": round(proposal.seconds),
        "commands": commands(made),
    }
