"""Work, memory and disk of the tiny tier, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mclr.cost.disk import disk_of
from mclr.cost.downloads import source_bytes
from mclr.cost.hardware import GPUS, START_SECONDS, Work
from mclr.cost.images import images_of
from mclr.cost.memory import MARGIN, RESERVED, Memory, memory_of
from mclr.cost.work import Workload, shard_images
from mclr.data.load import load_images, load_manifest
from mclr.errors import UserError
from mclr.models.edm2.cost import evaluation_macs
from mclr.models.trace import trace
from mclr.models.var.cost import generation_macs, likelihood_macs
from mclr.planning.job import Job
from mclr.planning.plan import Plan

TRAIN, REFERENCE = 1000, 797
# Convolutions on 8 × 8 and, pooled, 4 × 4 pixels; two linear layers.
CLASSIFIER = 64 * 9 * 1 * 2 + 64 * 9 * 2 * 2 + 16 * 9 * 2 * 4 + 16 * 4 + 4 * 10
# 21 tokens of width 8, 4 latent channels, 8 codes: embedding, modulation of the block, queries to
# values, attention, projection, feed-forward, modulation of the head, head.
VAR = 20 * 4 * 8 + 8 * 48 + 21 * 8 * 24 + 2 * 21 * 21 * 8 + 21 * 64 + 21 * 512 + 8 * 16 + 21 * 64


@pytest.fixture(scope="module")
def load(tiny_plan: Plan) -> Workload:
    return Workload(tiny_plan, images_of(tiny_plan.tier))


@pytest.fixture(scope="module")
def jobs(load: Workload) -> dict[str, Job]:
    return {job.name: job for job in load.jobs}


def test_facts_of_the_images_are_those_of_the_data(load: Workload, prepared: Path) -> None:
    manifest = load_manifest(prepared / "manifest.json")
    assert load.images.manifest(None).shape == manifest.shape
    assert load.images.source.classes == manifest.num_classes
    for name, count in {"train": load.images.n_train, "reference": load.images.n_reference}.items():
        assert len(load_images(prepared / f"{name}.parquet", manifest)[1]) == count


def test_an_unknown_source_is_named(tiny_plan: Plan) -> None:
    tier = tiny_plan.tier
    other = tier.model_copy(update={"data": tier.data.model_copy(update={"source": "cats"})})
    with pytest.raises(UserError, match=r"data\.source: the size of 'cats'.* digits"):
        images_of(other)


def test_passes_of_the_networks(load: Workload) -> None:
    edm2, var = load.networks["edm2"], load.networks["var"]
    assert edm2.evaluation == evaluation_macs(edm2.config)
    assert var.evaluation == likelihood_macs(var.config) == VAR
    assert edm2.generation == 3 * edm2.evaluation
    assert var.generation == generation_macs(var.config)


def test_work_of_training(load: Workload, jobs: dict[str, Job]) -> None:
    """4 steps; backward twice forward; 16 samples a step of base training, 8 of fine-tuning."""
    edm2 = load.networks["edm2"].evaluation
    assert load.of(jobs["base:edm2"]) == Work(single=4 * 16 * 3 * edm2)
    assert load.of(jobs["base:var"]) == Work(single=4 * 16 * 3 * VAR)
    per_sample = {"mclr": 3 * 5, "ccdpo": 4 * 3, "cca": 4 * 3, "ddo": 4 * 2}
    for name, passes in per_sample.items():
        work = load.of(jobs[f"finetune:edm2-{name}-seed0"])
        assert work == Work(single=4 * 8 * passes * edm2)
    seen = 4 * 16 * 3 + TRAIN + TRAIN + 2 * REFERENCE
    assert load.of(jobs["feature_net:cnn"]) == Work(cpu=CLASSIFIER * seen)


def test_work_of_sampling(load: Workload, jobs: dict[str, Job]) -> None:
    """20 images in batches of 6 and two shards; a grid of two rows of ten classes."""
    assert [shard_images(20, 6, 2, shard) for shard in (0, 1)] == [12, 8]
    edm2, var = load.networks["edm2"], load.networks["var"]
    base = "sample:edm2-base/edm2-base/step-000004/guidance"
    features = 12 * CLASSIFIER
    assert load.of(jobs[f"{base}-0/seed-0:0"]).macs == 32 * 3 * edm2.evaluation + features
    assert load.of(jobs[f"{base}-2/seed-0:0"]).macs == 32 * 6 * edm2.evaluation + features
    one = load.of(jobs["sample:var-base/var-base/step-000004/guidance-1.5/seed-1:1"])
    assert one.macs == 28 * (2 * var.generation + var.coder.decode) + 8 * CLASSIFIER
    assert one.cpu == 0 and one.needs_gpu
    assert load.of(jobs["negatives:edm2"]).macs == 24 * 3 * edm2.evaluation


@pytest.mark.parametrize(
    ("decoding", "kind"), [("float32", "single"), ("tf32", "tf32"), ("float16", "half")]
)
def test_decoding_counts_at_its_own_rate(
    tiny: dict[str, Any], load: Workload, decoding: str, kind: str
) -> None:
    from mclr.config.reading import parse_tier

    tiny["models"]["var"]["decoding"] = decoding
    plan = Plan(parse_tier(tiny, "tiny"))
    found = Workload(plan, images_of(plan.tier))
    jobs = {job.name: job for job in found.jobs}
    name = "sample:var-base/var-base/step-000004/guidance-0/seed-0:0"
    work, usual = found.of(jobs[name]), load.of(jobs[name])
    decoded = 32 * load.networks["var"].coder.decode
    assert work.macs == usual.macs and decoded > 0
    moved = Work(single=usual.single - decoded) + Work(**{kind: decoded})
    assert work == moved


def test_var_keeps_keys_and_values_while_sampling(load: Workload) -> None:
    """float32: of 21 tokens of width 8 in one block."""
    var = load.networks["var"]
    assert var.cache_bytes() == 2 * 21 * 8 * 4
    assert load.networks["edm2"].cache_bytes() == 0


def test_sixteen_bits_are_another_rate(load: Workload, tiny: dict[str, Any]) -> None:
    from mclr.config.reading import parse_tier

    tiny["models"]["edm2"]["precision"] = "auto"
    plan = Plan(parse_tier(tiny, "tiny"))
    low = Workload(plan, images_of(plan.tier))
    work, usual = low.of(low.dag.network("base", "edm2")), load.of(load.dag.network("base", "edm2"))
    assert (work.half, work.single) == (usual.single, 0)
    a100 = GPUS["a100"]
    assert Work(half=312e12).gpu_seconds(a100, 0.5) == pytest.approx(4)
    assert Work(tf32=156e12).gpu_seconds(a100, 0.5) == pytest.approx(4)
    assert Work(single=19.5e12).gpu_seconds(a100, 0.5) == pytest.approx(4)
    assert Work(cpu=50e9).seconds(a100, 0.5) == pytest.approx(START_SECONDS + 2)


def test_what_a_gradient_needs_stays() -> None:
    """Three layers of 16 on 4 rows: what each ReLU gives stays for the gradient."""

    def passed(net: nn.Sequential) -> Tensor:
        found: Tensor = net(torch.empty(4, 16))
        return found

    def make() -> nn.Sequential:
        return nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(16, 16), nn.ReLU())))

    size = 4 * 16 * 4
    assert trace(make, passed).macs == 3 * 4 * 16 * 16
    assert trace(make, passed).peak == 3 * size  # the input stays with its caller
    assert trace(make, passed, grad=True).peak == 5 * size
    assert trace(make, passed, free=lambda shape: shape == (4, 16)).peak == 0


def test_the_samples_that_fit() -> None:
    row = Memory("m", "mclr", fixed=10e9, sample=1e9, batch=64)
    room = (40e9 - 10e9 - RESERVED) / (MARGIN * 1e9)
    assert row.fits(40e9) == int(room)
    assert row.total(row.fits(40e9)) <= 40e9 < row.total(row.fits(40e9) + 1)
    assert row.fits(11e9) == 0
    assert row.fits(1e15) == 64


def test_memory_grows_with_the_rows_of_an_objective(load: Workload) -> None:
    found = {(row.model, row.kind): row for row in memory_of(load)}
    for model in ("edm2", "var"):
        one = found[model, "base"].sample
        assert one > 0
        assert found[model, "fine-tuning, 5 rows"].sample == 5 * one
        assert found[model, "fine-tuning, 2 rows"].sample == 2 * one
        assert 0 < found[model, "sampling"].sample < 2 * one
    parameters = load.networks["var"].parameters
    assert found["var", "base"].fixed >= 16 * parameters


def test_disk(load: Workload) -> None:
    found = disk_of(load, gpus=2)
    edm2, var = (load.networks[name] for name in ("edm2", "var"))
    coder = var.coder.parameters
    # Per model one base, 4 experiments of 2 seeds with 2 checkpoints, and 4 best ones.
    assert found["checkpoints"] == 4 * (21 * (edm2.parameters + var.parameters) + coder)
    points = len(load.dag.points)
    assert found["features"] == (4 * 14 + 10) * (20 * points + REFERENCE + TRAIN)
    assert found["grids"] == points * 2 * 2 * 10 * 64
    raw, tokens, pixels = 57_523, 4 * 21 * TRAIN, 64 * 1797
    assert found["data"] == raw + pixels + tokens + 24 * (64 * 4 + 21 * 8)
    # EDM2's base has an average beside its weights and Adam's moments, and one checkpoint.
    largest = max(5 * edm2.parameters, 5 * var.parameters)
    assert found["state"] == 2 * 4 * largest
    assert source_bytes("digits") == 0
    assert source_bytes("fashion-mnist") == 30_883_840
