"""The loss of an objective of somebody's own: what goes wrong in it is told in one line."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from mclr.errors import UserError
from mclr.events import to_log_file
from mclr.objectives.loss import Loss
from mclr.objectives.objective import Given, Objective
from mclr.settings.implementation import raised_in
from mclr.training.memory import is_out_of_memory

EVENT = frozenset({"loss", "lr", "grad_norm", "step", "nimg", "time", "event"})
"""What training records of every step, beside the terms of a loss."""


def checked_loss(objective: Objective) -> Callable[[Given, Tensor], Loss]:
    """The loss of an objective. What goes wrong in one of somebody's own names its file and line.

    Raises:
        UserError: by the loss that is given, where the class's own raises anything, gives no
            ``Loss``, or records a term under a name that events have. The log has the traceback.
    """
    if not objective.is_own:
        return objective.loss

    def loss(given: Given, part: Tensor) -> Loss:
        try:
            found = objective.loss(given, part)
        except UserError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            to_log_file(traceback.format_exc())
            path = Path(inspect.getfile(type(objective)))
            raise UserError(f"objective: {raised_in(path, error)}") from error
        _check_loss(objective, found)
        return found

    return loss


def _check_loss(objective: Objective, found: Any) -> None:
    where = f"objective: {type(objective).__name__}.loss"
    if not isinstance(found, Loss):
        raise UserError(f"{where} gave a {type(found).__name__}; expected an mclr.objectives.Loss")
    if found.value.ndim:
        raise UserError(
            f"{where}: its value has shape {tuple(found.value.shape)}; expected one number"
        )
    if taken := ", ".join(sorted(EVENT & found.terms.keys())):
        raise UserError(f"{where}: terms named {taken}: events call something else so; rename")
