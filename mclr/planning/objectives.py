"""Objectives of the user's own, checked once: before anything of theirs runs as a job."""

from __future__ import annotations

from mclr.errors import UserError
from mclr.objectives.catalogue import METHODS
from mclr.objectives.own import Own
from mclr.planning.plan import Plan


def check_objectives(plan: Plan) -> None:
    """Load the class of every objective of one's own, with every value that is swept.

    Raises:
        UserError: it names the key of the run, and what is wrong with file, class or settings.
    """
    known: dict[str, str] = {}
    for run in plan.runs.values():
        own = run.settings.objective if run.settings else None
        if not isinstance(own, Own):
            continue
        where = f"runs.{run.experiment}.objective"
        other = known.setdefault(run.method, own.implementation)
        if run.method in METHODS or other != own.implementation:
            taken = "the catalogue" if run.method in METHODS else other
            raise UserError(
                f"{where}.implementation: its class is called {run.method!r} in results, a name "
                f"that {taken} has; give the class another one"
            )
        try:
            needs = own.loaded().needs
        except UserError as error:
            raise UserError(f"{where}.{error}") from error
        if needs.noisy and plan.model(run).noise is None:
            raise UserError(
                f"{where}: {run.method} asks for likelihoods of noisy samples, which diffusion "
                f"models alone have; runs.{run.experiment}.model is none"
            )
