"""Names of number types and what they mean on a device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from mclr.errors import UserError
from mclr.models.precision import (
    check_precision,
    cpu_has_bfloat16,
    decoding_in,
    resolve_precision,
)

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_type_by_name_is_itself_everywhere(name: str, device: torch.device) -> None:
    assert resolve_precision(name, device) == getattr(torch, name)


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({}, torch.float32),
        ({"avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, torch.bfloat16),
        ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, torch.float32),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_auto_on_a_cpu_asks_the_cpu(
    monkeypatch: pytest.MonkeyPatch, has: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert resolve_precision("auto", CPU) == expected
    assert cpu_has_bfloat16() == (expected == torch.bfloat16)


def test_auto_on_a_gpu() -> None:
    assert resolve_precision("auto", GPU) == torch.float16
    assert resolve_precision("auto", GPU, on_gpu=torch.bfloat16) == torch.bfloat16


def test_unknown_name_is_explained() -> None:
    for call in (check_precision, lambda name: resolve_precision(name, CPU)):
        with pytest.raises(UserError, match=r"'half'.*auto, float32, bfloat16, float16"):
            call("half")


def tf32() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.fixture
def without_tf32() -> Iterator[None]:
    before = tf32()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.usefixtures("without_tf32")
def test_tf32_is_on_for_decoding_alone() -> None:
    with decoding_in("float32", CPU):
        assert tf32() == (False, False)
    with pytest.raises(ZeroDivisionError), decoding_in("tf32", CPU):
        assert tf32() == (True, True)
        raise ZeroDivisionError
    assert tf32() == (False, False)


def test_what_decoding_rounds_on_a_cpu() -> None:
    x, w = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = x @ w
    for name in ("float32", "tf32"):
        with decoding_in(name, CPU):
            assert torch.equal(x @ w, expected)
    with decoding_in("bfloat16", CPU):
        rounded = x @ w
    assert rounded.dtype == torch.bfloat16 and not torch.equal(rounded.float(), expected)
