"""VAR transformer: next-scale prediction over the tokens of a multi-scale tokenizer.

Its state has the names of the released checkpoints.
Letters in shapes: N images, L tokens of all scales, first_l tokens of the first scale, S scales,
V codes, z latent channels, C width, h heads, d channels per head.
Source: VAR paper, section 3; class conditioning by adaptive layer norm (DiT).
"""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
from torch import Generator, Tensor, nn

from mclr.errors import UserError
from mclr.likelihood import token_log_likelihood
from mclr.likelihood.masks import Masks
from mclr.models.dial import Dial
from mclr.models.replay import Recordings
from mclr.models.var.config import VarConfig, scale_spans
from mclr.models.var.layers import Attention, FeedForward, KvCache, Linear
from mclr.models.var.quantizer import uninitialised_embedding


class Block(nn.Module):
    """Attention and feed-forward, both modulated by the class: x + gamma * f((1 + s) LN(x) + b)."""

    compilable = True
    ada_gss: nn.Parameter  # only with a shared modulation
    ada_lin: nn.Sequential  # only without

    def __init__(self, config: VarConfig, layer: int = 0) -> None:
        super().__init__()
        self.width, self.layer = config.width, layer
        self.drop_share = layer / max(config.depth - 1, 1)
        """Of the rate of drop path, which the last block has in full."""
        self.attn, self.ffn = Attention(config), FeedForward(config)
        self.ln_wo_grad = nn.LayerNorm(self.width, eps=config.norm_eps, elementwise_affine=False)
        self.shared_aln = config.shared_aln
        if self.shared_aln:
            self.ada_gss = nn.Parameter(torch.zeros(1, 1, 6, self.width))
        else:
            self.ada_lin = nn.Sequential(nn.SiLU(), Linear(self.width, 6 * self.width))

    def forward(
        self,
        x: Tensor,
        cond: Tensor,
        mask: Tensor | None,
        cache: KvCache | None,
        masks: Masks | None,
    ) -> Tensor:
        """x (N, l, C); cond (N, C), or (N, 1, 6, C) where the modulation is shared."""
        if self.shared_aln:
            modulation = self.ada_gss + cond
        else:
            modulation = self.ada_lin(cond).view(-1, 1, 6, self.width)
        gamma1, gamma2, scale1, scale2, shift1, shift2 = modulation.unbind(2)
        h = self.attn(self.ln_wo_grad(x) * (1 + scale1) + shift1, mask, cache) * gamma1
        x = x + self._drop_path(h, 0, masks)
        h = self.ffn(self.ln_wo_grad(x) * (1 + scale2) + shift2) * gamma2
        return x + self._drop_path(h, 1, masks)

    def _drop_path(self, branch: Tensor, which: int, masks: Masks | None) -> Tensor:
        """A branch (N, l, C) without the images that lose it; all keep it without masks."""
        if masks is None:
            return branch
        return masks.drop(branch, 2 * self.layer + which, self.drop_share, each=0)

    def shrink_init(self, depth: int) -> None:
        """Second half of the initialisation: branches start small, gates almost closed."""
        self.attn.get_buffer("zero_k_bias").zero_()
        self.attn.proj.weight.div_(math.sqrt(2 * depth))
        self.ffn.fc2.weight.div_(math.sqrt(2 * depth))
        if self.shared_aln:
            gammas, others = self.ada_gss[:, :, :2], self.ada_gss[:, :, 2:]
        else:
            gammas, others = self.ada_lin.get_parameter("1.weight").tensor_split([2 * self.width])
        gammas.mul_(1e-5)  # init_adaln_gamma
        others.mul_(0.5)  # init_adaln


class HeadNorm(nn.Module):
    """Class-modulated layer norm before the output head."""

    def __init__(self, config: VarConfig) -> None:
        super().__init__()
        self.width = config.width
        self.ln_wo_grad = nn.LayerNorm(self.width, eps=config.norm_eps, elementwise_affine=False)
        self.ada_lin = nn.Sequential(nn.SiLU(), Linear(self.width, 2 * self.width))

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift = self.ada_lin(cond).view(-1, 1, 2, self.width).unbind(2)
        out: Tensor = self.ln_wo_grad(x) * (1 + scale) + shift
        return out


class Var(nn.Module):
    """p(tokens | class) = product over scales of p(tokens of scale | coarser scales, class).

    Labels are 0 .. num_classes - 1; `null_label` (= num_classes) asks for the unconditional model.
    Labels are never dropped here: a training loop that wants dropping passes null labels.
    """

    shared_ada_lin: nn.Sequential  # only with a shared modulation

    def __init__(self, config: VarConfig) -> None:
        super().__init__()
        self.config = config
        self.fixed_dtype: torch.dtype | None = None
        self.recordings = Recordings()
        """Of sampling on a GPU."""
        self.null_label = config.num_classes
        self.spans = scale_spans(config.patch_nums)
        width = config.width
        self.word_embed = Linear(config.z_channels, width)
        self.class_emb = uninitialised_embedding(config.num_classes + 1, width)
        self.dial = Dial(width) if config.dial else None
        self.pos_start = nn.Parameter(torch.zeros(1, config.first_length, width))
        self.pos_1LC = nn.Parameter(torch.zeros(1, config.length, width))
        self.lvl_embed = uninitialised_embedding(len(config.patch_nums), width)
        if config.shared_aln:
            self.shared_ada_lin = nn.Sequential(nn.SiLU(), Linear(width, 6 * width))
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.depth))
        self.head_nm = HeadNorm(config)
        self.head = Linear(width, config.vocab_size)
        # Small, and never on the meta device, where making them would import torch's compiler.
        for name, value in self._level_buffers(torch.device("cpu")).items():
            self.register_buffer(name, value)

    def _level_buffers(self, device: torch.device) -> dict[str, Tensor]:
        """Scale of each token (1, L) and the block-causal mask (1, 1, L, L).

        A token sees every token of its own and of coarser scales: 0 there, -inf elsewhere.
        """
        lengths = [end - begin for begin, end in self.spans]
        levels = torch.cat([torch.full((n,), si, device=device) for si, n in enumerate(lengths)])
        finer = levels[:, None] < levels
        mask = torch.zeros(finer.shape, device=device).masked_fill(finer, -math.inf)
        return {"lvl_1L": levels[None], "attn_bias_for_masking": mask[None, None]}

    @classmethod
    def build(cls, config: VarConfig, generator: Generator) -> Var:
        """A new model on the generator's device; the weights depend on the generator only."""
        with torch.device("meta"):
            model = cls(config)
        model.to_empty(device=generator.device)
        model._init_weights(generator)
        return model

    @torch.no_grad()
    def _init_weights(self, generator: Generator) -> None:
        """The released code's scheme: truncated normals of std sqrt(1 / 3C), small outputs."""
        std = math.sqrt(1 / self.config.width / 3)
        for name, p in self.named_parameters():
            if name.endswith("scale_mul_1H11"):
                p.fill_(math.log(4.0))
            elif name.endswith("ada_gss"):
                p.normal_(0, 1 / math.sqrt(self.config.width), generator=generator)
            elif name.endswith("bias") or name == "dial.weight":
                p.zero_()
            else:
                nn.init.trunc_normal_(p, std=std, generator=generator)
        self.head.weight.mul_(0.02)  # init_head
        self.head_nm.get_parameter("ada_lin.1.weight").mul_(0.5)  # init_adaln
        for block in self.blocks:
            cast(Block, block).shrink_init(self.config.depth)
        for name, value in self._level_buffers(self.pos_1LC.device).items():
            self.get_buffer(name).copy_(value)

    def frozen(self, dtype: torch.dtype) -> Var:
        """This network for evaluation under autocast to ``dtype``: block weights of that type.

        Autocast would convert the weights of a network that is not trained in every forward pass.
        Other weights, and in float32 all of them, are this network's own.
        """
        if dtype in (torch.float32, self.fixed_dtype):
            return self
        fixed = copy.deepcopy(self, {id(p): p for p in self.parameters()}).eval()
        for module in fixed.blocks.modules():
            if isinstance(module, Linear):
                module.weight = nn.Parameter(module.weight.detach().to(dtype), requires_grad=False)
        fixed.fixed_dtype = dtype
        return fixed

    def _trunk(
        self,
        x: Tensor,
        labels: Tensor,
        positions: tuple[int, int],
        mask: Tensor | None = None,
        caches: list[KvCache] | None = None,
        masks: Masks | None = None,
        dial: Tensor | None = None,
    ) -> Tensor:
        """Logits (N, l, V) of the l tokens at `positions`, from their embeddings x."""
        span = slice(*positions)
        x = x + self.lvl_embed(self.get_buffer("lvl_1L")[:, span]) + self.pos_1LC[:, span]
        cond = self._condition(labels, dial)
        shared = self.config.shared_aln
        block_cond = self.shared_ada_lin(cond).view(len(x), 1, 6, -1) if shared else cond
        for i, block in enumerate(self.blocks):
            # Compiled for the one length of likelihoods, not for each of the scales' lengths.
            run = block.forward if caches else block
            x = run(x, block_cond, mask, caches[i] if caches else None, masks)
        # The softmax over V codes needs more digits than half precision has.
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = self.head(self.head_nm(x.to(self.pos_1LC), cond))
        return out

    def _condition(self, labels: Tensor, dial: Tensor | None = None) -> Tensor:
        """What all is conditioned on, (N, C): the class, and the value of the dial if it has one.

        dial: values (N,); the one that it is set to if absent.
        """
        cond: Tensor = self.class_emb(labels)
        return cond if self.dial is None else cond + self.dial(dial)

    def _start(self, labels: Tensor, dial: Tensor | None = None) -> Tensor:
        """Embeddings of the first scale, (N, first_l, C): the condition and a start position."""
        return self._condition(labels, dial).unsqueeze(1) + self.pos_start

    def _check_inputs(self, labels: Tensor, inputs: Tensor, expected_l: int) -> None:
        expected = (len(labels), expected_l, self.config.z_channels)
        if labels.ndim != 1 or inputs.shape != expected:
            raise UserError(
                f"VAR got labels {tuple(labels.shape)} and inputs {tuple(inputs.shape)}: expected "
                f"(N,) and (N, {expected_l}, {expected[2]}); use the tokenizer the model was "
                "configured for (patch_nums, z_channels)"
            )

    def forward(
        self,
        labels: Tensor,
        inputs: Tensor,
        *,
        masks: Masks | None = None,
        dial: Tensor | None = None,
    ) -> Tensor:
        """Teacher-forced logits: labels (N,) int64, inputs (N, L - first_l, z) -> (N, L, V).

        `inputs` come from Vqvae.tokens_to_input. Drop path is what the masks say: without them it
        is off, in train and in eval mode alike. dial: values (N,) of its dial, if it has one.
        """
        length = self.config.length
        self._check_inputs(labels, inputs, length - self.config.first_length)
        x = torch.cat([self._start(labels, dial), self.word_embed(inputs)], dim=1)
        mask = self.get_buffer("attn_bias_for_masking")
        return self._trunk(x, labels, (0, length), mask=mask, masks=masks, dial=dial)

    # l(x, c) = sum_i log p(token_i | coarser scales, c)
    def log_likelihood(
        self,
        labels: Tensor,
        tokens: Tensor,
        inputs: Tensor,
        *,
        masks: Masks | None = None,
        dial: Tensor | None = None,
    ) -> Tensor:
        """Exact log-likelihood in nats, summed over tokens: (N,) from tokens (N, L)."""
        return token_log_likelihood(self(labels, inputs, masks=masks, dial=dial), tokens)

    def new_caches(self) -> list[KvCache]:
        """Empty key-value caches, one per block, for one batch of images to generate."""
        return [KvCache(self.config.length) for _ in self.blocks]

    def scale_logits(
        self, si: int, labels: Tensor, inputs: Tensor | None, caches: list[KvCache]
    ) -> Tensor:
        """Logits (N, p * p, V) of scale si given the coarser scales in the caches.

        inputs (N, p * p, z): map that predicts scale si (Vqvae.next_input); None for scale 0.
        Call with si = 0, 1, ..., S - 1 and the same caches.
        """
        begin, end = self.spans[si]
        if inputs is not None:
            self._check_inputs(labels, inputs, end - begin)
        x = self._start(labels) if inputs is None else self.word_embed(inputs)
        return self._trunk(x, labels, (begin, end), caches=caches)
