"""Which number type a network computes in.

Only activations and the weights beside them are affected: weights at rest, losses, likelihoods
and the state of samplers are always float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mclr.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
NAMES = ("auto", *DTYPES)
NARROW = {"edm2": 24, "var": 64}
"""Channels and width from which `auto` takes bfloat16 on CPUs that are faster with it: more than
those of the `digits` networks, which gain nothing by it (docs/speed.md)."""


def check_precision(name: str) -> str:
    """``name`` itself; UserError lists the names if there is no such precision."""
    if name not in NAMES:
        raise UserError(f"precision {name!r} is unknown; choose one of: {', '.join(NAMES)}")
    return name


def resolve_precision(
    name: str,
    device: torch.device,
    *,
    on_gpu: torch.dtype = torch.float16,
    wide: bool = True,
) -> torch.dtype:
    """The type that ``name`` means on ``device``; UserError lists the names if it is unknown.

    auto: ``on_gpu`` on a GPU; on a CPU bfloat16 where that is faster (``cpu_has_bfloat16``) and the
    network is ``wide`` enough to gain by it, otherwise float32. Nothing is timed: the choice is
    the same in every job on one kind of CPU.
    """
    if check_precision(name) != "auto":
        return DTYPES[name]
    if device.type != "cpu":
        return on_gpu
    return torch.bfloat16 if wide and cpu_has_bfloat16() else torch.float32


def autocast(name: str, device: torch.device, *, wide: bool = True) -> torch.autocast:
    """Products in the type that ``name`` means; sums and normalisations stay float32.

    Of the 16-bit types a GPU takes bfloat16, which trains without scaled losses.
    """
    dtype = resolve_precision(name, device, on_gpu=torch.bfloat16, wide=wide)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


@contextmanager
def decoding_in(name: str, device: torch.device) -> Iterator[None]:
    """Convolutions and products in the type ``name``; tf32 rounds float32 to 10 bits, on GPUs.

    A CPU computes in float32 where tf32 is named.
    """
    if name != "tf32":
        with autocast(name, device):
            yield
        return
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    try:
        convolutions.allow_tf32 = products.allow_tf32 = True
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32.

    With AMX it does, and with AVX-512 BF16 those of AMD; those of Intel then take 1.4 to 2 times
    as long as in float32 (docs/speed.md).
    """
    has = torch.cpu.get_capabilities()
    alone = has.get("avx512_bf16") and "Intel" not in str(has.get("cpu_name"))
    return bool(has.get("amx_bf16") or alone)
