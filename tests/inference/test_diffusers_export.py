"""A model of diffusers as a folder: diffusers loads and draws it, and so do we."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import DiffusionPipeline, DiTPipeline
from diffusers_folders import dit_folder, unet_folder
from hub_server import Hub, Machine
from tiny import TINY, Trained

from mclr.cli import cli
from mclr.config.reading import parse_tier
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.files import load_tensors, read_json
from mclr.inference import ClassConditionalPipeline, card
from mclr.inference.export import model_config
from mclr.inference.folder import write_folder
from mclr.inference.measured import Measured
from mclr.inference.source import find_source
from mclr.jobs.take_over import import_base, import_tokenizer
from mclr.planning.plan import Plan


def tier_of(**model: Any) -> Tier:
    told = {
        "family": "diffusers",
        "label": "tiny",
        "base": {"released": "base"},
        "noise": {"P_mean": 0.3, "P_std": 1.0},
        "sampler": {"kind": "scheduler", "num_steps": 5},
        "guidance": [0.5],
    }
    return parse_tier(TINY | {"models": {"net": told | model}, "runs": {}}, "net")


def exported(tier: Tier, trained: Trained) -> Path:
    """The base, taken over and exported, but for its card, which needs metrics."""
    plan, results = Plan(tier), Path("results", "tiny")
    shutil.copytree(trained.prepared, Path("data", "prepared", "tiny"))
    tokenizer = None
    if tier.models["net"].has_coder:
        tokenizer = results / "tokenizers" / "net.safetensors"
        import_tokenizer(plan.encode_spec("net"), trained.manifest, Path("base"), tokenizer)
    run = results / "runs" / "net-base"
    import_base(plan.base_spec("net"), trained.manifest, Path("base"), tokenizer, run)
    source = find_source(tier, "net-base")
    write_folder(Path("model"), model_config(source), source.weights, source.tokenizer)
    return Path("model")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def drawn(folder: Path, **how: Any) -> torch.Tensor:
    pipeline = ClassConditionalPipeline.from_pretrained(folder)
    images = pipeline([0, 7], [3, 4], output_type="tensor", **how).images
    assert isinstance(images, torch.Tensor)
    return images


@pytest.mark.usefixtures("here")
def test_diffusers_draws_what_we_draw(trained: Trained) -> None:
    dit_folder(Path("base"))
    folder = exported(tier_of(), trained)
    pipeline: Any = DiTPipeline.from_pretrained(folder)  # type: ignore[no-untyped-call]
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.get_label_ids(["7"]) == [7]
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    how = {"guidance_scale": 1, "num_inference_steps": 5, "output_type": "np"}
    theirs = torch.from_numpy(pipeline([0, 7], generator=generators, **how).images)
    expected = theirs.permute(0, 3, 1, 2) * 255
    assert ((drawn(folder).float() - expected).abs() <= 0.5 + 1e-2).all()
    assert not torch.equal(drawn(folder), drawn(folder, num_steps=3))
    assert not torch.equal(drawn(folder), drawn(folder, guidance=3.0))


@pytest.mark.usefixtures("here")
def test_from_the_command_line(trained: Trained) -> None:
    """`mclr draw` makes what the pipeline class makes."""
    dit_folder(Path("base"))
    folder = exported(tier_of(), trained)
    asked = ("draw", "--model", str(folder), "--classes", "0,7", "--per-class", "1", "--seed", "3")
    files = ("--output", "grid.png", "--npz", "grid.npz", "--sampler", "num_steps=3")
    done = CliRunner().invoke(cli, [*asked, *files])
    assert done.exit_code == 0, done.output
    images = np.load("grid.npz")["arr_0"]
    wanted = ClassConditionalPipeline(folder)([0, 7], [3, 3], output_type="tensor", num_steps=3)
    assert isinstance(wanted.images, torch.Tensor)
    assert (images == wanted.images.permute(0, 2, 3, 1).numpy()).all()


@pytest.mark.usefixtures("here")
def test_on_the_hub_and_back(trained: Trained, tmp_path: Path) -> None:
    """Its parts are in folders of their own, there too; a commit of it draws the same."""
    dit_folder(Path("base"))
    folder, hub = exported(tier_of(), trained), Hub()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "notes.txt").write_text("of mine")
    push = """
from pathlib import Path
from mclr.inference.folder import FILES
from mclr.inference.hub import push
print(push(Path("model"), list(FILES), "me/dit"))
"""
    try:
        status, commit, err = Machine(tmp_path / "a", tmp_path, hub.url).python("-c", push)
        assert status == 0, err
        ((made, files),) = hub.models["me/dit"]
        assert made == commit.strip()
        on_disk = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
        wanted = {name for name, path in on_disk.items() if path.is_file()} - {"notes.txt"}
        assert files.keys() == wanted
        assert all(content == on_disk[name].read_bytes() for name, content in files.items())
        reader = Machine(tmp_path / "b", tmp_path, hub.url, token="")
        how = ("--classes", "0,7", "--per-class", "1", "--seed", "3", "--npz", "grid.npz")
        status, _, err = reader.mclr("draw", "--model", f"me/dit@{made}", "--out", "a.png", *how)
        assert status == 0, err
    finally:
        hub.close()
    ours = ClassConditionalPipeline(folder)([0, 7], [3, 3], output_type="tensor").images
    assert isinstance(ours, torch.Tensor)
    assert (np.load("grid.npz")["arr_0"] == ours.permute(0, 2, 3, 1).numpy()).all()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("write", [dit_folder, unet_folder])
def test_the_card_says_what_loads_it(
    write: Any, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DiTPipeline, if it can; a table stands for one, since nothing was measured."""
    write(Path("base"))
    exported(tier_of(), trained)
    nothing = Measured("cnn", "id", 0, [], [], False, "", "", "")
    monkeypatch.setattr(card, "measure", lambda source: [nothing])
    monkeypatch.setattr(card, "_protocol", lambda *_: "")
    source = find_source(tier_of(), "net-base")
    text = card.write_card(source, model_config(source), Path("model")).read_text()
    is_dit = write is dit_folder
    assert ("DiTPipeline.from_pretrained" in text) == is_dit
    assert f"`{'transformer' if is_dit else 'unet'}/diffusion_pytorch_model.safetensors`" in text
    assert f"diffusion in {'latents' if is_dit else 'pixels'}" in text
    assert "squared error of its prediction" in text and "- diffusion\n" in text


@pytest.mark.usefixtures("here")
def test_the_files_are_those_of_the_base(trained: Trained) -> None:
    """A base that nobody trained is exported as it was, its predicted variance, too."""
    dit_folder(Path("base"))
    folder = exported(tier_of(), trained)
    for part in ("transformer", "vae"):
        name = f"{part}/diffusion_pytorch_model.safetensors"
        given, made = (load_tensors(place / name)[0] for place in (Path("base"), folder))
        assert given.keys() == made.keys()
        assert all(torch.equal(value, made[key]) for key, value in given.items())
    for config in ("transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json"):
        given_, made_ = (read_json(place / config) for place in (Path("base"), folder))
        kept = {key: value for key, value in made_.items() if not key.startswith("_")}
        assert kept.items() <= given_.items()
        assert given_["_class_name"] == made_["_class_name"]


@pytest.mark.usefixtures("here")
def test_an_exported_folder_is_a_base_again(trained: Trained) -> None:
    dit_folder(Path("base"))
    first = drawn(exported(tier_of(), trained))
    shutil.move("model", "again")
    shutil.rmtree("data")
    shutil.rmtree("base")
    shutil.move("again", "base")
    assert torch.equal(drawn(exported(tier_of(), trained)), first)


@pytest.mark.usefixtures("here")
def test_a_unet_of_pixels(trained: Trained) -> None:
    """diffusers loads network and scheduler; it has no pipeline that gives such a net labels."""
    unet_folder(Path("base"))
    heun = {"num_steps": 3, "sigma_min": 0.02, "sigma_max": 80, "rho": 7}
    folder = exported(tier_of(sampler=heun), trained)
    pipeline: Any = DiffusionPipeline.from_pretrained(folder)  # type: ignore[no-untyped-call]
    assert pipeline.unet.config.num_class_embeds == 11
    assert drawn(folder).shape == (2, 1, 8, 8)
    ClassConditionalPipeline.from_pretrained(folder).save_pretrained("copy")
    assert torch.equal(drawn(Path("copy")), drawn(folder))


@pytest.mark.usefixtures("here")
def test_a_damaged_folder_is_named(trained: Trained) -> None:
    dit_folder(Path("base"))
    folder = exported(tier_of(), trained)
    config = folder / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"num_layers": 2', '"num_layers": 99999'))
    with pytest.raises(UserError, match=r"config.json: network: .*num_layers"):
        ClassConditionalPipeline.from_pretrained(folder)
    config.write_text(text)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"vae/diffusion_pytorch_model\.safetensors: file is missing"
    ):
        ClassConditionalPipeline.from_pretrained(folder)
