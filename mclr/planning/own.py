"""Classes of the user's own, checked once: before anything of theirs runs as a job."""

from __future__ import annotations

from pathlib import Path

from mclr.errors import UserError
from mclr.models.config import Model
from mclr.objectives.catalogue import METHODS
from mclr.objectives.objective import Needs
from mclr.objectives.own import Own, OwnObjective
from mclr.planning.plan import Plan
from mclr.planning.points import Run
from mclr.settings.implementation import of_others

TAKEN = {
    *("lr", "batch", "checkpoints", "noise", "sweep", "from", "final", "P_mean", "P_std"),
    *("optimizer", "epochs", "recipe"),
    *("experiment", "model", "method", "seed", "step", "guidance", "dial", "nfe", "stage"),
}
"""What results call something else: settings stand beside these, in tables and in MLflow."""


def check_own(plan: Plan, *configs: Path) -> None:
    """Load every class of the user's own that a tier names.

    configs: the files that name them. One beside results came with them, and runs no code.

    Raises:
        UserError: it names the key, and what is wrong with file, class or settings.
    """
    _check_origin(plan, configs)
    for name, model in plan.tier.models.items():
        if model.implementation:
            _check_family(plan, name, model, model.implementation)
    known: dict[str, str] = {}
    labels = {entry.suffix: name for name, entry in METHODS.items()}
    for run in plan.runs.values():
        objective = run.settings.objective if run.settings else None
        needs = objective.needs if objective else Needs()
        if isinstance(objective, Own):
            _check_name(run, objective, known)
            made = _loaded(plan, run, objective)
            needs, other = made.needs, labels.setdefault(made.shown, run.method)
            if other != run.method:
                raise UserError(
                    f"runs.{run.experiment}.objective: its label is {made.shown!r}, as that of "
                    f"{other}; give the class another `label`"
                )
        if needs.predictions:
            _check_predictions(run, plan.model(run))


def _check_origin(plan: Plan, configs: tuple[Path, ...]) -> None:
    models, runs = plan.tier.models.items(), plan.tier.tuned.items()
    own = [f"models.{name}" for name, model in models if model.implementation]
    own += [f"runs.{name}.objective" for name, run in runs if isinstance(run.objective, Own)]
    for config in configs:
        if own and (place := of_others(config)):
            raise UserError(
                f"{config}: {own[0]}.implementation: no code is run that a file {place} names, "
                "where what may come from others lies; copy the file to config/ if you trust it"
            )


def _check_name(run: Run, own: Own, known: dict[str, str]) -> None:
    other = known.setdefault(run.method, own.implementation)
    if run.method in METHODS or other != own.implementation:
        taken = "the catalogue" if run.method in METHODS else other
        raise UserError(
            f"runs.{run.experiment}.objective.implementation: its class is called {run.method!r} "
            f"in results, a name that {taken} has; give the class another one"
        )


def _loaded(plan: Plan, run: Run, own: Own) -> OwnObjective:
    """The class with the settings of a run, whose needs can be met."""
    where = f"runs.{run.experiment}.objective"
    try:
        made = own.loaded()
        needs = made.needs
        counts = {"partners": needs.partners, "negatives": needs.negatives, "noisy": needs.noisy}
    except UserError as error:
        raise UserError(f"{where}.{error}") from error
    except Exception as error:  # of the class, whose code may do anything
        said = " ".join(str(error).split())
        raise UserError(f"{where}: {run.method}.needs: {type(error).__name__}: {said}") from error
    names = {field.alias or name for name, field in type(made).model_fields.items()}
    names |= made.model_dump(by_alias=True).keys()
    if taken := ", ".join(sorted(TAKEN & names)):
        raise UserError(f"{where}: settings named {taken}: results call something else so; rename")
    if wrong := [name for name, n in counts.items() if not isinstance(n, int) or n < 0]:
        raise UserError(f"{where}: Needs.{wrong[0]} is {counts[wrong[0]]!r}; expected a count")
    if needs.noisy and plan.model(run).noise is None:
        raise UserError(
            f"{where}: {run.method} asks for likelihoods of noisy samples, which diffusion models "
            f"alone have; runs.{run.experiment}.model is none"
        )
    return made


def _check_predictions(run: Run, model: Model) -> None:
    """Whether a family of the user's own tells what its network predicts."""
    from mclr.models.family import Family
    from mclr.models.own.family import family_class

    if model.implementation:
        cls = family_class(model.implementation)
        if cls.predict is Family.predict:
            raise UserError(
                f"runs.{run.experiment}.objective: {run.method} needs what the network predicts, "
                f"and {cls.__name__} has no `predict`: write it in the class (denoised images or "
                "logits), or fine-tune with mclr"
            )


def _check_family(plan: Plan, name: str, model: Model, implementation: str) -> None:
    """Whether a family's class can do what the tier asks of it."""
    from mclr.models.own.family import family_class

    where, asked = f"models.{name}", {"null"} if model.guidance else set()
    try:
        cls = family_class(implementation)
    except UserError as error:
        raise UserError(f"{where}.{error}") from error
    if missing := ", ".join(sorted(cls.__abstractmethods__)):
        raise UserError(f"{where}.implementation: {cls.__name__} has no {missing}; write it")
    if model.precision not in cls.precisions:
        known = ", ".join(sorted(cls.precisions))
        raise UserError(f"{where}.precision: {cls.__name__} has {known}, not {model.precision}")
    for run in plan.runs.values():
        if run.model == name and run.settings and run.settings.how.dropout and not cls.has_masks:
            raise UserError(
                f"runs.{run.experiment}.optimizer.dropout: {cls.__name__} does not heed "
                "draw.masks; remove it, or do so in log_likelihood and say has_masks = True"
            )
    for experiment, study in plan.tier.studies.items():
        if plan.of(experiment)[0].model == name:
            asked |= {"network"} if study.autoguidance else set()
            asked |= {"interval"} if study.interval else set()
    if lacking := ", ".join(sorted(asked - cls.guided_by)):
        raise UserError(
            f"{where}: {cls.__name__} cannot be guided by {lacking}, as the tier asks; remove "
            "that from guidance and studies, or say so in the class's guided_by and heed it"
        )
