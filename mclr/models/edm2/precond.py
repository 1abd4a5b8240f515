"""The denoiser D(x; sigma, c): EDM preconditioning around the U-Net, and its initialisation."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from mclr.errors import UserError
from mclr.likelihood.masks import Masks
from mclr.models.dial import dial_of
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.network import UNet
from mclr.models.edm2.operations import FixedConv, MPConv, MPFourier
from mclr.models.replay import Replayed


class Precond(nn.Module):
    """Preconditioned EDM2 denoiser with the official state-dict names.

    All weights are zero after construction: use ``build`` for random ones or ``load_state_dict``.
    Also works under ``torch.device("meta")``. Dropout, where the network has any, draws from
    torch's default generator.
    """

    def __init__(self, config: Edm2Network) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet(config)
        self.logvar_fourier = MPFourier(config.logvar_channels)
        self.logvar_linear = MPConv(config.logvar_channels, 1)

    # Karras et al. 2022 (arXiv 2206.00364), Eq. 7 and Table 1.
    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        class_labels: Tensor | None = None,
        return_logvar: bool = False,
        *,
        dtype: torch.dtype = torch.float32,
        masks: Masks | None = None,
        dial: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Denoise x = image + sigma * noise.

        x: (N, C, H, W). sigma: scalar, (1,) or (N,), > 0, in units of x. class_labels: one-hot or
        soft (N or 1, label_dim); None = zeros, the null label; ignored if label_dim is 0.
        dtype: type of the U-Net's activations (official sampling on GPUs uses float16).
        masks: of dropout, in the place of the configured one. dial: values (N,) of its dial.
        Returns D (N, C, H, W) float32 and, if asked, the log-variance u(sigma) (N or 1, 1, 1, 1).
        Raises UserError if class_labels has another width than label_dim.
        """
        x = x.float()
        sigma = sigma.float().reshape(-1, 1, 1, 1)
        labels = self._labels(x, class_labels)
        s_d = self.config.sigma_data
        variance = sigma.square() + s_d**2
        c_skip = s_d**2 / variance
        c_out = sigma * s_d / variance.sqrt()
        c_in = variance.rsqrt()
        c_noise = sigma.flatten().log() / 4
        f_x = self.unet((c_in * x).to(dtype), c_noise, labels, masks, dial)
        d_x = torch.addcmul(c_skip * x, c_out, f_x.float())
        if not return_logvar:
            return d_x
        return d_x, self.logvar_linear(self.logvar_fourier(c_noise)).reshape(-1, 1, 1, 1)

    def _labels(self, x: Tensor, class_labels: Tensor | None) -> Tensor | None:
        """Labels as the U-Net wants them: float32 (N or 1, label_dim), None if unconditional."""
        width = self.config.label_dim
        if width == 0:
            return None
        if class_labels is None:
            return x.new_zeros(1, width)
        if class_labels.ndim == 0 or class_labels.shape[-1] != width:
            raise UserError(
                f"class_labels of shape {tuple(class_labels.shape)}: expected (N, {width}), "
                "one-hot or soft; convert class numbers with torch.nn.functional.one_hot"
            )
        return class_labels.float().reshape(-1, width)

    def frozen(self, dtype: torch.dtype = torch.float32) -> Frozen:
        """This denoiser as it is now, fixed: for many evaluations of weights that do not change.

        dtype: type of the U-Net's activations and convolution weights; weights are normalised in
        float32 first. The result has no parameters and does not follow later changes of this net.
        """
        return Frozen(self, dtype)

    def normalize_weights_(self) -> None:
        """Forced weight normalisation of all layers, in place; once per optimiser step.

        ``normalize_weights_()`` followed by ``forward`` is the official forward in train mode;
        call it before the forward passes of a step.
        """
        for module in self.modules():
            if isinstance(module, MPConv):
                module.normalize_weight_()


class Frozen(nn.Module):
    """A snapshot of a ``Precond`` with every normalised weight, gain included, worked out once.

    forward(x, sigma, class_labels, return_logvar) as ``Precond``; without masks always without
    dropout.
    """

    def __init__(self, net: Precond, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.net = copy.deepcopy(net, {id(p): p for p in net.parameters()}).eval()
        for module in self.net.modules():
            gains = {"emb_linear": "emb_gain", "out_conv": "out_gain"}
            for name, layer in module.named_children():
                if isinstance(layer, MPConv):
                    gain = getattr(module, gains[name]) if name in gains else 1.0
                    module.add_module(name, FixedConv(layer, gain, dtype))
        if dial := dial_of(self.net):
            dial.fix()
        for module in self.net.modules():
            for name in [name for name, _ in module.named_parameters(recurse=False)]:
                module.register_parameter(name, None)
        self.replayed = Replayed(self)
        """Denoised images by the same kernels, which a GPU is given all at once."""

    def train(self, mode: bool = True) -> Frozen:
        """Stays in evaluation mode: there is nothing to train."""
        return self

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        class_labels: Tensor | None = None,
        return_logvar: bool = False,
        *,
        masks: Masks | None = None,
        dial: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        out: Tensor | tuple[Tensor, Tensor] = self.net(
            x, sigma, class_labels, return_logvar, dtype=self.dtype, masks=masks, dial=dial
        )
        return out


def build(config: Edm2Network, generator: torch.Generator | None = None) -> Precond:
    """A network with random weights: N(0, 1) weights, zero gains, random Fourier features.

    Made on the generator's device (None: CPU and torch's default generator). The draws follow the
    order of the modules, so equal configs and generator states give equal weights.
    """
    with torch.device("cpu" if generator is None else generator.device):
        net = Precond(config)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, MPConv):
                module.weight.normal_(generator=generator)
            elif isinstance(module, MPFourier):
                module.freqs.normal_(generator=generator).mul_(2 * math.pi)
                module.phases.uniform_(generator=generator).mul_(2 * math.pi)
    return net
