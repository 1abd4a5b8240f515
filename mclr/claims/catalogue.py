"""Every claim of the paper's Sections 6, F and G that numbers can answer, and the few they cannot.

Each entry quotes the paper and says what is computed; ``docs/claims.md`` has the rules of decision.
"""

from __future__ import annotations

from mclr.claims import ablations, baselines, guidance, leaks, nets, quality
from mclr.claims.claim import Claim
from mclr.config.tier import Tier


def catalogue() -> tuple[Claim, ...]:
    """All claims, by topic; ids are unique."""
    return (
        *quality.against_base(),
        *quality.training(),
        *quality.separation(),
        *baselines.baselines(),
        *baselines.autoregressive(),
        *guidance.against_cfg(),
        *guidance.trade_offs(),
        *guidance.on_top(),
        *guidance.similarity(),
        *guidance.by_training(),
        *nets.across(),
        *leaks.leaks(),
        *ablations.dsm(),
        *ablations.tuples(),
        *ablations.sensitivity(),
    )


def claims_of(tier: Tier) -> tuple[Claim, ...]:
    """The claims that a tier is asked: all, and those on networks that others released."""
    return (*catalogue(), *baselines.released(tier))
