"""Jobs on a GPU: they end with files that say what those of a CPU say."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tiny import Trained

from mclr.device import set_up
from mclr.files import load_tensors
from mclr.jobs.inputs import Data
from mclr.jobs.sampling import sample, sample_negatives
from mclr.jobs.training import finetune
from mclr.planning.plan import Plan

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
MODELS = ("edm2", "var")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["mclr", "ccdpo", "cca", "ddo"])
def test_fine_tuning(
    model: str, name: str, trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    """Adam's first steps are of size lr whatever the gradient's: weights differ by few of them."""
    ends = []
    for device in (torch.device("cpu"), set_up(1, "cuda")):
        run_id = f"{model}-{name}-seed0"
        spec, folder = tiny_plan.finetune_spec(run_id), tmp_path / device.type
        negatives = folder / "negatives.safetensors"
        base, tokenizer = trained.base(model), trained.tokenizer_of(model)
        made = tiny_plan.negatives_spec(model)
        sample_negatives(made, trained.manifest, base, tokenizer, negatives, device)
        data = Data(trained.prepared)
        given = negatives if name == "ddo" else None
        finetune(spec, data, base, tokenizer, given, folder, folder / "s", device=device)
        ends.append(load_tensors(folder / "checkpoints" / "step-000004.safetensors")[0])
    start, (cpu, gpu) = load_tensors(trained.base(model))[0], ends
    names = [k for k in cpu if k not in ("lvl_1L", "attn_bias_for_masking")]
    moved = torch.cat([(cpu[k] - start[k]).abs().flatten() for k in names])
    apart = torch.cat([(cpu[k] - gpu[k]).abs().flatten() for k in names])
    assert moved.max() > 1e-3
    assert apart.median() < 1e-5


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("guided", [False, True])
def test_sampling(
    model: str, guided: bool, trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    point = next(p for p in tiny_plan.points(f"{model}-base") if (p.guidance != 0) == guided)
    for device in (torch.device("cpu"), set_up(1, "cuda")):
        sample(
            tiny_plan.sample_spec(point), 1, trained.manifest, trained.base(model),
            trained.tokenizer_of(model), {"cnn": trained.net / "net.safetensors"},
            tmp_path / f"{device.type}.parquet", tmp_path / f"{device.type}.png", device=device,
        )  # fmt: skip
    cpu, gpu = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("cpu", "cuda"))
    assert cpu["seed"] == gpu["seed"] and cpu["label"] == gpu["label"]
    ours, theirs = (torch.tensor(t["cnn.features"].to_pylist()) for t in (cpu, gpu))
    # A pixel that lies between two of the 256 values may fall to the other side.
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02 * float(ours.abs().max()))
    assert Image.open(tmp_path / "cpu.png").size == Image.open(tmp_path / "cuda.png").size
