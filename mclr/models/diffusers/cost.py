"""What networks of diffusers cost: denoiser calls, and the autoencoder of a model of latents."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mclr.data.load import Manifest
from mclr.device import CPU
from mclr.models.cost import Coder, DenoiserCost
from mclr.models.diffusers.architecture import DitArchitecture, UnetArchitecture
from mclr.models.diffusers.config import DiffusersModel
from mclr.models.diffusers.folder import CONFIG, Drawn, read_config
from mclr.models.diffusers.network import build
from mclr.models.edm2.cost import SD_VAE, kl_coder
from mclr.models.trace import Trace, parameters, trace
from mclr.settings.section import canonical

Sizes = tuple[DitArchitecture | UnetArchitecture, Drawn]


class DiffusersCost(DenoiserCost):
    """See ``mclr.models.cost.Cost``."""

    model: DiffusersModel

    def __init__(
        self, model: DiffusersModel, manifest: Manifest, *, is_guide: bool = False
    ) -> None:
        super().__init__(model, manifest, is_guide=is_guide)
        self.vae, self.drawn = autoencoder_config(model), manifest.shape
        self.is_latent = bool(self.vae)
        if self.vae:
            side = manifest.resolution // 2 ** (len(self.vae["block_out_channels"]) - 1)
            self.drawn = self.vae.get("latent_channels", 4), side, side
        self.sizes: Sizes = model.parts[0], Drawn(*self.drawn[:2], manifest.num_classes)

    @property
    def key(self) -> Hashable:
        return self.sizes

    def traced(self, rows: int, grad: bool) -> Trace:
        return _traced(self.sizes, torch.bfloat16 if self.half else torch.float32, rows, grad)

    @property
    def parameters(self) -> int:
        return _parameters(self.sizes)

    def build(self) -> nn.Module:
        return build(*self.sizes, torch.Generator().manual_seed(0))

    def evaluate(self, net: Any, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        return _evaluate(net, self.sizes[1], rows, dtype, device)

    def narrower(self) -> DiffusersCost:
        network, scheduler = self.model.parts
        if not isinstance(network, DitArchitecture):
            return self
        less = dict[str, Any](
            network=network.model_copy(update={"num_layers": 2}),
            scheduler=scheduler,
            autoencoder=self.model.coder,
        )
        return DiffusersCost(self.model.model_copy(update=less), self.manifest)

    @cached_property
    def coder(self) -> Coder:
        return kl_coder(canonical(self.vae), self.manifest.resolution) if self.vae else Coder()


def autoencoder_config(model: DiffusersModel) -> dict[str, Any]:
    """Of a model of latents, its autoencoder's; Stable Diffusion's if its folder is not there."""
    if "tokenizer" not in (releases := model.releases):
        return {}
    path = Path(releases["tokenizer"].released).with_name(CONFIG)
    if not path.is_file():
        return SD_VAE
    known = {"in_channels", "out_channels", "act_fn", "mid_block_add_attention", *SD_VAE}
    return {key: value for key, value in read_config(path).items() if key in known}


def _build(sizes: Sizes) -> nn.Module:
    return build(*sizes, torch.Generator().manual_seed(0))


@cache
def _traced(sizes: Sizes, dtype: torch.dtype, rows: int, grad: bool) -> Trace:
    model, drawn = sizes
    sides = [drawn.side // model.patch_size] if isinstance(model, DitArchitecture) else []
    if isinstance(model, UnetArchitecture):
        sides = [drawn.side // 2**level for level in range(len(model.block_out_channels))]
    # Attention weights exist on CPUs alone; the fused attention of GPUs has no place for them.
    weights = {(side**2, side**2) for side in sides}
    evaluate = partial(_evaluate, drawn=drawn, rows=rows, dtype=dtype, device=CPU)
    # Plain attention: the counter does not know the fused one of CPUs.
    with sdpa_kernel(SDPBackend.MATH):
        free = lambda shape: shape[-2:] in weights  # noqa: E731
        return trace(lambda: _build(sizes), evaluate, grad=grad, free=free)


def _evaluate(
    net: Any, drawn: Drawn, rows: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    x = torch.zeros(rows, drawn.channels, drawn.side, drawn.side, device=device)
    labels, time = (torch.zeros(rows, dtype=kind, device=device) for kind in (torch.long, x.dtype))
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        return cast(Tensor, net(x, time, class_labels=labels).sample)


@cache
def _parameters(sizes: Sizes) -> int:
    with torch.device("meta"):
        return parameters(_build(sizes))
