"""A family of one's own: three methods to write, the rest has defaults.

``models.<name>.implementation`` names a class as ``path/to/file.py:Class``. It is given its
options, the manifest of the data and a device, and must say how a network is built, what log p(x|c)
is, and how to sample. See ``docs/examples/own_family.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.files import sha256
from mclr.models.family import Family
from mclr.models.spec import ModelSpec, OwnSpec
from mclr.settings.implementation import find_class, source_of

GUIDES = {"null": None, "base": "network", "net": "network"}
"""What a job calls what guides, and what a class calls it that can do more than the null label."""


class OwnFamily(Family):
    """To derive from; x is pixels in [−1, 1] unless ``encode`` says otherwise.

    options: ``models.<name>.options`` of the configuration. What a class can do beside that, it
    says: ``guided_by`` and ``precisions``.
    """

    precisions: ClassVar[frozenset[str]] = frozenset({"float32"})
    """Values of ``models.<name>.precision`` that it knows what to do with."""
    sampler: Mapping[str, float] = {}
    """``models.<name>.sampler``, with the changes of who draws; set when the class is made."""
    precision: str = "float32"
    """``models.<name>.precision``; set when the class is made."""

    def __init__(self, options: dict[str, Any], manifest: Manifest, device: torch.device) -> None:
        self.options, self.manifest, self.device = options, manifest, device


def own_family(spec: ModelSpec, manifest: Manifest, device: torch.device) -> OwnFamily:
    """The family of a job's specification, whose ``network`` names the class and has its options.

    Raises:
        UserError: no such class, or it cannot do what the job asks for.
    """
    if not isinstance(spec.network, OwnSpec) or spec.network.implementation is None:
        raise ValueError("not the specification of somebody's own family")
    implementation, meant = spec.network.implementation, spec.network.sha256
    if meant and sha256(source_of(implementation)) != meant:
        raise UserError(
            f"implementation: {implementation}: was edited after this job was planned; start "
            "Snakemake again"
        )
    return made_of(family_class(implementation), spec, manifest, device)


def made_of(
    cls: type[OwnFamily], spec: ModelSpec, manifest: Manifest, device: torch.device
) -> OwnFamily:
    """An object of the class, with options, sampler and precision of a specification.

    Raises:
        UserError: the class cannot do what the specification asks for.
    """
    if not isinstance(spec.network, OwnSpec):
        raise ValueError("not the specification of somebody's own family")
    precision = spec.precision
    if precision not in cls.precisions:
        raise UserError(
            f"precision {precision!r}: {cls.__name__} has {', '.join(sorted(cls.precisions))}; "
            "choose from these, or say in the class what it can do: precisions = frozenset({…})"
        )
    for what, word in _asked(spec):
        if word not in cls.guided_by:
            raise UserError(
                f"{what}: {cls.__name__} cannot be guided so (it says {sorted(cls.guided_by)}); "
                f"remove it from the studies, or say guided_by = frozenset({{…, {word!r}}}) in the "
                "class and heed it in generate"
            )
    family = cls(dict(spec.network.options), manifest, device)
    family.sampler, family.precision = _sampler(spec), precision
    return family


def _sampler(spec: ModelSpec) -> dict[str, float]:
    """Numbers by name, which may happen to be those of another family's sampler."""
    sampler = spec.sampler or {}
    return sampler if isinstance(sampler, dict) else sampler.model_dump()


def _asked(spec: ModelSpec) -> list[tuple[str, str]]:
    """What a job asks for beyond the null label: in the words of a study, and of a class."""
    guide = GUIDES.get(getattr(spec, "guide", "null"))
    asked = [("autoguidance", guide)] if guide else []
    return asked + ([("interval", "interval")] if getattr(spec, "interval", None) else [])


def family_class(implementation: str) -> type[OwnFamily]:
    """The class that ``path/to/file.py:Class`` names, see ``find_class``."""
    return find_class(implementation, OwnFamily, "mclr.models.OwnFamily")  # type: ignore[type-abstract]
