"""The imagenet tier at reduced size: its configuration, with tiny networks in official files.

Nothing of the configuration's structure changes: sizes shrink, grids are cut short, and every
released name becomes the path of a file that is laid out as the released one.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.precond import build
from mclr.models.var.config import VarConfig, VqvaeConfig
from mclr.models.var.network import Var
from mclr.models.var.vqvae import Vqvae

TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(TESTS / "checkpoints"), str(TESTS / "metrics")]
from official_edm2 import Official  # noqa: E402
from pretrained_nets import TINY_VIT, random_inception, random_vit  # noqa: E402

CLASSES = 10
EDM2 = {
    "model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [],
    "channels_per_head": 64, "logvar_channels": 8, "dropout": 0.0,
}  # fmt: skip
CODES = {
    "vocab_size": 16, "z_channels": 4, "ch": 8, "ch_mult": [1, 1, 1], "num_res_blocks": 1,
    "patch_nums": [1, 2, 4],
}  # fmt: skip
VAR = {"depth": 1, "embed_dim": 16, "num_heads": 2}
SIDES = {"edm2-s": 16, "edm2-l": 32, "var-d24": 16}


def small_imagenet(config: Path, files: Path) -> dict[str, Any]:
    """The tier of ``config`` at reduced size, with all it needs written to ``files``."""
    content: dict[str, Any] = yaml.safe_load(config.read_text())
    files.mkdir(parents=True)
    images(files / "images")
    released = write_released(files)
    content["data"] |= {"classes": CLASSES, "resolution": 16, "n_reference": 20}
    vit = {key: getattr(TINY_VIT, key) for key in ("width", "depth", "heads", "patch", "grid")}
    content["features"]["dinov2"] |= {"side": 28, "network": vit}
    for net in content["features"].values():
        net["released"] = released[net["released"]]
        net["statistics"] = {
            SIDES[{64: "edm2-s", 512: "edm2-l"}[side]]: released[name]
            for side, name in net["statistics"].items()
        }
    for name, model in content["models"].items():
        model |= {"resolution": SIDES[name], "precision": "float32", "guidance": [0.5]}
        model["base"] = {"released": released[model["base"]["released"]]}
    small, large, var = content["models"].values()
    for model in (small, large):
        model["network"], model["sampler"] = dict(EDM2), model["sampler"] | {"num_steps": 2}
        model["guide"]["network"] = EDM2 | {"model_channels": 4}
    small["guide"]["base"] |= {"steps": 2, "batch": 8}
    large["guide"]["base"] = {"released": released[large["guide"]["base"]["released"]]}
    large["autoencoder"] = {"released": released["sd-vae-ft-mse"]}
    var |= {"network": dict(VAR), "tokenizer": {"network": dict(CODES), "training": {}}}
    var["tokenizer"]["training"] = {"released": released["var-vae"]}
    kept = ("edm2-s-mclr", "edm2-s-ddo", "edm2-s-ddo-2", "edm2-l-mclr", "var-d24-mclr")
    kept += ("edm2-s-distill", "var-d24-gft", "var-d24-mg")
    taken = ("edm2-s-ddo-released", "var-d24-cca-released")
    content["runs"] = {name: content["runs"][name] for name in (*kept, *taken)}
    for name in taken:
        run = content["runs"][name]
        run["released"] = released[run["released"]]
    for name in kept:
        run = content["runs"][name]
        run |= {"checkpoints": [1], "sweep": {}, "batch": 4}
        if "n_negatives" in run.get("objective", {}):
            run["objective"]["n_negatives"] = 8
    content["studies"] = {"edm2-s-mclr": {"guidance": [0.1]}}
    content["evaluation"] |= {"n_samples": 10, "batch": 5, "shards": 1, "isc_splits": 2}
    content["evaluation"]["grid_classes"] = [0, 3, 7]
    return content


def images(folder: Path) -> None:
    """Twelve photographs of odd sizes in each class folder, named as ImageNet's are."""
    generator = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / f"n{label:08d}").mkdir(parents=True)
        for i in range(12):
            height, width = generator.integers(40, 90, 2)
            pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            pixels[..., 0] = 25 * label
            name = folder / f"n{label:08d}" / f"n{label:08d}_{i}.JPEG"
            picture = Image.fromarray(pixels)
            if i == 1:
                picture = picture.convert("L")
            if i == 2:
                picture = picture.convert("CMYK")
            picture.save(name, "JPEG")


def write_released(folder: Path) -> dict[str, str]:
    """Files like the released ones; their paths by the names in ``data/versions.csv``."""
    official = Official(folder / "official")
    found = {
        "edm2-img64-s-1073741-0.075": edm2(official, folder, "s", 16, 3, CLASSES),
        "ddo-edm2-img64-s": edm2(official, folder, "s-ddo", 16, 3, CLASSES),
        "edm2-img512-l-1879048-0.085": edm2(official, folder, "l", 4, 4, CLASSES),
        "edm2-img512-xs-uncond-2147483-0.085": edm2(official, folder, "xs", 4, 4, 0, width=4),
        "sd-vae-ft-mse": autoencoder(folder / "sd-vae"),
        **var(folder),
        "dinov2-vitl14": folder / "dinov2.pth",
        "inception-2015-12-05": folder / "inception.pth",
    }
    torch.save(random_vit(), found["dinov2-vitl14"])
    random_inception(found["inception-2015-12-05"])
    for name, seed in (("edm2-ref-img64", 1), ("edm2-ref-img512", 2)):
        found[name] = folder / f"{name}.pkl"
        found[name].write_bytes(pickle.dumps(statistics(seed)))
    return {name: str(path) for name, path in found.items()}


def edm2(
    official: Official,
    folder: Path,
    name: str,
    side: int,
    channels: int,
    classes: int,
    width: int = 8,
) -> Path:
    """A random EDM2 network as an official snapshot in float16."""
    sizes = EDM2 | {"model_channels": width}
    config = Edm2Network(**sizes, img_resolution=side, img_channels=channels, label_dim=classes)
    net = build(config, torch.Generator().manual_seed(len(name)))
    with torch.no_grad():
        net.unet.out_gain.fill_(0.5)
    about = {"config": json.dumps({"class_name": "Precond", **config.model_dump()})}
    save_file(net.state_dict(), folder / f"{name}.safetensors", about)
    encoder = "StandardRGBEncoder" if channels == 3 else "StabilityVAEEncoder"
    return official.write(folder / f"{name}.safetensors", folder / f"{name}.pkl", encoder)


def autoencoder(folder: Path) -> Path:
    """A random autoencoder in diffusers' layout, with Stable Diffusion's three halvings."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[4] * 4, norm_num_groups=2, latent_channels=4,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def var(folder: Path) -> dict[str, Path]:
    """A random VAR and its tokenizer as .pth files."""
    codes = VqvaeConfig(**CODES, img_channels=3)
    config = VarConfig(
        **VAR, num_classes=CLASSES, patch_nums=codes.patch_nums, vocab_size=codes.vocab_size,
        z_channels=codes.z_channels,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    files: dict[str, tuple[Path, nn.Module]] = {
        "var-vae": (folder / "vae.pth", Vqvae.build(codes, generator)),
        "var-d24": (folder / "var.pth", Var.build(config, generator)),
        "cca-var-d24": (folder / "var_cca.pth", Var.build(config, generator)),
    }
    for path, net in files.values():
        torch.save(net.state_dict(), path)
    return {name: path for name, (path, _) in files.items()}


def statistics(seed: int) -> dict[str, Any]:
    """Reference statistics of random features, as EDM2 publishes them."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Any] = {"num_images": 1281167}
    for name, size in (("fid", 2048), ("fd_dinov2", TINY_VIT.width)):
        sample: Tensor = torch.randn(3 * size, size, generator=generator)
        found[name] = {
            "mu": sample.mean(0).double().numpy(),
            "sigma": sample.T.cov().double().numpy(),
        }
    return found
