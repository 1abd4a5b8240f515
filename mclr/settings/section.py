"""What all sections of a configuration share: strictness, kinds of numbers, their one JSON text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]

Precision = Literal["float32", "bfloat16", "float16", "auto"]
"""Of activations and the weights beside them; ``auto`` is what the machine is fast in."""

Decoding = Literal["float32", "tf32", "bfloat16", "float16"]
"""Of the decoder that makes images of tokens or latents; tf32 is float32 on machines without it."""


def _label(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("expected one line of letters, digits and signs, for tables and legends")
    return text


Label = Annotated[str, AfterValidator(_label)]


def number(value: Any) -> Any:
    """A text such as 1e-3, which YAML does not take for a number, as the number it is."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value):
        return float(value)
    return value


def whole(value: Any) -> Any:
    """A whole number alike whether it is written 1, 1.0 or 1e0: so are the runs."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Setting = Annotated[bool | int | float | str, BeforeValidator(number)]


def distinct(values: list[float]) -> list[float]:
    """The values; ValueError if one comes twice, to the six digits that names of files have."""
    if len({f"{value:g}" for value in values}) != len(values):
        raise ValueError(f"values must differ in their first six digits, got {values}")
    return values


Distinct = Annotated[list[float], AfterValidator(distinct)]
Scales = Annotated[list[Positive], AfterValidator(distinct)]


MOST_BLOCKS = 1_000
MOST_PARAMETERS = 10**11
"""Of a network: fifty times the largest published one."""
Side = Annotated[int, Field(ge=1, le=2**13)]
"""Pixels of a square image."""


def check_size(blocks: int, parameters: int) -> None:
    """ValueError for a network that no machine could hold: told before anything is allocated.

    parameters: a number that it has at least.
    """
    if blocks > MOST_BLOCKS:
        raise ValueError(f"a network of {blocks:,} blocks; expected at most {MOST_BLOCKS:,}")
    if parameters > MOST_PARAMETERS:
        raise ValueError(
            f"a network of over {parameters:.1e} parameters; expected at most {MOST_PARAMETERS:.0e}"
        )


class Section(BaseModel):
    """A block of the configuration: unknown keys are errors, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NoiseLevels(Section):
    """ln σ ~ N(P_mean, P_std²): the distribution p(σ) of the training noise levels."""

    P_mean: float
    P_std: Positive


def canonical(section: BaseModel | dict[str, Any]) -> str:
    """The one JSON text of a section: sorted keys, no spaces; hashes are taken over it."""
    if isinstance(section, BaseModel):
        section = section.model_dump(mode="json", by_alias=True)
    return json.dumps(section, sort_keys=True, separators=(",", ":"))


def plain(section: BaseModel, *keys: str) -> dict[str, Any]:
    """A section as JSON has it, in the order of its keys; or some keys, in the order given."""
    content = section.model_dump(mode="json", by_alias=True)
    return {key: content[key] for key in keys} if keys else content


def dotted(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested values in one level, with keys such as ``optimizer.ema.std``."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        found |= dotted(value, f"{above}{key}.") if nested else {f"{above}{key}": value}
    return found


class OnlySet(BaseModel):
    """Its JSON holds the keys that were given, in order, and no defaults."""

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        given = {fields[name].alias or name for name in self.model_fields_set}
        return {key: value for key, value in content.items() if key in given}


class Spec(OnlySet, Section):
    """A specification: no key may be unknown, and none changes once it is made."""

    def content(self) -> dict[str, Any]:
        """As plain values, with sorted keys: what is written beside results."""
        content: dict[str, Any] = json.loads(canonical(self))
        return content

    def with_(self, **changes: Any) -> Self:
        """This specification with other values; they are checked."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self).model_validate(given | changes)
