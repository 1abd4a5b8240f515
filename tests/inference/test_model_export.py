"""The published results as model folders: they draw what was published, and say what it is."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image
from published import bring, bring_experiments
from torch import Tensor

from mclr import cli as command_line
from mclr.config.reading import load_tier
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.files import load_tensors, read_json, save_tensors
from mclr.files.checksums import note_of, sha256
from mclr.inference import ClassConditionalPipeline
from mclr.inference.card import _commit, _released, _settings
from mclr.inference.export import export_model, model_config
from mclr.inference.markdown import Raw, escaped, fenced, joined
from mclr.inference.source import find_source
from mclr.jobs.sampling import GRID_SEED
from mclr.report.partial import edited
from mclr.settings.origin import Released

EXPERIMENTS = ("edm2-mclr", "var-cca")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    bring_experiments(folder, *EXPERIMENTS)
    return folder


@pytest.fixture
def here(results: Path, monkeypatch: pytest.MonkeyPatch) -> Tier:
    """In the folder of the published results; the tier."""
    monkeypatch.chdir(results)
    return load_tier(Path("config/digits.yaml"))


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text of a model card."""
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_exported_model_draws_the_published_grid(
    experiment: str, here: Tier, tmp_path: Path
) -> None:
    """Equal to the bit on the machine that made it; elsewhere rounding may change single pixels."""
    written = export_model(here, experiment, tmp_path / "model")
    names = {"model.safetensors", "config.json", "README.md", "samples.png"}
    assert {path.name for path in written} - {"tokenizer.safetensors"} == names
    best = Path(f"results/digits/best/{experiment}.safetensors")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == best.read_bytes()
    pipeline = ClassConditionalPipeline.from_pretrained(tmp_path / "model")
    seeds = [GRID_SEED + row for row in range(4) for _ in range(10)]
    images = pipeline([*range(10)] * 4, seeds, output_type="tensor").images
    assert isinstance(images, Tensor)
    training = pipeline.config.training
    grid = f"{training['run_id']}/step-{training['step']:06d}/guidance-0/seed-"
    grid += f"{training['identity']['seed']}/shard-000.png"
    with Image.open(Path("results/digits/grids", experiment, grid)) as stored:
        published = torch.from_numpy(np.array(stored)).view(4, 8, 10, 8).transpose(1, 2)
    assert (images.view(4, 10, 8, 8) == published).float().mean() > 0.98


@pytest.mark.parametrize("name", ["best/edm2-mclr.safetensors", "metrics.parquet"])
def test_a_damaged_result_is_not_exported(name: str, here: Tier, tmp_path: Path) -> None:
    path = Path("results/digits", name)
    whole = path.read_bytes()
    note_of(path).write_text(sha256(path))
    middle = len(whole) // 2
    try:
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :])
        with pytest.raises(UserError, match=f"{path.name}: damaged"):
            export_model(here, "edm2-mclr", tmp_path / "model")
    finally:
        path.write_bytes(whole)
        note_of(path).unlink()
    assert not (tmp_path / "model").exists()


def test_samples_bear_the_names_of_the_grid_s_classes(
    here: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grid of some classes has a column for each of them, in their order."""
    named: list[list[str]] = []

    def spy(cells: Any, names: Any, *others: Any) -> Image.Image:
        named.append(list(names))
        return Image.new("L", (8, 8))

    monkeypatch.setattr("mclr.inference.export.labelled_grid", spy)
    some = here.model_copy(
        update={"evaluation": here.evaluation.model_copy(update={"grid_classes": [7, 2]})}
    )
    export_model(here, "edm2-mclr", tmp_path / "all")
    export_model(some, "edm2-mclr", tmp_path / "some")
    assert named == [[str(digit) for digit in range(10)], ["7", "2"]]


def test_the_card_says_what_was_measured(here: Tier, tmp_path: Path) -> None:
    export_model(here, "edm2-mclr", tmp_path / "model")
    front, text = card_of(tmp_path / "model")
    assert front["library_name"] == "mclr" and "mclr" in front["tags"]
    content = read_json(tmp_path / "model" / "config.json")
    provenance = read_json(
        Path("results/digits/runs", content["training"]["run_id"], "provenance.json")
    )
    # The published table has the same numbers (results/digits/table1.md).
    assert re.search(r"\| \*\*\+MCLR, this model\*\* \| 15 \| 3\.08 ± 0\.83 \| 0\.709 ± 0\.011 "
                     r"\| 0\.918 ± 0\.009 \| 8\.43 ± 0\.02 \| 2 \|", text)  # fmt: skip
    assert re.search(r"\| base model \| 15 \| 4\.76 ± 0\.72 \|", text)
    assert re.search(r"\| real images \| – \| 0\.\d+", text)
    for fact in (
        "Eq. (22)/(150)",
        "minimise  −E[ ℓ_θ(x, c) − ℓ_θ(x, c̃) ]",
        "20e0457f0f11",
        provenance["git_commit"],
        provenance["config_sha256"],
        "CC BY 4.0",
        "recall is 0.918; that of the base model is 0.928",
        "No dial.",
        "**MCLR helped on these images: FD 3.08 against 4.76 without it (−35 %). "
        "Guidance 0.2 of the base model does no better: FD 3.25 at 30 network evaluations "
        "per image instead of 15.** (FD on features `cnn`; lower is better, and a gain counts "
        "from 5 % on.)",
    ):
        assert fact in text, fact
    assert "needs no guidance" not in text
    settings = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    assert settings["fine_tuning"]["lr"] == 0.0002 and settings["fine_tuning"]["steps"] == 20
    assert settings["base"]["steps"] == 500 and settings["sampler"]["num_steps"] == 8


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
NAMES = [
    EVIL,
    "a\nb | c",
    "[x](javascript:alert(3))",
    "`code` **bold** _it_",
    "\x1b[2J",
    "$x^2$",
    "```",
]


@pytest.fixture
def odd(here: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tier:
    """Results whose classes and model have names that try something."""
    shutil.copytree(Path.cwd(), tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    manifest = Path("data/prepared/digits/manifest.json")
    content = read_json(manifest)
    content["class_names"][: len(NAMES)] = NAMES
    content["source"]["licence"] = f"{EVIL}\n\n# Heading"
    manifest.write_text(json.dumps(content))
    models = {"edm2": here.models["edm2"].model_copy(update={"label": f"EDM2 {EVIL} *x*\n"})}
    return here.model_copy(update={"models": here.models | models})


def test_text_of_others_is_text_in_the_card(odd: Tier, tmp_path: Path) -> None:
    from markdown_it import MarkdownIt

    export_model(odd, "edm2-mclr", tmp_path / "model")
    _, text = card_of(tmp_path / "model")
    assert "\x1b" not in text
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    shown = re.sub("<code.*?</code>", "", page, flags=re.DOTALL)
    assert "<script" not in page and "<img src=x" not in page and "javascript:" in page
    assert 'href="javascript' not in page and page.count("<h1>") == 1
    row = re.findall("<td[^>]*>(.*?)</td>", page[page.index("classes</td>") :])[0]
    for name in (EVIL, "a b | c", "[x](javascript:alert(3))", "_it_", r"\x1b[2J", "$x^2$", "```"):
        assert name in html.unescape(row)
    assert "<strong>" not in row and "<em>" not in shown.split("<h1>")[1].split("</h1>")[0]
    assert ClassConditionalPipeline.from_pretrained(tmp_path / "model").class_names[:7] == NAMES


def test_an_objective_of_ones_own_is_text_in_the_card() -> None:
    """Blocks of code end where they should, and are not escaped."""
    assert fenced("x\n```\n<b>\x1b") == "````\nx\n```\n<b>\\x1b\n````"
    assert fenced("a < b", "yaml") == "```yaml\na < b\n```"
    assert escaped("θ_ref of [a](b) & <i>") == r"θ_ref of \[a\](b) &amp; &lt;i&gt;"
    assert joined(["a|b", Raw("**c**"), 1], " | ") == r"a\|b | **c** | 1"


def test_an_export_that_fails_leaves_nothing(
    here: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the next try is not refused for what the first one left."""

    def broken(*given: Any) -> None:
        raise ValueError("cannot be drawn")

    with monkeypatch.context() as patch:
        patch.setattr("mclr.inference.export.labelled_grid", broken)
        with pytest.raises(ValueError, match="cannot be drawn"):
            export_model(here, "edm2-mclr", tmp_path / "new" / "model")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "new" / "model").mkdir()
    written = export_model(here, "edm2-mclr", tmp_path / "new" / "model")
    assert all(path.is_file() for path in written)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]


def test_a_terminal_is_not_given_commands(here: Tier, tmp_path: Path) -> None:
    """Escape sequences in a label, and in a key that an error names."""
    text = Path("config/digits.yaml").read_text()
    label = re.sub("label: EDM2.*", 'label: "E\\\\e[31m\\\\a\\\\u202e"', text)
    (tmp_path / "label.yaml").write_text(label)
    (tmp_path / "key.yaml").write_text(text + '"\\e[2J": 1\n')
    for name in ("label", "key"):
        command = ("-m", "mclr", "show", "--config", tmp_path / f"{name}.yaml")
        done = subprocess.run((sys.executable, *command), capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert done.returncode == 2, said
        assert not set("\x1b\a\u202e") & set(said)
        assert "\N{REPLACEMENT CHARACTER}[" in said or name == "label"  # which is not repeated


def test_the_code_of_the_card_works(
    here: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_model(here, "var-cca", tmp_path / "model")
    _, text = card_of(tmp_path / "model")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path / "model")
    exec(code, {})
    with Image.open("first.png") as image:
        assert image.size == (8, 8)


def test_no_folder_of_the_author_s_machine_is_told(here: Tier) -> None:
    source = find_source(here, "edm2-mclr")
    data = {"name": "images", "path": "/home/ann/photos", "transform": "center-crop"}
    base = Released(released="/home/ann/weights/own.pkl")
    model = source.model.model_copy(update={"base": base})
    tier = here.model_copy(update={"models": here.models | {"edm2": model}})
    told = replace(source, tier=tier, manifest=source.manifest | {"source": data})
    training = model_config(told).training
    assert training["data"]["source"] == data | {"path": "photos"}
    assert training["base"]["released"] == "own.pkl"
    assert "/home/ann" not in json.dumps(training)
    released = _released(told.model.base)
    assert released and released["name"] == "own.pkl"
    assert _settings(told)["base"]["released"] == "own.pkl"


def test_a_base_model_can_be_exported(here: Tier, tmp_path: Path) -> None:
    export_model(here, "edm2-base", tmp_path / "model")
    _, text = card_of(tmp_path / "model")
    assert "the base model of the" in text and "No dial" not in text
    assert "| **EDM2 (8×8 pixels), this model** | 15 | 4.76 ± 0.72 |" in text
    pipeline = ClassConditionalPipeline.from_pretrained(tmp_path / "model")
    assert pipeline.config.training["step"] == 500 and pipeline.config.null_label


def test_recipes_measured_again_are_shown_with_their_final_seeds(
    here: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Final rows take the place of those that the choice was made on; a model at a resolution."""
    shutil.copytree(Path.cwd(), tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    metrics = pd.read_parquet("results/digits/metrics.parquet")
    chosen = (metrics["model"] == "edm2") & metrics["method"].isin(["base", "mclr"])
    chosen &= metrics["step"].isin([500, 20])
    final = metrics[chosen].assign(stage="final", fd_cnn=lambda rows: rows["fd_cnn"] + 10)
    final["seed"] += 2
    pd.concat([metrics, final]).to_parquet("results/digits/metrics.parquet")
    prepared = Path("data/prepared/digits")
    shutil.copytree(prepared, tmp_path / "8px")
    shutil.rmtree(prepared)
    shutil.move(tmp_path / "8px", prepared / "8px")
    config = Path("config/digits.yaml").read_text()
    config = config.replace("seeds: [0, 1]", "seeds: [0, 1]\nfinal: {seeds: [2, 3]}", 1)
    config = config.replace("label: EDM2", "resolution: 8\n    label: EDM2", 1)
    (tmp_path / "digits.yaml").write_text(config)
    export_model(load_tier(tmp_path / "digits.yaml"), "edm2-mclr", tmp_path / "model")
    _, text = card_of(tmp_path / "model")
    assert "trained\nagain with other seeds and measured on other images" in text
    assert "this model** | 15 | 13.08 ± 0.83 |" in text
    assert "| base model | 15 | 14.76 ± 0.72 |" in text
    assert "images they were chosen by: FD 2.49, " in text


@pytest.mark.parametrize(
    ("commit", "dirty", "words"),
    [
        ("abc", False, "abc"),
        ("abc", True, "abc (with uncommitted changes)"),
        ("abc", None, "abc (with or without uncommitted changes)"),
        ("unknown", None, "unknown"),
        ("", False, "unknown"),
    ],
)
def test_the_commit_in_words(commit: str, dirty: bool | None, words: str) -> None:
    assert _commit({"git_commit": commit, "git_dirty": dirty}) == words


def test_unknown_experiment(here: Tier, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'edm2-dpo': tier digits has none; choose from edm2-base"):
        export_model(here, "edm2-dpo", tmp_path / "model")


def test_a_folder_with_files_is_left_alone(here: Tier, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UserError, match="exists and is not empty"):
        export_model(here, "edm2-mclr", tmp_path)
    with pytest.raises(UserError, match="exists and is not empty"):
        export_model(here, "edm2-mclr", tmp_path / "mine")


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ("best/edm2-mclr.safetensors", "checkpoint is missing"),
        ("metrics.parquet", "no results yet; run `snakemake` or `dvc pull`"),
        ("protocols.json", "file is missing; run `snakemake`"),
        ("runs/edm2-base/provenance.json", "file is missing; run `snakemake`"),
    ],
)
def test_missing_results(
    missing: str, text: str, here: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path.cwd(), tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    Path("results/digits", missing).unlink()
    with pytest.raises(UserError, match=rf"{missing}: {text}"):
        export_model(here, "edm2-mclr", tmp_path / "model")
    assert not (tmp_path / "model" / "config.json").exists()


def test_a_checkpoint_of_another_configuration_is_refused(
    here: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Path("config/digits.yaml").read_text().replace("lr: 0.0002", "lr: 0.0004", 1)
    (tmp_path / "digits.yaml").write_text(config)
    with pytest.raises(UserError, match=r"was not made by this configuration of edm2-mclr; give"):
        export_model(load_tier(tmp_path / "digits.yaml"), "edm2-mclr", tmp_path / "model")


def test_a_checkpoint_that_was_never_measured_is_refused(
    here: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path.cwd(), tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    best = Path("results/digits/best/edm2-mclr.safetensors")
    tensors, metadata = load_tensors(best)
    save_tensors(best, tensors, metadata | {"step": "30"})
    with pytest.raises(UserError, match=r"metrics\.parquet: no row of edm2-mclr-seed. at step 30"):
        export_model(here, "edm2-mclr", tmp_path / "model")


def test_one_row_alone_is_shown_and_exported(
    here: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a tier without Table 1: what is measured says so, with commands that work."""
    shutil.copytree(Path.cwd(), tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    names = [f"results/digits/evaluations/{name}.json" for name in ("edm2-base", "edm2-mclr")]
    bring(Path(), *names)
    whole = card_of(export_model(here, "edm2-mclr", tmp_path / "whole")[0].parent)[1]
    for name in ("metrics.parquet", "protocols.json"):
        Path("results/digits", name).unlink()
    told = CliRunner().invoke(command_line.cli, ["show"], catch_exceptions=False).stdout
    rows = read_json(Path(names[1]))["rows"]
    lowest = min(fmean(r["fd_cnn"] for r in rows if same(r, s)) for s in rows)
    assert f"edm2-mclr: FD {lowest:.3g}, precision 0." in told
    assert "keep the best" not in told and "no Table 1 yet" in told
    assert "not begun: edm2-mclr-dsm, " in told
    (command,) = re.findall(r"use it:  mclr (export-model .* my-edm2-mclr)", told)
    CliRunner().invoke(command_line.cli, shlex.split(command), catch_exceptions=False)
    assert "these images: FD " in card_of(Path("my-edm2-mclr"))[1]
    assert (
        whole.split("## Metrics")[0].split("**")[0]
        == (card_of(Path("my-edm2-mclr"))[1].split("## Metrics")[0].split("**")[0])
    )
    with pytest.raises(UserError, match=r"metrics\.parquet: no results yet"):
        CliRunner().invoke(command_line.cli, ["show", "--json"], catch_exceptions=False)


def same(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(row[key] == other[key] for key in ("hyperparameters", "step", "guidance"))


def test_trained_but_not_measured_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bring(tmp_path, "results/digits/runs/edm2-base", "results/digits/config.yaml")
    told = CliRunner().invoke(command_line.cli, ["show"], catch_exceptions=False)
    assert "edm2-base: 1 of 1 runs finished, not measured yet" in told.output
    assert "results/digits/runs/edm2-base/checkpoints/step-" in told.output
    assert "-- results/digits/evaluations/edm2-base.json" in told.output
    assert "was edited since" not in told.stderr


def test_an_edited_configuration_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    bring(tmp_path, "results/digits/config.yaml", "results/digits/runs/edm2-base")
    tier = load_tier(Path("config/digits.yaml"))
    assert edited(tier, Path("results/digits")) == ""
    text = Path("config/digits.yaml").read_text()
    Path("config/digits.yaml").write_text(text.replace("seeds: [0, 1]", "seeds: [0, 5]", 1))
    CliRunner().invoke(command_line.cli, ["show"], catch_exceptions=False)
    assert edited(load_tier(Path("config/digits.yaml")), Path("results/digits")) == (
        "seeds [0, 1], now [0, 5]"
    )
