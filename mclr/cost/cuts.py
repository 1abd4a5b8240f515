"""What to leave out first: smaller versions of a tier, what each saves, and at what price."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mclr.config.objectives import FineTuning
from mclr.config.reading import parse_tier
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.objectives.catalogue import METHODS

FEWER_SAMPLES = 5  # 10,000 for 50,000


@dataclass(frozen=True)
class Cut:
    """A smaller tier: what was cut, and what that does to FD."""

    name: str
    effect: str
    tier: Tier

    def sample_ratio(self, whole: Tier) -> float:
        """How many times fewer samples a point has."""
        return whole.evaluation.n_samples / self.tier.evaluation.n_samples


def cuts_of(tier: Tier) -> Iterator[Cut]:
    """Each cut that changes the tier and leaves a valid one."""
    for name, effect, edit in (
        ("half of the guidance scales", "same error; best scale known half as well", _scales),
        ("half of the checkpoints", "same error; best step known half as well", _checkpoints),
        (f"1/{FEWER_SAMPLES} of the samples", "", _samples),
        ("one final seed", "same error; no deviation over seeds", _seeds),
        ("no further rounds of DDO", "same error; DDO as its first round leaves it", _rounds),
        ("no ablations, no studies", "same error; Table 1 and its curves alone", _ablations),
    ):
        content: dict[str, Any] = tier.model_dump(mode="json", by_alias=True)
        edit(content)
        try:
            smaller = parse_tier(content, name)
        except UserError:  # too small for the tier's own rules, such as a batch per shard
            continue
        if smaller != tier:
            yield Cut(name, effect, smaller)


def _scales(content: dict[str, Any]) -> None:
    for model in content["models"].values():
        model["guidance"] = model["guidance"][::2]


def _checkpoints(content: dict[str, Any]) -> None:
    """Every other one; the last stays."""
    for run in _tuned(content).values():
        key = "epochs" if "epochs" in run else "checkpoints"
        run[key] = run[key][::-2][::-1]


def _samples(content: dict[str, Any]) -> None:
    content["evaluation"]["n_samples"] //= FEWER_SAMPLES


def _seeds(content: dict[str, Any]) -> None:
    if content["final"]:
        content["final"]["seeds"] = content["final"]["seeds"][:1]
        if content["final"].get("bases"):
            content["final"]["bases"] = 1


def _rounds(content: dict[str, Any]) -> None:
    """No experiment that starts from another one's best checkpoint."""
    runs = content["runs"]
    content["runs"] = {name: run for name, run in runs.items() if not run.get("from")}
    _without_lost_studies(content)


def _ablations(content: dict[str, Any]) -> None:
    """What the tier marks as such; of a tier without final runs, all but the first of a method."""
    runs, every = _tuned(content), content["runs"]
    if content["final"]:
        kept = [name for name, run in runs.items() if run["final"]]
    else:
        firsts: dict[tuple[str, str], str] = {}
        for name, run in runs.items():
            method = FineTuning.model_validate(run).objective.method
            known = METHODS.get(method)
            if not known or known.in_table or (known.if_final and run["final"]):
                firsts.setdefault((run["model"], method), name)
        kept = [name for name, run in runs.items() if run["from"] or name in firsts.values()]
    content["runs"] = {n: run for n, run in every.items() if n in kept or n not in runs}
    content["studies"], content["separation"] = {}, None


def _tuned(content: dict[str, Any]) -> dict[str, Any]:
    """The runs that train."""
    return {name: run for name, run in content["runs"].items() if "released" not in run}


def _without_lost_studies(content: dict[str, Any]) -> None:
    known = {*content["runs"], *(f"{model}-base" for model in content["models"])}
    studies = content["studies"].items()
    content["studies"] = {name: study for name, study in studies if name in known}
