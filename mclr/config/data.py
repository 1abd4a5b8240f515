"""Which images, and which of them are the reference."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mclr.config.base import Count, Section


class Data(Section):
    """Which images, and which of them are held out as the reference of every metric.

    Without ``n_reference`` the reference is the test split that the source itself has.
    """

    source: Literal["digits", "fashion-mnist"]
    n_reference: Count | None = None
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _reference(self) -> Data:
        if self.n_reference is None and self.source == "digits":
            raise ValueError("n_reference: required key is missing, digits has no test split")
        return self
