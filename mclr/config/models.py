"""The models that a tier can have: one of each family's, told apart by ``family``.

All answer the same: ``architecture()``, ``guide_architecture()``, ``coder``, ``has_coder``,
``coder_spec()``, ``nfe_of()``, ``releases``, ``guided_by``; and ``guide``, ``sampler``, ``noise``,
``transform`` and ``decoding``, which are None where a family has none.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mclr.config.base import Decoding, NoiseLevels, Precision
from mclr.config.released import Released
from mclr.models.edm2.config import (
    AutoencoderArchitecture,
    AutoencoderTraining,
    Edm2Base,
    Edm2Model,
    Edm2Sampler,
    Guide,
)
from mclr.models.own.config import OwnBase, OwnModel
from mclr.models.var.config import TokenizerTraining, VarBase, VarModel, VarSampler

__all__ = [
    "AutoencoderArchitecture",
    "AutoencoderTraining",
    "Decoding",
    "Edm2Base",
    "Edm2Model",
    "Edm2Sampler",
    "Guide",
    "Model",
    "NoiseLevels",
    "OwnBase",
    "OwnModel",
    "Precision",
    "TokenizerTraining",
    "VarBase",
    "VarModel",
    "VarSampler",
    "released_files",
]

Model = Annotated[Edm2Model | VarModel | OwnModel, Field(discriminator="family")]


def released_files(model: Model) -> dict[str, Released]:
    """The published files a model is made of, by role: base, guide, tokenizer."""
    return model.releases
