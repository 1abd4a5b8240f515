"""The models that a tier can have: one of each family's, told apart by ``family``.

All answer the same: ``architecture()``, ``guide_architecture()``, ``coder``, ``has_coder``,
``coder_spec()``, ``nfe_of()``, ``releases``, ``guided_by``, ``has_dial``; and ``guide``,
``sampler``, ``noise``, ``transform`` and ``decoding``, which are None where a family has none.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mclr.models.diffusers.config import DiffusersModel
from mclr.models.edm2.config import Edm2Model
from mclr.models.own.config import OwnModel
from mclr.models.var.config import VarModel

Model = Annotated[Edm2Model | VarModel | DiffusersModel | OwnModel, Field(discriminator="family")]
