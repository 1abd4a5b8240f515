"""What is not finite is no image: jobs, drawing and the pipeline name the seeds and the model."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from model_folders import KINDS, Made, make
from tiny import Trained
from torch import Tensor

from mclr import cli
from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.files import load_tensors, save_tensors
from mclr.inference import ClassConditionalPipeline
from mclr.jobs.sampling import sample, sample_negatives
from mclr.models.drawing import Unchecked, draw_images, draw_samples, in_words
from mclr.models.families import make_family
from mclr.models.own import OwnFamily
from mclr.models.pixels import RgbEncoder
from mclr.models.var.sampler import inverse_cdf
from mclr.planning.plan import Plan

NAN, INF = float("nan"), float("inf")
LAST = {"edm2": "unet.out_conv.weight", "latent": "unet.out_conv.weight", "var": "head.weight"}
DECODER = {"latent": "decoder.conv_out.bias", "var": "decoder.conv_out.bias"}


@pytest.fixture(scope="module")
def made(
    trained: Trained, tiny_plan: Plan, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Made]:
    place = tmp_path_factory.mktemp("models")
    return {kind: make(kind, trained, tiny_plan, place) for kind in KINDS}


def damaged(file: Path, tensor: str, output: Path, value: float = NAN) -> Path:
    """The same weights, one number of which is another."""
    tensors, metadata = load_tensors(file)
    tensors[tensor] = tensors[tensor].clone()
    tensors[tensor].view(-1)[0] = value
    save_tensors(output, tensors, metadata)
    return output


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_sampling_job_fails(
    kind: str, value: float, made: dict[str, Made], trained: Trained, tmp_path: Path
) -> None:
    """And leaves no file that a metric could be taken of."""
    given, nets = made[kind], {"cnn": trained.net / "net.safetensors"}
    weights = damaged(given.weights, LAST[kind], tmp_path / "bad.safetensors", value)
    files = tmp_path / "out.parquet", tmp_path / "out.png"
    with pytest.raises(UserError, match=r"bad\.safetensors: images of seeds 20–25 are not finite"):
        sample(given.spec, 0, trained.manifest, weights, given.tokenizer, nets, *files)
    assert not any(file.exists() for file in files)


@pytest.mark.parametrize("kind", sorted(DECODER))
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_damaged_decoder_is_noticed(
    kind: str, value: float, made: dict[str, Made], trained: Trained, tmp_path: Path
) -> None:
    given = made[kind]
    assert given.tokenizer
    decoder = damaged(given.tokenizer, DECODER[kind], tmp_path / "decoder.safetensors", value)
    with pytest.raises(UserError, match=r"images of seeds 20–25 are not finite"):
        sample(
            given.spec, 0, trained.manifest, given.weights, decoder, {},
            tmp_path / "out.parquet", tmp_path / "out.png",
        )  # fmt: skip


@pytest.mark.parametrize("model", ["edm2", "var"])
def test_negatives_are_checked(
    model: str, trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    spec = tiny_plan.negatives_spec(model)
    weights = damaged(trained.base(model), LAST[model], tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match=r"bad\.safetensors: images of seeds 1073741824–"):
        sample_negatives(
            spec, trained.manifest, weights, trained.tokenizer_of(model), tmp_path / "x"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_pipeline_and_draw_fail(
    kind: str,
    made: dict[str, Made],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "model"
    ClassConditionalPipeline.from_pretrained(made[kind].folder).save_pretrained(folder)
    damaged(made[kind].weights, LAST[kind], folder / "model.safetensors")
    pipeline = ClassConditionalPipeline.from_pretrained(folder)
    with pytest.raises(UserError, match=rf"{folder}: images of seeds 5–6, 9 are not finite"):
        pipeline([0, 1, 2], [9, 5, 6], output_type="tensor")
    out = tmp_path / "out.png"
    monkeypatch.setattr(
        sys,
        "argv",
        ["mclr", "draw", "--model", str(folder), "--classes", "0", "--output", str(out)],
    )
    with pytest.raises(SystemExit) as stop:
        cli.main()
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "are not finite" in error and "Traceback" not in error
    assert not out.exists()


def test_only_the_images_concerned_are_named(
    made: dict[str, Made], trained: Trained, manifest: Manifest, tmp_path: Path
) -> None:
    """VAR with one damaged class; with every filter of logits the tokens of others stay."""
    given = made["var"]
    whole, metadata = load_tensors(given.weights)
    broken = {name: value.clone() for name, value in whole.items()}
    broken["class_emb.weight"][3] = NAN
    save_tensors(tmp_path / "bad.safetensors", broken, metadata)
    labels, seeds = torch.arange(10), range(50, 60)
    for top_k, top_p, guidance in ((0, 0.0, 0.0), (3, 0.0, 1.5), (0, 0.9, 1.5)):
        spec = given.spec.with_(sampler={"top_k": top_k, "top_p": top_p})
        family = make_family(spec, manifest, given.tokenizer)
        net = family.build(torch.Generator().manual_seed(0)).eval()
        net.load_state_dict(whole)
        healthy = draw_samples(family, net, seeds, labels, guidance).checked(given.weights)
        net.load_state_dict(broken)
        found = draw_samples(family, net, seeds, labels, guidance)
        with pytest.raises(UserError, match=r"seeds 53 are not finite"):
            found.checked(tmp_path / "bad.safetensors")
        others = labels != 3
        assert torch.equal(found.x[others], healthy[others])


def test_notes_on_parts_and_on_rows() -> None:
    good, bad = torch.tensor([True, True]), torch.tensor([False, True])
    x, seeds = torch.zeros(4), [3, 4, 5, 9]

    def named(*notes: list[Tensor]) -> str:
        with pytest.raises(UserError) as caught:
            Unchecked(x, seeds, list(notes)).checked(Path("m"))
        found = re.search("seeds (.*) are not", str(caught.value))
        assert found
        return found[1]

    assert Unchecked(x, seeds, [[], [good, good]]).checked(Path("m")) is x
    assert named([good, bad]) == "5"
    assert named([torch.tensor([False, True, True, True])], [good, bad]) == "3, 5"
    assert named([bad]) == "3–5, 9", "of which rows is not known"
    assert in_words([1, 2, 3, 7, 7]) == "1–3, 7"
    assert in_words(range(0, 40, 2)) == "0, 2, 4, 6, 8 and 15 more"


class Painted(OwnFamily):
    """Somebody's own, with a decoder of its own that notes nothing."""

    value = 0.0

    def build(self, generator: torch.Generator) -> torch.nn.Module:
        return torch.nn.Identity()

    def log_likelihood(self, net, x, labels, draw):  # type: ignore[no-untyped-def]
        return torch.zeros(len(x))

    def generate(self, net, seeds, labels, guidance):  # type: ignore[no-untyped-def, override]
        return torch.full((len(seeds), 1, 2, 2), self.value)

    def decode(self, x: Tensor) -> Tensor:
        return x.nan_to_num().to(torch.uint8)


def test_samples_of_ones_own_family_are_checked() -> None:
    family = Painted({}, Manifest(1, 2, 2, ("a", "b"), {}), torch.device("cpu"))
    net, labels = torch.nn.Identity(), torch.tensor([0, 1])
    assert not draw_images(family, net, [1, 2], labels, 0.0).checked(Path("m")).any()
    family.value = INF
    with pytest.raises(UserError, match="m: images of seeds 1–2 are not finite"):
        draw_images(family, net, [1, 2], labels, 0.0).checked(Path("m"))


def test_who_decodes_alone_is_told_at_once(made: dict[str, Made], manifest: Manifest) -> None:
    x = torch.zeros(3, 1, 8, 8)
    x[1, 0, 2, 3] = NAN
    spec = made["edm2"].spec
    for decode in (make_family(spec, manifest).decode, RgbEncoder().decode, super_decode(manifest)):
        assert decode(torch.zeros(2, 1, 8, 8)).dtype == torch.uint8
        with pytest.raises(UserError, match="1 of 3 images are not finite"):
            decode(x)


def super_decode(manifest: Manifest):  # type: ignore[no-untyped-def]
    """The decoder that every family has unless it says otherwise."""
    family = Painted({}, manifest, torch.device("cpu"))
    return super(Painted, family).decode


def test_tokens_of_no_distribution_are_tokens() -> None:
    """Of NaN too, so that nothing is read beyond the codebook before it is told."""
    p = torch.tensor([[[0.5, 0.5], [NAN, NAN]]])
    found = inverse_cdf(p, torch.tensor([[0.7, 0.7]], dtype=torch.float64))
    assert found[0, 0] == 1 and 0 <= found[0, 1] <= 1
