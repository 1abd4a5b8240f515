"""What the models of each family cost; each is imported when it is asked for."""

from __future__ import annotations

from mclr.data.load import Manifest
from mclr.models.config import Model
from mclr.models.cost import Cost


def cost_of(model: Model, manifest: Manifest, *, is_guide: bool = False) -> Cost:
    """What a model costs on images such as those of a manifest."""
    if model.family == "edm2":
        from mclr.models.edm2.cost import Edm2Cost

        return Edm2Cost(model, manifest, is_guide=is_guide)
    if model.family == "var":
        from mclr.models.var.cost import VarCost

        return VarCost(model, manifest, is_guide=is_guide)
    if model.family == "diffusers":
        from mclr.models.diffusers.cost import DiffusersCost

        return DiffusersCost(model, manifest, is_guide=is_guide)
    from mclr.models.own.cost import OwnCost

    return OwnCost(model, manifest, is_guide=is_guide)
