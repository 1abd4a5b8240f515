"""A family of one's own: the example trains, is fine-tuned and sampled by the pipeline's jobs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, Trained

from mclr.config.reading import parse_tier
from mclr.data.load import load_manifest
from mclr.errors import UserError
from mclr.files import load_tensors
from mclr.jobs.inputs import Data
from mclr.jobs.sampling import sample
from mclr.jobs.training import finetune, train_base
from mclr.metrics.features import read_features
from mclr.models.families import make_family
from mclr.models.family import load_network
from mclr.planning.plan import Plan

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own_family.py"


def tier(implementation: str) -> dict[str, Any]:
    model = {
        "family": "own",
        "label": "Gaussian pixels",
        "implementation": implementation,
        "options": {"least_std": 0.05},
        "nfe": 1,
        "base": {"seed": 0, "steps": 60, "batch": 64, "lr": 0.05},
        "guidance": [0.5],
    }
    run = TINY["runs"]["var-mclr"] | {"model": "own", "checkpoints": [5], "lr": 0.002}
    return TINY | {"seeds": [0], "models": {"own": model}, "runs": {"own-mclr": run}}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan(parse_tier(tier(f"{EXAMPLE}:GaussianPixels"), "own"))


@pytest.fixture(scope="module")
def runs(plan: Plan, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model and one fine-tuned by MCLR, by the jobs of the workflow."""
    folder, data = tmp_path_factory.mktemp("own"), Data(trained.prepared)
    train_base(plan.base_spec("own"), data, None, folder / "own-base", folder / "state")
    finetune(
        plan.finetune_spec("own-mclr-seed0"), data,
        folder / "own-base/checkpoints/step-000060.safetensors", None, None,
        folder / "own-mclr", folder / "state2",
    )  # fmt: skip
    return folder


def test_base_learns_the_mean_of_each_class(runs: Path, trained: Trained) -> None:
    means = load_tensors(runs / "own-base/checkpoints/step-000060.safetensors")[0]["mean"]
    images, labels = Data(trained.prepared).train()
    for label in range(10):
        wanted = images[labels == label].float().mean(0) / 127.5 - 1
        assert (means[label] - wanted).abs().mean() < 0.15


def test_mclr_moves_the_classes_apart(runs: Path, plan: Plan, trained: Trained) -> None:
    """log p(x|c) - log p(x|c~) of real images rises, as it does for the families of the paper."""
    manifest = load_manifest(trained.manifest)
    family = make_family(plan.base_spec("own"), manifest)
    images, labels = Data(trained.prepared).train()
    x, other = family.encode(images[:300]), (labels[:300] + 1) % 10
    ratios = []
    for file in ("own-base/checkpoints/step-000060", "own-mclr/checkpoints/step-000005"):
        net = load_network(family, runs / f"{file}.safetensors")
        draw = family.draw(x, torch.Generator())
        own = family.log_likelihood(net, x, labels[:300], draw)
        ratios.append((own - family.log_likelihood(net, x, other, draw)).mean().item())
    assert ratios[1] > ratios[0] > 0


def test_points_are_sampled_and_counted(
    runs: Path, plan: Plan, trained: Trained, tmp_path: Path
) -> None:
    found = {}
    for point in plan.points("own-base"):
        features = tmp_path / f"{point.guidance}.parquet"
        sample(
            plan.sample_spec(point).with_(shards=1), 0, trained.manifest,
            runs / "own-base/checkpoints/step-000060.safetensors", None,
            {"cnn": trained.net / "net.safetensors"}, features, tmp_path / "grid.png",
        )  # fmt: skip
        found[point.guidance] = read_features([features], "cnn").features
    assert not torch.equal(found[0.0], found[0.5])
    assert [plan.tier.models["own"].nfe_of(guided) for guided in (False, True)] == [1, 2]


def test_an_edit_of_the_class_changes_its_jobs(tmp_path: Path) -> None:
    copied = tmp_path / "mine.py"
    shutil.copyfile(EXAMPLE, copied)
    content = tier(f"{copied}:GaussianPixels")
    before = Plan(parse_tier(content, "own")).base_spec("own").content()
    copied.write_text(copied.read_text() + "\nEDITED = True\n")
    after = Plan(parse_tier(content, "own")).base_spec("own").content()
    assert before["network"].pop("sha256") != after["network"].pop("sha256")
    assert before == after


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("x = 1", "Mine", "has no class Mine derived from mclr.models.OwnFamily"),
        ("class Mine: pass", "Mine", "has no class Mine derived from"),
        ("import nothing_at_all", "Mine", "ModuleNotFoundError: No module named"),
    ],
)
def test_mistakes_in_the_file_are_named(
    trained: Trained, tmp_path: Path, content: str, name: str, message: str
) -> None:
    (tmp_path / "mine.py").write_text(content)
    spec = Plan(parse_tier(tier(f"{tmp_path}/mine.py:{name}"), "own")).base_spec("own")
    with pytest.raises(UserError, match=message):
        make_family(spec, load_manifest(trained.manifest))


def test_missing_file() -> None:
    with pytest.raises(UserError, match=r"nowhere.py:Mine': expected path/to/file.py:Class"):
        Plan(parse_tier(tier("nowhere.py:Mine"), "own")).base_spec("own")
