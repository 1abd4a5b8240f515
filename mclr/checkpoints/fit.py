"""Whether tensors are the weights of a network: names and shapes, compared without memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from mclr.checkpoints.vocabulary import one_line
from mclr.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]
Config = TypeVar("Config", bound=BaseModel)
MAX_TENSORS = 5_000  # the largest published network has about 900
MASK = "attn_bias_for_masking"  # of VAR: the only tensor with infinite values


def misfit(source: object, what: str) -> NoReturn:
    """Raise the UserError for weights and an architecture that do not belong together."""
    raise UserError(
        f"{source}: {one_line(what)}; expected an unchanged file of the official code (mclr "
        "import-weights --help lists which), so get it again or say its --kind"
    )


def validated(model: type[Config], values: Mapping[str, object], source: object) -> Config:
    """The configuration with these values; UserError names the first impossible one."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "values together"
        misfit(source, f"impossible architecture ({key}: {first['msg']})")


def build_empty(build: Callable[[], nn.Module], source: object) -> nn.Module:
    """The network that ``build`` makes, without values, so that its size does not matter."""
    try:
        with torch.device("meta"):
            return build()
    except (RuntimeError, TypeError, ValueError, OverflowError, UserError) as error:
        misfit(source, f"impossible architecture ({str(error).splitlines()[0]})")


def check_number(blocks: int, tensors: int, source: object) -> None:
    """UserError for a network that would take long to build, and could not have these tensors.

    blocks: of the architecture; each has four tensors or more.
    """
    if tensors > MAX_TENSORS:
        misfit(source, f"{tensors:,} tensors, more than the {MAX_TENSORS:,} of any network")
    if 4 * blocks > tensors:
        misfit(source, f"{tensors} tensors are too few for its architecture")


def check_bytes(shown: int, stored: int, source: object) -> None:
    """UserError where tensors show far more bytes than are stored: views of one storage."""
    if shown > 2 * stored:
        misfit(source, f"its tensors unpack to {shown:,} bytes, with {stored:,} in the file")


def check_finite(tensors: Mapping[str, Tensor], source: object) -> None:
    """UserError that names the first tensor with values that are no numbers, or infinite."""
    for name, tensor in tensors.items():
        if name == MASK or not tensor.is_floating_point() or tensor.numel() == 0:
            continue
        if not all(bound.isfinite() for bound in tensor.detach().aminmax()):
            misfit(source, f"{name} has values that are not finite")


def check_shapes(net: nn.Module, shapes: Shapes, source: object) -> None:
    """UserError unless the shapes are those of the network's parameters and buffers."""
    expected = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    missing, unknown = sorted(expected.keys() - shapes), sorted(shapes.keys() - expected)
    if missing or unknown:
        first = f"{missing[0]} is missing" if missing else f"{unknown[0]!r} is not part of it"
        others = len(missing) + len(unknown) - 1
        misfit(source, f"weights do not fit their architecture: {first} (and {others} others)")
    for name, shape in shapes.items():
        if shape != expected[name]:
            misfit(
                source,
                f"weights do not fit their architecture: {name} has shape {shape} instead of "
                f"{expected[name]}",
            )


def count_parameters(build: Callable[[], nn.Module], shapes: Shapes, source: object) -> int:
    """Parameters (without buffers) of the network that ``build`` makes, if the shapes are its own.

    Raises:
        UserError: names or shapes differ, or the network cannot exist.
    """
    net = build_empty(build, source)
    check_shapes(net, shapes, source)
    return sum(parameter.numel() for parameter in net.parameters())
