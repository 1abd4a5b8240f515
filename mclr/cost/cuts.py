"""What to leave out first: smaller versions of a tier, what each saves, and at what price."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.read_config import parse_tier

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
    for run in content["runs"].values():
        run["checkpoints"] = run["checkpoints"][::-2][::-1]


def _samples(content: dict[str, Any]) -> None:
    content["evaluation"]["n_samples"] //= FEWER_SAMPLES


def _seeds(content: dict[str, Any]) -> None:
    if content["final"]:
        content["final"]["seeds"] = content["final"]["seeds"][:1]


def _ablations(content: dict[str, Any]) -> None:
    content["runs"] = {name: run for name, run in content["runs"].items() if run["final"]}
    content["studies"], content["separation"] = {}, None
