"""DINOv2 against timm's, its position embeddings and resizes against formulas, its weight file."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pretrained_nets import TINY_VIT, random_vit
from torch import Tensor

from mclr.errors import UserError
from mclr.files import save_tensors, sha256
from mclr.metrics.dinov2 import Dinov2, load_dinov2, resize_pil, resize_torch
from mclr.metrics.vit import VIT_L_14, Vit, interpolate_positions


def some_images(n: int, size: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(256, (n, channels, size, size), generator=generator).to(torch.uint8)


def tiny_vit() -> Vit:
    vit = Vit(TINY_VIT)
    vit.load_state_dict(random_vit())
    return vit.eval().requires_grad_(False)


def test_size_and_names_of_the_published_net() -> None:
    """dinov2_vitl14_pretrain.pth: 304,368,640 parameters, of which 1,024 are the mask token."""
    with torch.device("meta"):
        state = Vit(VIT_L_14).state_dict()
    assert sum(t.numel() for t in state.values()) == 304_368_640
    outside = {name: tuple(t.shape) for name, t in state.items() if not name.startswith("blocks")}
    assert outside == {
        "cls_token": (1, 1, 1024), "pos_embed": (1, 1370, 1024), "mask_token": (1, 1024),
        "patch_embed.proj.weight": (1024, 3, 14, 14), "patch_embed.proj.bias": (1024,),
        "norm.weight": (1024,), "norm.bias": (1024,),
    }  # fmt: skip
    last = {n.removeprefix("blocks.23."): t for n, t in state.items() if n.startswith("blocks.23.")}
    assert {name: tuple(t.shape) for name, t in last.items()} == {
        "norm1.weight": (1024,), "norm1.bias": (1024,), "norm2.weight": (1024,),
        "norm2.bias": (1024,), "attn.qkv.weight": (3072, 1024), "attn.qkv.bias": (3072,),
        "attn.proj.weight": (1024, 1024), "attn.proj.bias": (1024,), "ls1.gamma": (1024,),
        "ls2.gamma": (1024,), "mlp.fc1.weight": (4096, 1024), "mlp.fc1.bias": (4096,),
        "mlp.fc2.weight": (1024, 4096), "mlp.fc2.bias": (1024,),
    }  # fmt: skip
    assert not any(name.startswith("blocks.24.") for name in state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_transformer_is_timms(dtype: torch.dtype) -> None:
    """At the resolution of the position embeddings; timm leaves out the mask token."""
    from timm.models.vision_transformer import VisionTransformer

    state = random_vit()
    theirs = VisionTransformer(
        img_size=28, patch_size=7, embed_dim=12, depth=2, num_heads=3, init_values=1.0,
        num_classes=0, global_pool="token",
    ).eval()  # fmt: skip
    mask = state.pop("mask_token")
    theirs.load_state_dict(state)
    ours = Vit(TINY_VIT).eval()
    ours.load_state_dict(state | {"mask_token": mask})
    x = torch.randn(5, 3, 28, 28, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.no_grad():
        found, expected = ours.to(dtype)(x), theirs.to(dtype)(x)
    tolerance = 2e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def cubic(x: float, a: float = -0.75) -> float:
    """Keys' convolution kernel."""
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def interpolation(grid: int, out: int) -> Tensor:
    """Weights (out, grid) of samples at (i + ½) · grid / (out + 0.1) − ½, edges repeated."""
    weights = torch.zeros(out, grid, dtype=torch.float64)
    for i in range(out):
        at = (i + 0.5) * grid / (out + 0.1) - 0.5
        for tap in range(math.floor(at) - 1, math.floor(at) + 3):
            weights[i, min(max(tap, 0), grid - 1)] += cubic(at - tap)
    return weights


@pytest.mark.parametrize(("grid", "rows", "columns"), [(37, 16, 16), (5, 7, 3)])
def test_position_embeddings_between_the_stored_ones(grid: int, rows: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(2)
    table = torch.randn(1, 1 + grid**2, 4, generator=generator, dtype=torch.float64)
    found = interpolate_positions(table, rows, columns)
    assert torch.equal(found[:, 0], table[:, 0])
    across, down = interpolation(grid, columns), interpolation(grid, rows)
    stored = table[0, 1:].view(grid, grid, 4)
    expected = torch.einsum("rg,ch,ghd->rcd", down, across, stored).reshape(-1, 4)
    torch.testing.assert_close(found[0, 1:], expected, rtol=0, atol=1e-12)
    assert torch.equal(interpolate_positions(table, grid, grid), table)


def antialiased(image: np.ndarray, size: int) -> np.ndarray:
    """Pillow's bicubic resize of one channel in floating point, neither rounded nor clipped."""
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("side", [9, 60])
def test_resizes_are_pillows(side: int) -> None:
    """'torch' is its bicubic filter in floating point, 'pil' the one on uint8 images."""
    images = some_images(2, side)
    smooth, whole = resize_torch(images, 32), resize_pil(images, 32)
    assert smooth.shape == whole.shape == (2, 3, 32, 32)
    assert smooth.dtype == whole.dtype == torch.float32
    for image, found in zip(images.flatten(0, 1), smooth.flatten(0, 1), strict=True):
        expected = antialiased(image.float().numpy(), 32)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    for image, out in zip(images, whole, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((32, 32), Image.BICUBIC)
        assert torch.equal(out, torch.from_numpy(np.array(picture)).permute(2, 0, 1).float())


def test_resizes_differ_by_rounding_and_clipping() -> None:
    """By about a grey level inside 0–255; near its ends by more, as 'torch' does not clip."""
    noise = some_images(2, 9)
    middle = 100 + noise // 5
    assert 0.5 < (resize_torch(middle, 32) - resize_pil(middle, 32)).abs().max() < 1.3
    smooth, whole = resize_torch(noise, 32), resize_pil(noise, 32)
    assert smooth.min() < -10 and smooth.max() > 265
    assert (smooth.clamp(0, 255) - whole).abs().max() > 10


@pytest.mark.parametrize("resize", ["torch", "pil"])
def test_images_to_features(resize: str) -> None:
    vit = tiny_vit()
    images = some_images(3, 40)
    features, logits = Dinov2(vit, resize, 28)(images)
    assert features.shape == (3, 12) and logits.shape == (3, 0)
    pixels = {"torch": resize_torch, "pil": resize_pil}[resize](images, 28).double()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = (pixels.permute(0, 2, 3, 1).numpy() / 255 - mean) / std
    expected = vit(torch.from_numpy(x).permute(0, 3, 1, 2).float())
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


def test_images_are_seen_at_224() -> None:
    seen = []
    net = Dinov2(tiny_vit(), "torch")
    net.vit.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    net(some_images(2, 8))
    assert seen == [(2, 3, 224, 224)]


def test_grey_images_are_repeated() -> None:
    net, grey = Dinov2(tiny_vit(), "pil", 28), some_images(2, 8, channels=1)
    assert torch.equal(net(grey)[0], net(grey.repeat(1, 3, 1, 1))[0])
    for wrong in (grey.float(), grey[0], some_images(2, 8, channels=2)):
        with pytest.raises(UserError, match=r"expected uint8 \(N, 3, H, W\) or \(N, 1, H, W\)"):
            net(wrong)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    if suffix == ".pth":
        torch.save(random_vit(), path)
    else:
        save_tensors(path, random_vit(), {})
    net = load_dinov2(path, "torch", sha256=sha256(path), config=TINY_VIT, resolution=28)
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    images = some_images(2, 30)
    assert torch.equal(net(images)[0], Dinov2(tiny_vit(), "torch", 28)(images)[0])


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


@pytest.mark.parametrize(("content", "what"), [
    (None, "file is missing"),
    (b"not torch", "not a readable weight file"),
    ({"model": Malicious()}, "not a readable weight file"),
    ({"model": {"cls_token": torch.zeros(1)}}, "not a state dict of tensors"),
    ({"cls_token": torch.zeros(1, 1, 12)}, "weights do not fit .*Missing key"),
    (random_vit() | {"norm.bias": torch.zeros(5)}, "weights do not fit .*norm.bias"),
    (random_vit() | {"register_tokens": torch.zeros(4)}, "weights do not fit .*register_tokens"),
], ids=["missing", "no-torch", "malicious", "nested", "few", "shape", "registers"])  # fmt: skip
def test_another_file(
    tmp_path: Path, content: object, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=what) as error:
        load_dinov2(path, "torch", config=TINY_VIT)
    text = str(error.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and "executed" not in text
    assert (
        "published as dinov2_vitl14_pretrain.pth: get them from https://dl.fbaipublicfiles" in text
    )
    assert "executed" not in capsys.readouterr().out


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(random_vit(), path)
    data = bytearray(path.read_bytes())
    place = data.index(random_vit()["patch_embed.proj.weight"].numpy().tobytes()[:32])
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="not a readable weight file"):
        load_dinov2(path, "torch", config=TINY_VIT)


def test_another_hash_or_resize(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(random_vit(), path)
    with pytest.raises(UserError, match=r"sha256 is .*, not 000000000000…; expected the weights"):
        load_dinov2(path, "torch", sha256="0" * 64, config=TINY_VIT)
    with pytest.raises(UserError, match="unknown name 'bilinear'; choose from torch, pil"):
        load_dinov2(path, "bilinear", config=TINY_VIT)


def test_imports_of_sampling_jobs_stay_light() -> None:
    code = "import sys, mclr.metrics.features; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"timm", "torchvision", "pandas", "torch_fidelity", "PIL"}
    assert not heavy & set(loaded.stdout.split())
