"""`mclr new --base`: networks are recognised, and the tier that is written takes the file over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers_folders import dit_folder, unet_folder
from official_edm2 import Official
from safetensors.torch import save_file
from tiny import Trained

from mclr.config.reading import parse_tier
from mclr.data.load import load_manifest
from mclr.errors import UserError
from mclr.files import load_tensors, save_tensors, write_json
from mclr.inference.folder import FORMAT, ModelConfig
from mclr.jobs.take_over import import_base, import_tokenizer
from mclr.models.families import make_family
from mclr.models.var.config import PATCH_NUMS_512, VAR_PRESETS
from mclr.new.given import GivenBase, check_fit, recognise
from mclr.new.machine import Machine
from mclr.new.sizes import grids_for
from mclr.new.survey import Survey
from mclr.new.write import Case, Choice, render
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan
from mclr.weights.export import export_weights
from mclr.weights.importer import import_weights


def survey(classes: int = 10, side: int = 8, mode: str = "grey") -> Survey:
    names = {f"c{i}": 20 for i in range(classes)}
    modes = {mode: 20 * classes}
    return Survey("photos", "folder", names, {}, [], {}, 0, (side, side, side), side, modes)


def plan_of(base: GivenBase) -> Plan:
    """The tier that `mclr new` writes for digits."""
    case = Case("mine", "config/mine.yaml", survey(), Machine(2, "", 16e9, 16e9), 8)
    return Plan(parse_tier(yaml.safe_load(render(case, Choice(base, grids_for(base)[2]))), "mine"))


def taken_over(base: GivenBase, trained: Trained, out: Path) -> dict[str, torch.Tensor]:
    """Weights that the jobs of that tier make of the file."""
    plan, tokenizer = plan_of(base), None
    if base.codes:
        tokenizer = out / "tokenizer.safetensors"
        source = Path(base.codes.released)
        import_tokenizer(plan.encode_spec("var"), trained.manifest, source, tokenizer)
    spec = plan.base_spec(base.family)
    import_base(spec, trained.manifest, Path(base.file), tokenizer, out / "run")
    return load_tensors(out / "run" / "checkpoints" / "step-000000.safetensors")[0]


@pytest.fixture
def pickle(official: Official, trained: Trained, tiny_plan: Plan, tmp_path: Path) -> Path:
    """The trained tiny EDM2 as an official snapshot."""
    family = make_family(tiny_plan.base_spec("edm2"), load_manifest(trained.manifest))
    sizes = {"class_name": "Precond", **family.build(torch.Generator()).config.model_dump()}  # type: ignore[union-attr,operator]
    tensors, _ = load_tensors(trained.edm2)
    save_tensors(tmp_path / "tiny.safetensors", tensors, {"config": json.dumps(sizes)})
    return official.write(tmp_path / "tiny.safetensors", tmp_path / "tiny.pkl", dtype="float32")


def same(found: dict[str, torch.Tensor], weights: Path) -> bool:
    wanted = load_tensors(weights)[0]
    return found.keys() == wanted.keys() and all(torch.equal(found[n], wanted[n]) for n in wanted)


def test_a_checkpoint_of_the_pipeline(trained: Trained, tmp_path: Path) -> None:
    base = recognise(trained.edm2)
    assert (base.family, base.resolution, base.channels, base.classes) == ("edm2", 8, 1, 10)
    assert base.null_label and base.noise == (-0.8, 1.6) and not base.is_latent
    check_fit(base, survey())
    assert same(taken_over(base, trained, tmp_path), trained.edm2)


def test_an_official_pickle_and_its_import(pickle: Path, trained: Trained, tmp_path: Path) -> None:
    base = recognise(pickle)
    assert (base.resolution, base.channels, base.classes) == (8, 1, 10)
    assert base.network["model_channels"] == 4 and "num_heads" not in base.network
    assert same(taken_over(base, trained, tmp_path), trained.edm2)
    imported = tmp_path / "imported.safetensors"
    import_weights(pickle, imported)
    again = recognise(imported)
    assert again.network == base.network and again.noise == base.noise
    assert same(taken_over(again, trained, tmp_path / "again"), trained.edm2)


def test_a_var_transformer_with_its_tokenizer(trained: Trained, tmp_path: Path) -> None:
    base = recognise(trained.var, trained.tokenizer)
    assert (base.family, base.resolution, base.channels, base.classes) == ("var", 8, 1, 10)
    assert same(taken_over(base, trained, tmp_path), trained.var)
    export_weights(trained.var, tmp_path / "var.pth")
    again = recognise(tmp_path / "var.pth", trained.tokenizer)
    assert again.network == base.network and again.codes == base.codes
    with pytest.raises(UserError, match="another tokenizer than the released one; give its file"):
        recognise(trained.var)
    with pytest.raises(UserError, match=r"--tokenizer: .* is no VAR transformer; leave it out"):
        recognise(trained.edm2, trained.tokenizer)
    with pytest.raises(UserError, match="is no tokenizer of a VAR model"):
        recognise(trained.var, trained.var)
    with pytest.raises(UserError, match="it is a tokenizer, no base model"):
        recognise(trained.tokenizer)


def test_what_files_do_not_tell_is_said(trained: Trained, tmp_path: Path) -> None:
    """Of a trained checkpoint all is known; of official files, what a wrong value would change."""
    assert recognise(trained.var, trained.tokenizer).assumed == ()
    for name, weights in (("vae", trained.tokenizer), ("var", trained.var)):
        torch.save(load_tensors(weights)[0], tmp_path / f"{name}.pth")
    network, codes = recognise(tmp_path / "var.pth", tmp_path / "vae.pth").assumed
    assert "var.pth: it does not tell norm_eps 1e-06" in network and "drop_path" not in network
    assert "vae.pth: it does not tell quant_resi 0.5, using_znorm False" in codes
    assert "say so in models.<model>.tokenizer.network of the configuration" in codes


@pytest.mark.parametrize(("name", "side"), [("var-d16", 256), ("var-d36", 512)])
def test_released_transformers_have_the_released_tokenizer(
    name: str, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mclr.new import given as module
    from mclr.new.recognise import Stored

    monkeypatch.setattr(module, "read_stored", lambda *_: Stored(VAR_PRESETS[name]))
    base = recognise(tmp_path / "var.pth")
    assert base.resolution == side and base.codes and base.codes.released == "var-vae"
    wanted = {} if side == 256 else {"patch_nums": list(PATCH_NUMS_512)}
    assert base.codes.network == wanted and base.network["depth"] == VAR_PRESETS[name].depth


@pytest.mark.parametrize(
    ("changes", "found", "text"),
    [
        ({}, survey(classes=9), "draws 10 classes, the images have 9"),
        ({"classes": 0}, survey(), "sees no labels, the images have 10"),
        ({}, survey(mode="RGB"), "draws grey images, but not all of yours are grey"),
        ({"resolution": 16}, survey(), "draws 16×16 pixels, but half of the images have a short"),
    ],
)
def test_what_does_not_fit_is_told(
    changes: dict[str, Any], found: Survey, text: str, trained: Trained
) -> None:
    base = GivenBase(**(vars(recognise(trained.edm2)) | changes))
    with pytest.raises(UserError, match=text):
        check_fit(base, found)


def named(*names: str) -> Survey:
    return replace(survey(), classes=dict.fromkeys(names, 20))


LETTERS = tuple("abcdefghij")
NUMBERS = tuple("0123456789")


@pytest.mark.parametrize("place", ["results/old/best", "results/old/runs/x/checkpoints", "model"])
def test_names_of_classes_are_compared(
    place: str, trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    """A model folder has them, and so has the data of a tier beside its results."""
    file = tmp_path / place / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(trained.edm2.read_bytes())
    assert recognise(file).names == ()
    check_fit(recognise(file), named(*LETTERS))
    content = json.loads(trained.manifest.read_text()) | {"class_names": LETTERS}
    prepared = tmp_path / "data" / "prepared" / "old" / "manifest.json"
    prepared.parent.mkdir(parents=True)
    prepared.write_text(json.dumps(content))
    if place == "model":
        spec = tiny_plan.sample_spec(tiny_plan.points("edm2-base")[0])
        config = ModelConfig(
            format=FORMAT, mclr="0", network=spec.content()["network"], precision=spec.precision,
            sampler=spec.sampler, images={"channels": 1, "resolution": 8, "class_names": LETTERS},  # type: ignore[arg-type]
            null_label=True, batch=1, training={},
        )  # fmt: skip
        write_json(file.parent / "config.json", config.model_dump(mode="json"))
    base = recognise(file)
    assert base.names == LETTERS
    check_fit(base, named(*LETTERS))
    check_fit(base, named(*NUMBERS))
    check_fit(replace(base, names=NUMBERS), named(*LETTERS))
    swapped = named("a", "c", "b", *LETTERS[3:])
    with pytest.raises(UserError, match="knows class 1 as 'b', but of the images it is 'c'; name"):
        check_fit(base, swapped)
    with pytest.raises(UserError, match=r"as the base does \(a, b, c, d, e, f, g, h, i, j\), or"):
        check_fit(base, named(*LETTERS[:9], "k"))


def checkpoint(path: Path, spec: Any, **more: str) -> Path:
    metadata = {"spec": json.dumps(spec)} if spec is not None else {}
    save_file({"x": torch.zeros(1)}, path, metadata | more)
    return path


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (None, "it does not say what it holds"),
        ({"network": {"family": "own"}}, "a model of family 'own'"),
        ({"network": {"family": "edm2", "unconditional": True}}, "its network sees no labels"),
        ({"network": {"family": "edm2", "autoencoder": {}}}, "latents of an autoencoder that was"),
        ({"network": {"family": "edm2"}}, "its description is damaged"),
    ],
)
def test_checkpoints_that_no_tier_can_start_from(spec: Any, text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=text):
        recognise(checkpoint(tmp_path / "x.safetensors", spec))


def test_other_files_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "x.safetensors"
    broken.write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    for file, text in (
        (tmp_path, "is a folder; give the file in it"),
        (tmp_path / "absent.pkl", "there is no such file"),
        (broken, "not a safetensors file"),
        (checkpoint(tmp_path / "y.safetensors", None, header="{}"), "its description is damaged"),
    ):
        with pytest.raises(UserError, match=text):
            recognise(file)


@pytest.mark.parametrize("write", [dit_folder, unet_folder])
def test_a_folder_of_diffusers(write: Any, trained: Trained, tmp_path: Path) -> None:
    """Its network, schedule and autoencoder stay in the folder; the tier names it alone."""
    folder = write(tmp_path / "model")
    base = recognise(folder)
    assert (base.family, base.resolution, base.channels, base.classes) == ("diffusers", 8, 1, 10)
    check_fit(base, survey())
    plan = plan_of(base)
    model = plan.tier.models["diffusers"]
    assert model.has_coder == base.is_latent == (write is dit_folder)
    assert model.sampler and plan.tier.tuned
    tokenizer = None
    if base.is_latent:
        tokenizer = tmp_path / "tokenizer.safetensors"
        import_tokenizer(plan.encode_spec("diffusers"), trained.manifest, folder, tokenizer)
    part = "transformer" if base.is_latent else "unet"
    weights = folder / part / "diffusion_pytorch_model.safetensors"
    job = Jobs(plan).network("base", "diffusers")
    assert job.inputs["source"] == [str(weights)] and job.kind == "import-base.diffusers"
    import_base(plan.base_spec("diffusers"), trained.manifest, weights, tokenizer, tmp_path / "run")
    made = load_tensors(tmp_path / "run" / "checkpoints" / "step-000000.safetensors")[0]
    assert same(made, weights)


def test_what_a_folder_must_have(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"give the file in it .* or a folder in diffusers' layout"):
        recognise(tmp_path)
    folder = dit_folder(tmp_path / "model")
    with pytest.raises(UserError, match="is no VAR transformer; leave it out"):
        recognise(folder, folder / "x")
    (folder / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "Evil"}')
    with pytest.raises(UserError, match=r"scheduler_config.json: name: .* choose another model"):
        recognise(folder)
