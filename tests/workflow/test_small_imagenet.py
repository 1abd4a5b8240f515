"""The imagenet tier, every rule for real at reduced size; its numbers mean nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from checkout import Checkout, by_rule, copy_tree, count_jobs
from small_imagenet import small_imagenet

from mclr.config.reading import load_tier
from mclr.config.tier import Tier
from mclr.files import load_tensors
from mclr.jobs.inputs import Data
from mclr.metrics.features import published_moments, read_features
from mclr.metrics.reference import Reference
from mclr.models.families import make_family
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan
from mclr.report.names import views_of

CONFIG = Path(__file__).parents[2] / "config" / "imagenet.yaml"


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the small tier has run; read only."""
    checkout = copy_tree(tmp_path_factory.mktemp("imagenet"), "config/imagenet.yaml")
    content = small_imagenet(CONFIG, checkout.folder / "files")
    (checkout.folder / "config" / "imagenet.yaml").write_text(
        yaml.safe_dump(content, sort_keys=False)
    )
    checkout.environment["IMAGENET"] = str(checkout.folder / "files" / "images")
    checkout.snakemake("all")
    return checkout


def test_table_one_has_its_three_blocks(reproduced: Checkout) -> None:
    table = pd.read_csv(reproduced.results / "table1.csv")
    generated = table[table["method"] != "real"]
    assert generated.groupby("model", sort=False)["method"].agg(list).to_dict() == {
        "edm2-s": ["base", "cfg", "distill", "ddo", "mclr", "ddo-released"],
        "edm2-l": ["base", "cfg", "mclr"],
        "var-d24": ["base", "cfg", "gft", "mg", "mclr", "cca-released"],
    }
    text = (reproduced.results / "table1.md").read_text()
    assert "| +DDO, released weights |" in text and "| +CCA, released weights |" in text
    assert "FD on features dinov2, precision and recall on inception" in text


def test_columns_come_from_the_nets_of_the_paper(reproduced: Checkout) -> None:
    rows = pd.read_parquet(reproduced.results / "metrics.parquet")
    table = pd.read_csv(reproduced.results / "table1.csv")
    base, shown = (
        found[(found["model"] == "edm2-l") & (found["method"] == "base")].iloc[0]
        for found in (rows, table)
    )
    assert shown["fd"] == pytest.approx(base["fd_dinov2"], rel=1e-4)
    assert shown["precision"] == pytest.approx(base["precision_inception"], rel=1e-4)
    assert shown["recall"] == pytest.approx(base["recall_inception"], rel=1e-4)


def test_fd_compares_with_the_published_statistics(reproduced: Checkout) -> None:
    for model, side in (("edm2-l", 32), ("edm2-s", 16)):
        row = json.loads((reproduced.results / f"evaluations/{model}-base.json").read_text())
        base = next(point for point in row["rows"] if not point["guidance"])
        net = reproduced.results / "feature-nets" / f"dinov2-{side}px"
        generated = read_features(
            [reproduced.results / "features" / base["path"] / "shard-000.parquet"], "dinov2"
        ).features
        real = read_features([net / "reference.parquet"], "dinov2").features
        moments = published_moments(net / "net.safetensors")
        assert moments is not None
        assert base["fd_dinov2"] == pytest.approx(
            Reference(real, 3, moments).frechet_distance(generated), rel=1e-9
        )
        assert base["fd_dinov2"] != pytest.approx(
            Reference(real, 3).frechet_distance(generated), rel=1e-3
        )


def test_var_learns_from_its_own_crop(reproduced: Checkout) -> None:
    """From the same index of images, the first of which are cropped and encoded again here."""
    tier = load_tier(reproduced.folder / "config" / "imagenet.yaml")
    spec = Plan(tier).encode_spec("var-d24")
    folder = reproduced.folder / "data" / "prepared" / "imagenet"
    tokens, _ = load_tensors(reproduced.results / "encoded" / "var-d24.safetensors")
    weights = reproduced.results / "tokenizers" / "var-d24.safetensors"
    first = torch.arange(20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGENET", reproduced.environment["IMAGENET"])
        same = {}
        for transform in ("var", None):
            data = Data(folder, transform)
            images, _ = data.rows("train", first)
            family = make_family(spec, data.manifest, weights)
            same[transform] = torch.equal(family.encode(images).int(), tokens["x"][:20])
    assert same == {"var": True, None: False}


def test_every_network_names_its_file(reproduced: Checkout) -> None:
    runs = reproduced.results / "runs"
    for run, file in {
        "edm2-s-base": "s.pkl",
        "edm2-l-base": "l.pkl",
        "edm2-l-guide": "xs.pkl",
        "var-d24-base": "var.pth",
        "edm2-s-ddo-released": "s-ddo.pkl",
        "var-d24-cca-released": "var_cca.pth",
    }.items():
        source = json.loads((runs / run / "provenance.json").read_text())["source"]
        assert source["source"]["file"] == file
    trained = json.loads((runs / "edm2-s-guide" / "provenance.json").read_text())
    assert "source" not in trained


def test_nothing_is_left_to_do(reproduced: Checkout) -> None:
    assert reproduced.planned("all") == {}


def full_tier(monkeypatch: pytest.MonkeyPatch) -> Tier:
    monkeypatch.setenv("IMAGENET", "/data/imagenet")
    return load_tier(CONFIG)


def test_the_full_dag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On the Slurm profile, without the data: what a group with a cluster would start."""
    plan = Plan(full_tier(monkeypatch))
    checkout = copy_tree(tmp_path, "config/imagenet.yaml")
    checkout.environment["IMAGENET"] = str(tmp_path / "ILSVRC2012_img_train.tar")
    (tmp_path / "ILSVRC2012_img_train.tar").touch()
    out = checkout.run(
        "snakemake", "--profile", "slurm", "--configfile", "config/imagenet.yaml",
        "--dry-run", "--quiet", "rules", "--", "all",
    ).stdout  # fmt: skip
    planned, dag = count_jobs(out), Jobs(plan, views_of(plan.tier))
    points = sum(len(found) for found in plan.evaluations.values())
    assert planned["sample"] == points * plan.tier.evaluation.shards
    assert planned["evaluate"] == len(plan.evaluations)
    assert planned["fetch_released"] == 14
    assert {"import_base_edm2_s", "import_base_edm2_l", "import_base_var_d24"} <= planned.keys()
    assert {"guide_edm2_s", "import_guide_edm2_l"} <= planned.keys()
    assert {
        "import_tuned_edm2_s_ddo_released",
        "import_tuned_var_d24_cca_released",
    } <= planned.keys()
    assert Counter(job.rule for job in dag.behind()) == by_rule(planned)
