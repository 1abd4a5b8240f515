"""Networks that others fine-tuned: rows that are sampled and measured, not trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from tiers import ROOT
from tiny import Trained

from mclr.claims.render import markdown
from mclr.claims.verdicts import as_json, findings
from mclr.config.reading import parse_tier
from mclr.config.tier import Tier
from mclr.cost.images import images_of
from mclr.cost.work import Workload
from mclr.data.releases import released_row
from mclr.errors import UserError
from mclr.files import load_tensors, read_json, write_json
from mclr.inference import ClassConditionalPipeline
from mclr.inference.export import export_model
from mclr.inference.licence import check_sharing, licence_for, parts_of
from mclr.jobs.take_over import import_base
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan
from mclr.report.names import kinds_of, views_of
from mclr.report.rows import make_table
from mclr.report.view import ModelView
from mclr.settings.origin import Released

RELEASED = {"model": "var", "method": "cca", "released": "cca.pth"}


@pytest.fixture
def tier(tiny: dict[str, Any]) -> Tier:
    tiny["runs"] |= {"var-cca-theirs": RELEASED}
    return parse_tier(tiny, "tiny")


def row(tier: Tier, method: str, fd: float, **values: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"tier": tier.tier, "model": "var", "method": method, "nfe": 3}
    found |= {"hyperparameters": "{}", "step": 4, "guidance": 0.0, "dial": 1.0, "stage": "grid"}
    found |= {"run_id": "", "n_samples": 10, "protocol": "p", "seed": 0, "is_mean": 2.0}
    net = {"fd_cnn": fd, "precision_cnn": 0.5, "recall_cnn": 0.5, "accuracy_cnn": 0.5}
    return found | net | values


def measured(tier: Tier) -> pd.DataFrame:
    rows = [row(tier, "base", 9.0), row(tier, "cca", 5.0, hyperparameters='{"lr": 0.1}')]
    theirs = row(tier, "cca-released", 4.0, step=0, hyperparameters='{"released": "cca.pth"}')
    other = [r | {"model": "edm2"} for r in rows[:1]]
    return pd.DataFrame([*rows, theirs, *other])


def test_it_is_taken_over_and_measured_but_not_trained(tier: Tier) -> None:
    dag = Jobs(Plan(tier), views_of(tier))
    names = {job.name for job in dag.behind()}
    assert {"import_tuned:var-cca-theirs", "evaluate:var-cca-theirs"} <= names
    assert not [name for name in names if name.startswith(("finetune:var-cca-t", "best:var-cca-t"))]
    job = dag.take_over("var-cca-theirs")
    assert job.kind == "import-base.var" and job.inputs["source"] == ["cca.pth"]
    points = dag.plan.evaluations["var-cca-theirs"]
    assert [(p.step, p.guidance, p.seed) for p in points] == [(0, 0.0, 0), (0, 0.0, 1)]
    assert dag.plan.weights(points[0]) == job.outputs["checkpoint"]
    load = Workload(dag.plan, images_of(tier))
    assert load.of(job).macs == 0


def test_a_missing_copy_is_told_before_any_job(
    tier: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dag = Jobs(Plan(tier))
    with pytest.raises(UserError, match=r"^runs\.var-cca-theirs\.released: cca\.pth: no such file"):
        dag.require_released()
    Path("cca.pth").touch()
    dag.require_released()


def test_a_missing_base_is_told_before_any_job(tiny: dict[str, Any]) -> None:
    tiny["models"]["var"]["base"] = {"released": "some/where.pth"}
    with pytest.raises(UserError, match=r"^models\.var\.base\.released: some/where\.pth: no such"):
        Jobs(Plan(parse_tier(tiny, "tiny"))).require_released()


def test_what_is_fetched_need_not_be_there(tiny: dict[str, Any]) -> None:
    tiny["runs"] = {"theirs": RELEASED | {"released": "cca-var-d24"}}
    Jobs(Plan(parse_tier(tiny, "tiny"))).require_released()


PUBLISHED = {
    "DDO": ("ddo-edm2-img64-s", "ddo-edm2-img512-l", "ddo-var-d16", "ddo-var-d30"),
    "CCA": ("cca-var-d16", "cca-var-d20", "cca-var-d24", "cca-var-d30"),
    "GFT": ("gft-dit-xl",),
}


def test_the_networks_that_authors_published_have_their_licence() -> None:
    for method, names in PUBLISHED.items():
        for name in names:
            row = released_row(name)
            assert row is not None and row["licence"], name
            assert f"fine-tuned with {method} by its authors" in row["version"]
            assert row["url"].endswith(f"/{row['file']}")


def test_what_no_importer_reads_is_refused_before_it_is_fetched() -> None:
    """GFT's DiT-XL/2: a pickle of its authors' code, whose network takes β as an input."""
    content = yaml.safe_load((ROOT / "config" / "imagenet-dit.yaml").read_text())
    content["models"]["dit-xl-2"] |= {"base": {"released": "sd-vae-ft-mse"}}
    content["models"]["dit-xl-2"]["autoencoder"] = {"released": "sd-vae-ft-mse"}
    Jobs(Plan(parse_tier(content, "dit"))).require_released()  # a folder, in the table or not
    content["runs"]["theirs"] = {"model": "dit-xl-2", "method": "gft", "released": "gft-dit-xl"}
    with pytest.raises(UserError, match=r"^runs\.theirs\.released: gft-dit-xl: DiT-XL-GF-finetune"):
        Jobs(Plan(parse_tier(content, "dit"))).require_released()


def test_final_seeds_draw_other_images_of_the_same_weights(tiny: dict[str, Any]) -> None:
    tiny["final"] = {"seeds": [5, 6]}
    tiny["runs"] = {"var-cca-theirs": RELEASED}
    plan = Plan(parse_tier(tiny, "tiny"))
    points = plan.evaluations["var-cca-theirs-final"]
    assert [(p.run.run_id, p.step, p.seed) for p in points] == [
        ("var-cca-theirs", 0, 5),
        ("var-cca-theirs", 0, 6),
    ]


def test_its_weights_are_imported_as_those_of_a_base(
    tier: Tier, trained: Trained, tmp_path: Path
) -> None:
    tensors = load_tensors(trained.var)[0]
    tensors["head.weight"] = 2 * tensors["head.weight"]
    torch.save(tensors, tmp_path / "cca.pth")
    spec, run = Plan(tier).taken_spec("var-cca-theirs"), tmp_path / "run"
    import_base(spec, trained.manifest, tmp_path / "cca.pth", trained.tokenizer, run)
    found = load_tensors(run / "checkpoints/step-000000.safetensors")[0]
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    facts = read_json(run / "provenance.json")
    assert facts["method"] == "cca-released" and facts["source"]["source"]["file"] == "cca.pth"


def test_table_claims_and_figures_say_whose_it_is(tier: Tier) -> None:
    metrics = measured(tier)
    table = make_table(metrics, tier)
    rows = {row.method: row.chosen for row in table.blocks[1].rows}
    assert "+CCA †" in rows and "+CCA, released weights" in rows
    view = ModelView(metrics, tier, "var", "cnn")
    ours, theirs = view.methods["cca"], view.methods["cca-released"]
    assert ours.colour == theirs.colour and ours.marker != theirs.marker and not theirs.trained
    text = markdown(as_json(findings(metrics, tier), tier), list(tier.models))
    assert "CCA's released weights have a lower FD than the base model" in text
    assert "-released" not in json.dumps(kinds_of(tier, "var"))


def test_claims_ask_nothing_of_it_where_there_is_none(tiny: dict[str, Any]) -> None:
    tier = parse_tier(tiny, "tiny")
    metrics = measured(tier)
    metrics = metrics[metrics["method"] != "cca-released"]
    assert not [f for f in findings(metrics, tier) if "released" in f.claim.id]


@pytest.fixture
def results(
    tier: Tier, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """What the tier's jobs leave of it: weights, provenance of it and of its base, metrics."""
    monkeypatch.chdir(tmp_path)
    plan, folder = Plan(tier), Path("results", "tiny")
    manifest = Path(plan.files.prepared(None)["manifest"])
    tokenizer = Path(plan.files.tokenizer("var"))
    for source, target in ((trained.manifest, manifest), (trained.tokenizer, tokenizer)):
        target.parent.mkdir(parents=True)
        shutil.copyfile(source, target)
    torch.save(load_tensors(trained.var)[0], "cca.pth")
    spec, run = plan.taken_spec("var-cca-theirs"), folder / "runs" / "var-cca-theirs"
    import_base(spec, manifest, Path("cca.pth"), tokenizer, run)
    shutil.copytree(run, folder / "runs" / "var-base")
    rows = measured(tier).assign(stage="grid", seed=0)
    rows.loc[rows["method"] == "cca-released", "run_id"] = "var-cca-theirs"
    rows["hyperparameters"] = rows["hyperparameters"].str.replace(" ", "")
    for n in tier.features:
        for key in ("fd", "precision", "recall", "accuracy"):
            rows[f"{key}_{n}"] = rows[f"{key}_cnn"]
    rows.to_parquet(folder / "metrics.parquet")
    write_json(folder / "protocols.json", {"p": {"id": "p"}})
    yield


@pytest.mark.usefixtures("results")
def test_its_card_says_whose_weights_they_are(tier: Tier, trained: Trained) -> None:
    written = export_model(tier, "var-cca-theirs", Path("model"))
    assert {path.name for path in written} >= {"README.md", "model.safetensors"}
    tensors = load_tensors(Path("model/model.safetensors"))[0]
    assert all(torch.equal(tensors[n], t) for n, t in load_tensors(trained.var)[0].items())
    text = Path("model/README.md").read_text()
    for words in (
        "# VAR+CCA, released weights on",
        "fine-tuned with\nCCA, released weights",
        "Fine-tuning: released weights cca.pth, trained by others",
        "trained by those who released them, with code of their own",
        "**+CCA, released weights, this model**",
        "| fine-tuned weights | cca.pth | not stated: it binds what is made of them |",
    ):
        assert words in text, words
    assert "images seen" not in text and "were chosen by" not in text
    assert ClassConditionalPipeline.from_pretrained("model").config.training["step"] == 0


@pytest.mark.usefixtures("results")
def test_it_is_shared_under_its_own_licence(tier: Tier) -> None:
    with pytest.raises(UserError, match=r"the fine-tuned weights cca\.pth is not stated"):
        export_model(tier, "var-cca-theirs", Path("model"), licence="mit", sharing=True)
    theirs = Released(released="ddo-var-d16")
    parts = parts_of(tier.models["var"], theirs)
    assert licence_for(parts, None) == "cc-by-nc-sa-4.0"
    with pytest.raises(UserError, match=r"weights ddo-var-d16 is under cc-by-nc-sa-4\.0"):
        check_sharing(parts, "mit", despite=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "magic"}, "unknown method 'magic'; choose from .*ddo, cca"),
        ({"method": "cfg"}, "unknown method 'cfg'"),
        ({"model": "gan"}, "unknown name 'gan'"),
        ({"lr": 1}, "lr"),
    ],
)
def test_what_cannot_be(tiny: dict[str, Any], change: dict[str, Any], message: str) -> None:
    tiny["runs"] |= {"var-cca-theirs": RELEASED | change}
    with pytest.raises(UserError, match=message):
        parse_tier(tiny, "tiny")


@pytest.mark.parametrize("edit", [
    lambda tier: tier["studies"].update({"var-cca-theirs": {"guidance": [1.0]}}),
    lambda tier: tier["runs"]["var-mclr"].update({"from": "var-cca-theirs"}),
])  # fmt: skip
def test_it_has_no_studies_and_no_rounds(
    tiny: dict[str, Any], edit: Callable[[dict[str, Any]], None]
) -> None:
    tiny["runs"] |= {"var-cca-theirs": RELEASED}
    tiny.setdefault("studies", {})
    edit(tiny)
    with pytest.raises(UserError, match="var-cca-theirs"):
        parse_tier(tiny, "tiny")
