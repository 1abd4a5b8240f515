"""The cost of the imagenet tier, without its data: closed forms, and files of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mclr.commands.plan import plan as command
from mclr.config.reading import load_tier, parse_tier
from mclr.config.tier import Tier
from mclr.cost.downloads import released_downloads
from mclr.cost.images import IMAGENET, images_of
from mclr.cost.memory import memory_of
from mclr.cost.work import Workload
from mclr.errors import UserError
from mclr.metrics.cost import dimensions, feature_macs, logits, published_parameters
from mclr.planning.plan import Plan
from mclr.settings.features import Dinov2Features, InceptionFeatures

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": []}
DINOV2 = Dinov2Features(kind="dinov2", released="dinov2-vitl14")
INCEPTION = InceptionFeatures(kind="inception", released="inception-2015-12-05")


@pytest.fixture(scope="module")
def tier() -> Tier:
    return load_tier(ROOT / "config" / "imagenet.yaml")


@pytest.fixture(scope="module")
def load(tier: Tier) -> Workload:
    """With networks that are traced in a second, in the place of the large ones."""
    content: dict[str, Any] = tier.model_dump(mode="json", by_alias=True)
    small, large = content["models"]["edm2-s"], content["models"]["edm2-l"]
    for model in (small, large):
        model["network"] = SMALL
        model["guide"]["network"] = SMALL | {"model_channels": 4}
    del content["models"]["var-d24"]
    content["runs"] = {n: run for n, run in content["runs"].items() if run["model"] != "var-d24"}
    plan = Plan(parse_tier(content, "small"))
    return Workload(plan, images_of(plan.tier))


def test_multiply_adds_of_the_published_nets() -> None:
    """ViT-L/14 on 256 patches and a class token by hand; Inception-v3: 5.7 G, as torchvision."""
    tokens, width = 257, 1024
    block = 12 * tokens * width**2 + 2 * tokens**2 * width
    vit = 24 * block + 256 * 3 * 14**2 * width
    assert feature_macs(DINOV2, 3, 64, 1000) == vit
    assert feature_macs(INCEPTION, 3, 512, 1000) == pytest.approx(5.71e9, rel=0.005)
    assert published_parameters(DINOV2) == 304_368_640  # facebookresearch/dinov2: 300 M
    assert (dimensions(DINOV2), logits(DINOV2, 10)) == (1024, 0)
    assert (dimensions(INCEPTION), logits(INCEPTION, 10)) == (2048, 1008)


def test_a_guide_of_its_own_costs_its_own_passes(load: Workload) -> None:
    """63 passes of the model and 63 of its guide, 2,500 images and a grid of 4 × 10."""
    jobs = {job.name: job for job in load.jobs}
    point = "sample:edm2-s-base/edm2-s-base/step-000000/guidance-{}/seed-0:0"
    plain, guided = (load.of(jobs[point.format(g)]) for g in ("0", "0.5"))
    net, guide = load.networks["edm2-s"].evaluation, load.guides["edm2-s"].evaluation
    assert guide < net
    features = feature_macs(DINOV2, 3, 64, 1000) + feature_macs(INCEPTION, 3, 64, 1000)
    assert plain.half == 2540 * 63 * net
    assert guided.half == plain.half + 2540 * 63 * guide
    assert plain.single == guided.single == 2500 * features
    assert "guide:edm2-s" in load.dag.needs(jobs[point.format("0.5")])
    assert load.of(jobs["guide:edm2-s"]).half == 65536 * 2048 * 3 * guide
    assert load.of(jobs["import_base:edm2-s"]).macs == 0


def test_a_teacher_that_a_network_guides_costs_its_evaluation(load: Workload) -> None:
    """Three for the row with a gradient, one of the base, one of the guide; GFT two of its own."""
    jobs = {job.name: job for job in load.jobs}
    net, guide = load.networks["edm2-s"].evaluation, load.guides["edm2-s"].evaluation
    rows = 1600 * 256
    taught = jobs["finetune:edm2-s-distill-P_mean0-gamma0.4-seed0"]
    assert load.of(taught).half == rows * (4 * net + guide)
    assert "guide:edm2-s" in load.dag.needs(taught)
    own = jobs["finetune:edm2-s-gft-P_mean0-beta0.7-seed0"]
    assert load.of(own).half == rows * 4 * net and "guide:edm2-s" not in load.dag.needs(own)


def test_published_nets_see_real_images_on_a_gpu(load: Workload) -> None:
    macs = feature_macs(DINOV2, 3, 64, 1000)
    work = load.of(load.dag.net("dinov2-64px"))
    assert work.single == macs * (50_000 + 50_000) and work.needs_gpu and work.cpu == 0


def test_stable_diffusions_autoencoder_computes_in_float32(load: Workload) -> None:
    coder = load.networks["edm2-l"].coder
    assert coder.parameters == 83_653_863  # stabilityai/sd-vae-ft-mse
    assert load.networks["edm2-l"].shape == (8, 64, 64)
    work = load.of(load.dag.encode("edm2-l"))
    assert (work.half, work.single) == (0, coder.encode * IMAGENET)


def test_negatives_of_each_start(load: Workload) -> None:
    jobs = {job.name: job for job in load.jobs}
    assert load.dag.needs(jobs["negatives:edm2-s-ddo-2"])[1] == "best:edm2-s-ddo-2"
    expected = 50_000 * 63 * load.networks["edm2-s"].evaluation
    assert load.of(jobs["negatives:edm2-s-ddo"]).half == expected


def test_memory_of_the_guide_and_none_of_what_is_taken_over(load: Workload) -> None:
    kinds = {(row.model, row.kind): row for row in memory_of(load)}
    assert ("edm2-s", "guide") in kinds and ("edm2-l", "guide") not in kinds
    assert not any(kind == "base" for _, kind in kinds)
    assert kinds["edm2-s", "guide"].batch == 2048


def test_recorded_passes_of_model_and_guide_keep_their_memory(load: Workload) -> None:
    found = {(row.model, row.kind): row.sample for row in memory_of(load)}
    row, other = load.networks["edm2-s"].sampling_bytes(), load.guides["edm2-s"].sampling_bytes()
    assert 0 < other < row
    assert found["edm2-s", "sampling"] == row + other


def test_files_are_estimated_by_their_numbers(load: Workload) -> None:
    found = {file.file: file for file in released_downloads(load)}
    known = {name for name, file in found.items() if file.known}
    assert len(found) == 11 and known == {
        "dinov2_vitl14_pretrain.pth",
        "weights-inception-2015-12-05-6726825d.pth",
    }
    assert found["dinov2_vitl14_pretrain.pth"].bytes == pytest.approx(4 * 304_368_640, rel=1e-3)
    size = load.networks["edm2-s"].parameters
    assert found["edm2-img64-s-1073741-0.075.pkl"].bytes == 2 * size
    assert found["edm2-img64-s-ddo.pkl"].bytes == 2 * size
    assert found["img64.pkl"].bytes == 8 * (2048**2 + 2048 + 1024**2 + 1024)
    assert found["sd-vae-ft-mse/diffusion_pytorch_model.safetensors"].bytes == 4 * 83_653_863


def test_the_number_of_ones_own_images(
    tier: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ImageNet known; else by the index, or as told."""
    monkeypatch.chdir(tmp_path)
    images = images_of(tier)
    assert (images.n_train, images.n_reference) == (IMAGENET, 50_000)
    assert images_of(tier, 1000).n_train == 1000
    data = tier.data.model_copy(update={"path": "cats/", "reference": "held-out"})
    cats = tier.model_copy(update={"data": data})
    with pytest.raises(UserError, match=r"data\.path: how many images cats/ has.*--images N"):
        images_of(cats)
    index = tmp_path / "data" / "prepared" / "imagenet" / "manifest.json"
    index.parent.mkdir(parents=True)
    splits = {"train": {"count": 70_000}, "reference": {"count": 50_000}}
    index.write_text(json.dumps({"splits": splits, "num_classes": 12}))
    images = images_of(cats)
    assert (images.n_train, images.source.classes) == (70_000, 12)
    flipped = tier.model_copy(update={"data": data.model_copy(update={"flip": True})})
    assert images_of(flipped).n_train == 70_000  # as the index counts them
    assert images_of(flipped, 1000 + 50_000).n_train == 2_000


def test_a_family_of_ones_own_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its likelihood has no matrix product; its network a picture and a spread of 11 labels."""
    monkeypatch.chdir(ROOT)
    config = sorted(ROOT.glob("docs/examples/*own*.yaml"))[0]
    done = CliRunner().invoke(command, [str(config), "--json"], catch_exceptions=False)
    found = json.loads(done.output)
    fixed = {row["kind"]: row["fixed"] for row in found["memory"]}
    assert fixed["base"] == pytest.approx(16 * 2 * 11 * 64, rel=0.3)
