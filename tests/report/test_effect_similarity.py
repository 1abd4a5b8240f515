"""Directions of change: in closed form, and from the feature files of a tier."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from grid_levels import CLASSES

from mclr.cli import cli
from mclr.config.tier import Tier
from mclr.files import read_json, write_text
from mclr.metrics.features import stream_features
from mclr.metrics.similarity import similarity
from mclr.report.names import similarity_files
from mclr.report.progress import guided_and_tuned


def test_cosines_of_shifts_in_closed_form() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    base = torch.zeros(4, 2)
    first = torch.tensor([[1.0, 0], [3, 0], [0, 1], [0, 1]])
    second = torch.tensor([[0.0, 2], [2, 2], [0, 3], [0, 5]])
    found = similarity(base, first, second, labels)
    # Class means: (2, 0) and (1, 2) meet at 1/√5; (0, 1) and (0, 4) are parallel.
    assert found.classes == pytest.approx((1 / 5**0.5 + 1) / 2)
    assert found.images == pytest.approx((0 + 1 / 2**0.5 + 1 + 1) / 4)
    assert found.control == pytest.approx((1 / 2**0.5 + 0 + 1 + 1) / 4)
    assert found.length == pytest.approx((5**0.5 + 4) / (2 + 1))


def test_same_shift_is_alike_and_the_opposite_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    base, shift = torch.randn(2, 40, 8, generator=generator).double()
    labels = torch.arange(40) % 4
    alike = similarity(base, base + shift, base + 2 * shift, labels)
    assert (alike.classes, alike.images, alike.length) == pytest.approx((1, 1, 2))
    opposite = similarity(base, base + shift, base - shift, labels)
    assert (opposite.classes, opposite.images) == pytest.approx((-1, -1))


def test_unrelated_images_of_one_base_image_have_the_control_not_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    base, first, second = torch.randn(3, 4000, 16, generator=generator).double()
    found = similarity(base, first, second, torch.arange(4000) % 10)
    assert found.images == pytest.approx(0.5, abs=0.02)
    assert found.control == pytest.approx(found.images, abs=0.02)


def test_job_compares_every_step_with_every_scale(
    metrics: pd.DataFrame, tier: Tier, tmp_path: Path
) -> None:
    import pyarrow as pa
    import yaml

    write_text(
        tmp_path / "config.yaml", yaml.safe_dump(tier.model_dump(mode="json", by_alias=True))
    )
    metrics.to_parquet(tmp_path / "metrics.parquet")
    for model in tier.models:
        guided, tuned = guided_and_tuned(metrics, tier, model)
        # γ moves along the first axis; MCLR too at the first step, and against it later.
        for point in [*guided, *tuned]:
            direction = (-1.0 if (point.step or 0) in (100, 200) else 1.0) * (not point.run.is_base)
            x = point.guidance or direction
            names = ["seed", "label", "digits-net.features"]
            seeds, labels = list(range(20)), [i % CLASSES for i in range(20)]
            values = pa.FixedSizeListArray.from_arrays(pa.array([x, 1.0] * 20, pa.float32()), 2)
            table = pa.Table.from_arrays([pa.array(seeds), pa.array(labels), values], names)
            path = tmp_path / "features" / point.path / "shard-000.parquet"
            stream_features(path, [table])
    options = {"config": "config.yaml", "metrics": "metrics.parquet", "samples": "features"}
    options |= {"output": "similarity.json", "figures": "figures"}
    arguments = [part for key, name in options.items() for part in (f"--{key}", tmp_path / name)]
    CliRunner().invoke(cli, ["similarity", *map(str, arguments)], catch_exceptions=False)
    found = read_json(tmp_path / "similarity.json")["models"]["edm2"]
    assert found["steps"] == [50, 100, 200] and found["scales"] == [0.5, 1.0, 2.0]
    assert found["nets"]["digits-net"]["classes"] == [[1.0] * 3, [-1.0] * 3, [-1.0] * 3]
    assert found["nets"]["digits-net"]["length"][0] == [2.0, 1.0, 0.5]
    assert found["run_id"] == "edm2-mclr-lr0.0001-seed0"
    written = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert written == sorted(similarity_files(tier))
