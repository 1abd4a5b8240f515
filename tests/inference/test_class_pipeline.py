"""A pipeline draws the images of the workflow, and says what is wrong with what it is given."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_folders import KINDS, Made, make
from PIL import Image
from tiny import Trained
from torch import Tensor, nn

from mclr.cli import main
from mclr.errors import UserError
from mclr.files import save_tensors
from mclr.inference import ClassConditionalPipeline
from mclr.inference.folder import read_config, write_folder
from mclr.jobs.sampling import GRID_SEED, sample
from mclr.likelihood import Draw
from mclr.models.own import OwnFamily
from mclr.planning.plan import Plan


@pytest.fixture(scope="module")
def made(
    trained: Trained, tiny_plan: Plan, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Made]:
    place = tmp_path_factory.mktemp("models")
    return {kind: make(kind, trained, tiny_plan, place) for kind in KINDS}


def load(made: dict[str, Made], kind: str = "edm2") -> ClassConditionalPipeline:
    return ClassConditionalPipeline.from_pretrained(made[kind].folder)


def drawn(pipeline: ClassConditionalPipeline, *arguments: Any, **settings: Any) -> Tensor:
    images = pipeline(*arguments, output_type="tensor", **settings).images
    assert isinstance(images, Tensor) and images.dtype == torch.uint8
    return images


def by_the_job(
    made: Made, trained: Trained, guidance: float, place: Path, patch: pytest.MonkeyPatch
) -> tuple[dict[int, Tensor], list[int], Tensor]:
    """Images of the sampling job by seed, their labels, and its grid (rows, classes, 8, 8)."""
    import mclr.jobs.sampling as job

    images: dict[int, Tensor] = {}
    found: list[int] = []
    batches: list[Tensor] = []
    measure, write = job.net_features, job.feature_table

    def measured(nets: Any, batch: Tensor) -> Any:
        batches.append(batch)
        return measure(nets, batch)

    def written(features: Any, seeds: list[int], labels: Tensor) -> Any:
        images.update(zip(seeds, batches.pop(0), strict=True))
        found.extend(labels.tolist())
        return write(features, seeds, labels)

    patch.setattr(job, "net_features", measured)
    patch.setattr(job, "feature_table", written)
    nets = {"cnn": trained.net / "net.safetensors"}
    for shard in range(made.spec.shards):
        sample(
            made.spec.with_(guidance=guidance), shard, trained.manifest, made.weights,
            made.tokenizer, nets, place / f"{shard}.parquet", place / f"{shard}.png",
        )  # fmt: skip
    with Image.open(place / "0.png") as stored:
        grid = torch.from_numpy(np.array(stored)).view(-1, 8, 10, 8).transpose(1, 2)
    return images, found, grid


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_images_are_those_of_the_sampling_job(
    kind: str,
    guidance: float,
    made: dict[str, Made],
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit: all evaluated images (their seeds are 20 to 39), and the PNG of the grid."""
    images, labels, grid = by_the_job(made[kind], trained, guidance, tmp_path, monkeypatch)
    pipeline = load(made, kind)
    assert list(images) == list(range(20, 40))
    assert torch.equal(
        drawn(pipeline, labels, 20, guidance=guidance), torch.stack(list(images.values()))
    )
    rows, seeds = len(grid), [GRID_SEED + row for row in range(len(grid)) for _ in range(10)]
    again = drawn(pipeline, [*range(10)] * rows, seeds, guidance, batch_size=10 * rows)
    assert torch.equal(again.view(rows, 10, 8, 8), grid)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_its_seed_and_label(kind: str, made: dict[str, Made]) -> None:
    """Alone or among others: the same up to one level of rounding; else another image.

    Networks that are hardly trained tell classes apart under strong guidance alone.
    """
    pipeline = load(made, kind)
    together = drawn(pipeline, [1, 2, 1, 2], [7, 7, 8, 8], 30.0).int()
    alone = drawn(pipeline, 2, 8, 30.0).int()
    assert (alone[0] - together[3]).abs().max() <= 1
    assert (together[3] - together[2]).abs().max() > 1
    assert (together[3] - together[1]).abs().max() > 1


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_moved_it_is_the_same(kind: str, made: dict[str, Made], tmp_path: Path) -> None:
    pipeline = load(made, kind)
    before = drawn(pipeline, [3, 4], 0)
    pipeline.save_pretrained(tmp_path / "copy")
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    expected = {"config.json", "model.safetensors"}
    assert names == (expected if kind == "edm2" else expected | {"tokenizer.safetensors"})
    again = ClassConditionalPipeline.from_pretrained(str(tmp_path / "copy"))
    assert again.config == pipeline.config
    assert torch.equal(drawn(again, [3, 4], 0), before)
    assert again.to("cpu") is again and again.device == torch.device("cpu")


def test_a_decoder_keeps_its_number_type(made: dict[str, Made], tmp_path: Path) -> None:
    var = made["var"]
    plain = read_config(var.folder)
    assert plain.decoding is None
    assert "decoding" not in json.loads((var.folder / "config.json").read_text())
    low = plain.model_copy(update={"decoding": "bfloat16"})
    write_folder(tmp_path / "low", low, var.weights, var.tokenizer)
    assert read_config(tmp_path / "low").spec.decoding == "bfloat16"
    usual, rounded = (
        drawn(ClassConditionalPipeline.from_pretrained(folder), [0, 1, 2], 5).int()
        for folder in (var.folder, tmp_path / "low")
    )
    assert 0 < (usual - rounded).abs().float().mean() < 1


def test_a_move_takes_every_part_along(made: dict[str, Made]) -> None:
    """Torch's device without data stands for a GPU."""
    pipeline = load(made, "edm2").to("meta")
    assert pipeline.device == torch.device("meta")
    assert {tensor.device.type for tensor in pipeline._net.state_dict().values()} == {"meta"}


def test_saving_onto_itself_and_over_another_model(made: dict[str, Made], tmp_path: Path) -> None:
    load(made, "var").save_pretrained(tmp_path)
    ClassConditionalPipeline.from_pretrained(tmp_path).save_pretrained(tmp_path)
    load(made, "edm2").save_pretrained(tmp_path)
    again = ClassConditionalPipeline.from_pretrained(tmp_path)
    assert torch.equal(drawn(again, 0, 0), drawn(load(made, "edm2"), 0, 0))


def test_output_says_what_gives_it_again(made: dict[str, Made]) -> None:
    pipeline = load(made)
    first = pipeline(["3", 4])
    assert first.labels == [3, 4] and len(set(first.seeds)) == 2
    again = pipeline(first.labels, first.seeds)
    for one, other in zip(first.images, again.images, strict=True):
        assert isinstance(one, Image.Image) and one.mode == "L" and one.size == (8, 8)
        assert np.array_equal(np.array(one), np.array(other))
    pixels = drawn(pipeline, first.labels, first.seeds)
    assert np.array_equal(np.array(first.images[1]), pixels[1, 0].numpy())


def test_sampler_settings_can_be_changed(made: dict[str, Made]) -> None:
    pipeline, var = load(made), load(made, "var")
    own = drawn(pipeline, 0, 0)
    assert torch.equal(drawn(pipeline, 0, 0, num_steps=2), own)
    assert not torch.equal(drawn(pipeline, 0, 0, num_steps=4), own)
    assert torch.equal(drawn(pipeline, 0, 0), own)
    greedy = drawn(var, [0, 0], [0, 1], top_k=1)
    assert torch.equal(greedy[0], greedy[1])


def test_progress_counts_images(made: dict[str, Made]) -> None:
    steps: list[int] = []
    load(made)([0] * 14, 0, progress=steps.append)
    assert steps == [6, 6, 2]


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        ("edm2", {"guidance": -1}, "guidance -1: expected 0"),
        ("edm2", {"batch_size": 0}, "batch_size 0: expected at least 1"),
        ("edm2", {"output_type": "pt"}, "output_type 'pt': expected pil or tensor"),
        ("edm2", {"top_k": 3}, "'top_k' is unknown, this model has num_steps, sigma_min"),
        ("edm2", {"guidance": float("nan")}, "guidance nan: expected 0"),
        ("edm2", {"guidance": float("inf")}, "guidance inf: expected 0"),
        ("edm2", {"num_steps": 1}, "sampler setting num_steps: .*greater than or equal to 2"),
        ("edm2", {"sigma_min": 90}, "sigma_min 90.0 must be below sigma_max 80.0"),
        ("var", {"num_steps": 4}, "'num_steps' is unknown, this model has top_k, top_p"),
        ("edm2", {"generator": "7"}, "generator '7': a str, expected a seed"),
    ],
)
def test_wrong_arguments(
    kind: str, arguments: dict[str, Any], text: str, made: dict[str, Made]
) -> None:
    with pytest.raises(UserError, match=text):
        load(made, kind)(0, **arguments)


def changed(made: Made, place: Path, **keys: Any) -> Path:
    """A copy of a model folder with other keys in its configuration."""
    shutil.copytree(made.folder, place)
    content = json.loads((place / "config.json").read_text()) | keys
    (place / "config.json").write_text(json.dumps(content))
    return place


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--guidance", "nan"), "guidance nan: expected 0 (none) or a scale above it"),
        (("--guidance", "inf"), "guidance inf: expected 0 (none) or a scale above it"),
        (("--guidance", "-inf"), "guidance -inf: expected 0 (none) or a scale above it"),
        (("--sampler", "guidance=1"), "--sampler guidance: is no setting of a sampler; "),
        (("--sampler", "batch_size=1"), "--sampler batch_size: is no setting of a sampler; "),
        (("--sampler", "self=1"), "--sampler self: is no setting of a sampler; "),
        (("--sampler", "num_steps=nan"), "sampler setting num_steps: "),
        (("--sampler", "rho=inf"), "sampler setting rho: "),
        (("--sampler", "steps=1"), "sampler setting 'steps' is unknown, this model has num_steps"),
    ],
)
def test_draw_says_what_is_wrong_in_one_line(
    options: tuple[str, ...],
    said: str,
    made: dict[str, Made],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "grid.png")
    draw = (
        "mclr",
        "draw",
        "--model",
        str(made["edm2"].folder),
        "--per-class",
        "1",
        "--output",
        out,
    )
    monkeypatch.setattr(sys, "argv", [*draw, *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "mclr: error" in line]
    assert len(lines) == 1 and f"mclr: error: {said}" in lines[0]
    assert not Path(out).exists()


def test_guidance_needs_a_null_label(made: dict[str, Made], tmp_path: Path) -> None:
    folder = changed(made["edm2"], tmp_path / "m", null_label=False)
    pipeline = ClassConditionalPipeline.from_pretrained(folder)
    pipeline(0, 0)
    with pytest.raises(UserError, match=r"guidance 0\.5: .* no null label"):
        pipeline(0, 0, guidance=0.5)


NET = {"family": "edm2", "channel_mult": [1], "attn_resolutions": []}
IMAGES = {"channels": 1, "resolution": 8, "class_names": ["a"]}


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"format": 3, "mclr": "9.9"}, r"written by mclr 9\.9 in format 3, this mclr knows"),
        ({"format": None}, "no `format`, so this is no model"),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
        ({"batch": 0}, "batch: Input should be greater than or equal to 1"),
        ({"network": {"family": "edm2", "model_channels": 0}}, "network: Input should be greater"),
        ({"network": {}}, "network: family None is unknown; choose from edm2, var"),
        ({"network": {"family": "evil"}}, "network: family 'evil' is unknown"),
        ({"sampler": None}, "sampler: edm2 needs its settings"),
        ({"network": NET | {"model_channels": 10**7}}, "network: a network of over 5.4e"),
        ({"network": NET | {"num_blocks": 10**7}}, "network: a network of 10,000,000 blocks"),
        ({"network": NET | {"model_channels": 4096}}, "network: describes .* numbers, but model"),
        ({"network": NET | {"logvar_channels": 10**12}}, r"network: describes 3,000,0"),
        ({"network": NET | {"logvar_channels": 2**53}}, "network: .*"),
        ({"batch": 10**30}, "not valid JSON .*a whole number beyond"),
        ({"images": IMAGES | {"resolution": 10**6}}, "images: resolution: .* equal to 8192"),
        ({"images": IMAGES | {"channels": 10**6}}, "images: channels: .* equal to 64"),
        ({"images": IMAGES | {"class_names": ["a"] * 10**5}}, "network: describes"),
    ],
)
def test_wrong_configurations(
    keys: dict[str, Any], text: str, made: dict[str, Made], tmp_path: Path
) -> None:
    folder = changed(made["edm2"], tmp_path / "m", **keys)
    with pytest.raises(UserError, match=rf"config\.json: {text}"):
        ClassConditionalPipeline.from_pretrained(folder)


EVIL = """
from pathlib import Path
Path(__file__).with_name("it-ran").touch()
"""


def test_a_folder_runs_no_code(made: dict[str, Made], tmp_path: Path) -> None:
    """Code beside the weights, named by the configuration: nothing of it runs, whoever asks."""
    named = {"family": "own", "implementation": "evil.py:X", "options": {}}
    folder = changed(made["edm2"], tmp_path / "m", network=named, sampler=None)
    (folder / "evil.py").write_text(EVIL)
    with pytest.raises(UserError, match=r"config\.json: network: .* names no code"):
        ClassConditionalPipeline.from_pretrained(folder)
    with pytest.raises(UserError, match=r"config\.json: network: .* names no code"):
        ClassConditionalPipeline.from_pretrained(folder, family=Flat)
    draw = ("-m", "mclr", "draw", "--model", ".", "--output", "grid.png")
    root = str(Path(__file__).parents[2])
    result = subprocess.run(
        (sys.executable, *draw), cwd=folder, env=os.environ | {"PYTHONPATH": root},
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 2 and "names no code" in result.stderr
    assert not (folder / "it-ran").exists() and not (folder / "grid.png").exists()


def test_a_model_folder_gives_no_code_even_if_asked(made: dict[str, Made], tmp_path: Path) -> None:
    """The file that a card may ask for, beside the weights or below results, from within too."""
    network = {"family": "own", "options": {}}
    folder = changed(made["edm2"], tmp_path / "results" / "m", network=network, sampler=None)
    (tmp_path / "Snakefile").touch()
    root = str(Path(__file__).parents[2])
    for place in (folder, folder.parent):
        (place / "evil.py").write_text(EVIL)
        (place / "torch.py").write_text(EVIL)
        draw = ("draw", "--model", folder, "--family", "evil.py:X", "--output", "grid.png")
        result = subprocess.run(
            (sys.executable, "-m", "mclr", *draw), cwd=place,
            env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == 2, result.stderr
        assert result.stderr.startswith("mclr: error: implementation: evil.py: no code is run from")
        assert result.stderr.count("\n") == 1
        assert not (place / "it-ran").exists()


class Grey(nn.Module):
    """One grey value for each class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(classes))


class Flat(OwnFamily):
    """Flat pictures, ``step`` brighter with each seed."""

    def build(self, generator: torch.Generator) -> nn.Module:
        return Grey(self.manifest.num_classes)

    def log_likelihood(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        raise NotImplementedError

    def generate(
        self, net: nn.Module, seeds: Any, labels: Tensor, guidance: float, **how: Any
    ) -> Tensor:
        grey = net.value[labels] + self.options["step"] * torch.tensor(seeds)
        return grey.view(-1, 1, 1, 1).expand(-1, *self.manifest.shape)


@pytest.fixture
def own(made: dict[str, Made], tmp_path: Path) -> Path:
    """A folder of one's own family: weights and options, no code."""
    network = {"family": "own", "options": {"step": 0.125}}
    folder = changed(made["edm2"], tmp_path / "own", network=network, sampler=None)
    save_tensors(folder / "model.safetensors", {"value": torch.linspace(-1, 0, 10)}, {})
    return folder


def test_a_folder_of_ones_own_family_loads_with_its_class(own: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json: .*own family.* family=TheClass"):
        ClassConditionalPipeline.from_pretrained(own)
    pipeline = ClassConditionalPipeline.from_pretrained(own, family=Flat)
    assert drawn(pipeline, [0, 9], [0, 2])[:, 0, 0, 0].tolist() == [0, 159]
    with pytest.raises(UserError, match="'num_steps' is unknown, this model's family has none"):
        pipeline(0, 0, num_steps=3)


def test_a_class_is_for_folders_of_ones_own_family(made: dict[str, Made]) -> None:
    with pytest.raises(UserError, match=r"family Flat: .* of the family edm2"):
        ClassConditionalPipeline.from_pretrained(made["edm2"].folder, family=Flat)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.safetensors"])
def test_missing_files(name: str, made: dict[str, Made], tmp_path: Path) -> None:
    folder = changed(made["var"], tmp_path / "m")
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: file is missing; a model folder has"):
        ClassConditionalPipeline.from_pretrained(folder)


def test_damaged_configuration(made: dict[str, Made], tmp_path: Path) -> None:
    folder = changed(made["edm2"], tmp_path / "m")
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: not valid JSON"):
        ClassConditionalPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"format":' + "[" * 10**6, "nested more than 40 levels"),
        ('{"format":' + "[" * 60 + "]" * 60 + "}", "nested more than 40 levels"),
        ('{"format":' + "9" * 5000 + "}", "Exceeds the limit"),
        (" " * (2**23 + 1), "larger than 8 MiB"),
    ],
)
def test_a_configuration_of_no_size(
    text: str, said: str, made: dict[str, Made], tmp_path: Path
) -> None:
    folder = changed(made["edm2"], tmp_path / "m")
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=rf"config\.json: not valid JSON \({said}"):
        ClassConditionalPipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    ("kind", "part", "key", "value"),
    [
        ("var", "", "embed_dim", 4096),
        ("var", "tokenizer", "vocab_size", 10**10),
        ("var", "tokenizer", "z_channels", 10**10),
        ("latent", "autoencoder", "latent_channels", 10**10),
    ],
)
def test_networks_larger_than_their_files_are_not_built(
    kind: str, part: str, key: str, value: int, made: dict[str, Made], tmp_path: Path
) -> None:
    folder = changed(made[kind], tmp_path / "m")
    content = json.loads((folder / "config.json").read_text())
    (content["network"][part] if part else content["network"])[key] = value
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"config\.json: network: "):
        ClassConditionalPipeline.from_pretrained(folder)


def test_unknown_devices(made: dict[str, Made]) -> None:
    with pytest.raises(UserError, match="device 'toaster'"):
        load(made).to("toaster")
    with pytest.raises(UserError, match=r"cuda:99: torch finds \d+ CUDA GPUs"):
        load(made).to("cuda:99")


# ------------------------------------------------------------------ by id of a hub


def test_an_id_is_fetched_from_the_hub(
    made: dict[str, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[Any] = []

    def download(name: str, **settings: Any) -> str:
        asked.append((name, settings))
        return str(made["var"].folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    pipeline = ClassConditionalPipeline.from_pretrained("someone/their-model", revision="v1")
    assert torch.equal(drawn(pipeline, 1, 1), drawn(load(made, "var"), 1, 1))
    ((name, settings),) = asked
    assert name == "someone/their-model" and settings["revision"] == "v1"
    # Data and text alone: nothing that could be run.
    assert all(p.endswith((".json", ".safetensors", ".md", ".png"))
               for p in settings["allow_patterns"])  # fmt: skip


def test_a_hub_that_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(name: str, **settings: Any) -> str:
        raise LocalEntryNotFoundError("no connection\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UserError, match=r"did not give it \(no connection\); check the name"):
        ClassConditionalPipeline.from_pretrained("someone/their-model")


def test_without_the_hub_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r'huggingface_hub is not installed.*"mclr\[hub\]"'):
        ClassConditionalPipeline.from_pretrained("someone/their-model")


@pytest.mark.parametrize("name", ["absent", "./absent", "a/b/c", Path("some/one")])
def test_neither_folder_nor_id(name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such folder; expected one that"):
        ClassConditionalPipeline.from_pretrained(name)
