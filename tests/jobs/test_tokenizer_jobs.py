"""Jobs of models of latents: autoencoder, encoded training images, training and sampling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tiny import edited

from mclr.cli import cli
from mclr.config.reading import parse_tier
from mclr.data.load import Manifest, minibatch, step_generator
from mclr.errors import UserError
from mclr.events import Progress
from mclr.files import load_tensors, save_tensors
from mclr.jobs.encoding import encode, load_encoded
from mclr.jobs.inputs import Data
from mclr.jobs.sampling import sample_negatives
from mclr.jobs.tokenizer import autoencoder_trainee, train_tokenizer
from mclr.jobs.training import finetune, train_base
from mclr.models.edm2.config import Autoencoder, AutoencoderTraining
from mclr.models.families import make_family
from mclr.planning.plan import Plan
from mclr.planning.specs import EncodeSpec
from mclr.settings.section import canonical
from mclr.training import loop
from mclr.training.gradient import accumulate

STEP = "checkpoints/step-000004.safetensors"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The tiny tier, its diffusion model one of latents: 8×8 digits as 2×4×4."""
    from tiny import TINY, TRAINING

    network = {"channels": [4, 8], "latent_channels": 2, "norm_groups": 2}
    autoencoder = {"network": network, "training": {**TRAINING, "steps": 6, "kl": 0.1}}
    latent = {**TINY["models"]["edm2"], "autoencoder": autoencoder}
    runs = {
        name: {**TINY["runs"][f"edm2-{name}"], "model": "latent", "checkpoints": [4]}
        for name in ("mclr", "ddo")
    }
    models = {"latent": latent, "var": TINY["models"]["var"]}
    return Plan(parse_tier({**TINY, "models": models, "runs": runs}, "latent"))


@pytest.fixture(scope="module")
def data(prepared: Path) -> Data:
    return Data(prepared)


@pytest.fixture(scope="module")
def autoencoder(
    plan: Plan, data: Data, tmp_path_factory: pytest.TempPathFactory, _one_thread: None
) -> Path:
    output = tmp_path_factory.mktemp("tokenizers") / "latent.safetensors"
    train_tokenizer(plan.tokenizer_spec("latent"), data, output, output.parent / "state")
    return output


@pytest.fixture(scope="module")
def encoded(plan: Plan, data: Data, autoencoder: Path) -> Path:
    output = autoencoder.parent / "encoded" / "latent.safetensors"
    encode(plan.encode_spec("latent"), data, autoencoder, output, output.parent / "state")
    return output


# --- autoencoder -------------------------------------------------------------------------------


def coder_of(plan: Plan, **training: float) -> Autoencoder:
    """The autoencoder of the tier, trained otherwise."""
    coder = plan.tokenizer_spec("latent").autoencoder
    assert coder is not None
    settings = {**coder.training.model_dump(), **training}
    return coder.model_copy(update={"training": AutoencoderTraining.model_validate(settings)})


def test_loss_is_squared_error_and_divergence(plan: Plan, data: Data, manifest: Manifest) -> None:
    """Against diffusers' own distribution: both terms summed per image, then their mean."""
    images = data.train()[0]
    trainee = autoencoder_trainee(coder_of(plan), "float32", images, manifest, CPU)
    found = accumulate(trainee.losses(3))
    x = images[minibatch(len(images), 16, 3, 0)] / 127.5 - 1
    net: Any = trainee.net
    with torch.no_grad():
        distribution = net.encode(x).latent_dist
        noise = torch.randn(16, 2, 4, 4, generator=step_generator(0, 3, 2))
        decoded = net.decode(distribution.mean + distribution.std * noise).sample
    error = (decoded - x).square().flatten(1).sum(1).mean()
    assert float(found["squared_error"]) == pytest.approx(error.item(), rel=1e-4)
    assert float(found["kl"]) == pytest.approx(distribution.kl().mean().item(), rel=1e-4)
    total = error + 0.1 * distribution.kl().mean()
    assert float(found["loss"]) == pytest.approx(total.item(), rel=1e-4)
    assert all(p.grad is not None for p in net.parameters())


def test_learning_rate_rises_and_falls(plan: Plan, data: Data, manifest: Manifest) -> None:
    coder = coder_of(plan, steps=150, batch=8, lr=0.5, kl=0)
    who = autoencoder_trainee(coder, "float32", data.train()[0], manifest, CPU)
    rates = [who.learning_rate(step) for step in (0, 49, 100, 149)]
    assert rates == pytest.approx([0.01, 0.5, 0.25, 0.005])
    assert who.optimizer.param_groups[0]["betas"] == (0.9, 0.99)


def test_autoencoder_learns_to_reconstruct(plan: Plan, data: Data, manifest: Manifest) -> None:
    coder = coder_of(plan, steps=200, batch=32, lr=0.02, kl=0.01)
    who = autoencoder_trainee(coder, "float32", data.train()[0], manifest, CPU)
    errors = []
    for step in range(60):
        who.optimizer.param_groups[0]["lr"] = who.learning_rate(step)
        who.optimizer.zero_grad()
        errors.append(float(accumulate(who.losses(step))["squared_error"]))
        who.optimizer.step()
    assert sum(errors[-5:]) < 0.6 * sum(errors[:5])


def test_file_of_the_autoencoder(plan: Plan, data: Data, autoencoder: Path) -> None:
    tensors, metadata = load_tensors(autoencoder)
    assert json.loads(metadata["spec"]) == plan.tokenizer_spec("latent").content()
    family = make_family(plan.base_spec("latent"), data.manifest, autoencoder)
    kept = family.encode(data.train()[0])
    x = torch.cat([family.from_encoded(kept, step_generator(s)) for s in range(5)])
    assert (x.std((0, 2, 3)) - 0.5).abs().max() < 0.01 and x.mean((0, 2, 3)).abs().max() < 0.01
    assert tensors["latents.mean"].shape == tensors["latents.std"].shape == (2,)
    assert not autoencoder.with_name("state").exists()
    assert autoencoder.with_name("latent-training").joinpath("events.jsonl").is_file()


def test_interrupted_autoencoder_resumes_to_the_same_bits(
    plan: Plan, data: Data, autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, spec = tmp_path / "latent.safetensors", plan.tokenizer_spec("latent")
    monkeypatch.setattr(loop, "STATE_SECONDS", 0.0)
    step, original = 0, loop._step

    def fails(*arguments: Any) -> Any:
        nonlocal step
        step += 1
        if step == 4:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(loop, "_step", fails)
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(spec, data, output, tmp_path / "state")
    train_tokenizer(spec, data, output, tmp_path / "state")
    assert step == 4 + 3, "three steps were done before, and are not done again"
    assert output.read_bytes() == autoencoder.read_bytes()


# --- encoded images ----------------------------------------------------------------------------


def test_encoded_latents(plan: Plan, data: Data, autoencoder: Path, encoded: Path) -> None:
    x, labels = load_encoded(encoded, plan.base_spec("latent"))
    images, expected = data.train()
    kept = make_family(plan.base_spec("latent"), data.manifest, autoencoder).encode(images)
    assert x.dtype == torch.float16 and labels.dtype == torch.int64
    assert torch.equal(labels, expected)
    torch.testing.assert_close(x.float(), kept, rtol=1e-3, atol=1e-4)


def test_tokens_train_the_same_model_encoded_or_not(
    plan: Plan, data: Data, trained: Any, tmp_path: Path
) -> None:
    """Of tokens nothing is rounded: same bits, in a base model and in fine-tuning."""
    spec, output = plan.base_spec("var"), tmp_path / "var.safetensors"
    encode(plan.encode_spec("var"), data, trained.tokenizer, output, tmp_path / "encoding")
    stored, _ = load_tensors(output)
    family = make_family(spec, data.manifest, trained.tokenizer)
    assert stored["x"].dtype == torch.int32
    assert torch.equal(stored["x"].long(), family.encode(data.train()[0]))
    run = tmp_path / "var-base"
    train_base(spec, data, trained.tokenizer, run, tmp_path / "state", encoded=output)
    assert (run / STEP).read_bytes() == trained.var.read_bytes()


def test_commands(plan: Plan, data: Data, autoencoder: Path, encoded: Path, tmp_path: Path) -> None:
    files = ("--data", data.folder, "--tokenizer", autoencoder)
    output, run = tmp_path / "latent.safetensors", tmp_path / "latent-base"
    commands: list[tuple[Any, ...]] = [
        ("encode", "--spec", canonical(plan.encode_spec("latent")), *files, "--output", output,
         "--state", tmp_path / "encoding"),
        ("base", "--spec", canonical(plan.base_spec("latent")), *files, "--encoded", output,
         "--run", run, "--state", tmp_path / "state"),
    ]  # fmt: skip
    for command in commands:
        CliRunner().invoke(cli, [str(part) for part in command], catch_exceptions=False)
    assert output.read_bytes() == encoded.read_bytes()
    assert (run / STEP).is_file()


def test_what_was_encoded_for_another_network_is_refused(plan: Plan, encoded: Path) -> None:
    spec = plan.base_spec("latent")
    with pytest.raises(UserError, match="encoded for another network"):
        load_encoded(encoded, spec.with_(precision="bfloat16"))
    with pytest.raises(UserError, match="missing"):
        load_encoded(encoded.with_name("absent"), spec)


def test_encoding_goes_on_after_a_failure(
    plan: Plan, data: Data, autoencoder: Path, encoded: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """To the same bytes; what another specification left behind is not used."""
    output, state = tmp_path / "out" / "x.safetensors", tmp_path / "state"
    monkeypatch.setattr("mclr.jobs.growing.NOTE_SECONDS", 0.0)
    steps: list[int] = []

    def fails_at(last: int) -> None:
        def update(self: Progress, done: int) -> None:
            steps.append(done)
            if done == last:
                raise RuntimeError("no more")

        monkeypatch.setattr("mclr.jobs.encoding.Progress.update", update)

    def run(spec: EncodeSpec) -> None:
        encode(spec, data, autoencoder, output, state)

    fails_at(100)
    with pytest.raises(RuntimeError, match="no more"):
        run(plan.encode_spec("latent").with_(precision="auto"))
    fails_at(150)
    with pytest.raises(RuntimeError, match="no more"):
        run(plan.encode_spec("latent"))
    assert steps == [50, 100, 50, 100, 150] and not output.parent.exists()
    with (state / "x.partial").open("ab") as stream:
        stream.write(b"rows that were written after the last note")
    fails_at(-1)
    run(plan.encode_spec("latent"))
    assert steps[5] == 200
    assert output.read_bytes() == encoded.read_bytes()
    assert not state.exists()


def test_growing_file_is_what_the_library_writes(encoded: Path, tmp_path: Path) -> None:
    tensors, metadata = load_tensors(encoded)
    save_tensors(tmp_path / "x.safetensors", tensors, metadata)
    assert (tmp_path / "x.safetensors").read_bytes() == encoded.read_bytes()


# --- a model of latents ------------------------------------------------------------------------


def test_model_of_latents_is_trained_and_tuned_on_encoded_images(
    plan: Plan, data: Data, autoencoder: Path, encoded: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    state, bases = tmp_path / "state", []
    with monkeypatch.context() as patch:
        # Neither the images nor the network of the autoencoder are needed.
        patch.setattr(Data, "train", None)
        patch.setattr("mclr.models.edm2.latents.build_autoencoder", None)
        for name in ("first", "second"):
            run = tmp_path / name / "latent-base"
            train_base(plan.base_spec("latent"), data, autoencoder, run, state, encoded=encoded)
            bases.append(run / STEP)
    base = bases[0]
    assert base.read_bytes() == bases[1].read_bytes()
    negatives = tmp_path / "negatives.safetensors"
    manifest = data.folder / "manifest.json"
    sample_negatives(plan.negatives_spec("latent"), manifest, base, autoencoder, negatives)
    assert load_tensors(negatives)[0]["x"].shape == (24, 2, 4, 4)
    for name, made in (("mclr-seed0", None), ("ddo-seed1", negatives)):
        run, spec = tmp_path / name, plan.finetune_spec(name)
        finetune(spec, data, base, autoencoder, made, run, state, encoded=encoded)
        tuned = load_tensors(run / STEP)[0]
        assert any(
            not torch.equal(value, tuned[key]) for key, value in load_tensors(base)[0].items()
        )


def test_latents_are_drawn_anew_at_every_step(plan: Plan, data: Data, autoencoder: Path) -> None:
    """The same rows at two steps: other x; the same step twice: the same x."""
    from mclr.training.base import base_trainee

    spec = plan.base_spec("latent")
    family = make_family(spec, data.manifest, autoencoder)
    images, labels = data.train()
    seen = []
    family.base_loss = lambda net, x, labels, draw: seen.append(x) or x.sum()  # type: ignore
    settings = spec.base.model_copy(update={"batch": 4, "label_dropout": 0.0})
    who = base_trainee(family, settings, family.encode(images[:4]), labels[:4], 10)
    for step in (0, 0, 1):
        list(who.losses(step))
    assert torch.equal(seen[0], seen[1])
    alike = torch.cdist(seen[0].flatten(1), seen[2].flatten(1))
    assert alike.min() > 0


# --- noise of labels, noise levels of fine-tuning ----------------------------------------------


def test_fine_tuning_has_its_own_noise_levels(
    plan: Plan, data: Data, autoencoder: Path, encoded: Path, tmp_path: Path
) -> None:
    """Given for the run alone, or as the model's own: the same weights."""
    base = tmp_path / "base.safetensors"
    spec = plan.finetune_spec("mclr-seed0")
    family = make_family(spec, data.manifest, autoencoder)
    save_tensors(base, family.build(step_generator(1)).state_dict(), {})
    other = {"P_mean": 0.5, "P_std": 0.3}
    specs = {
        "own": spec,
        "run": edited(spec, run={"noise": other}),
        "model": spec.with_(noise=other),
    }
    found = {}
    for name, told in specs.items():
        run = tmp_path / name
        finetune(told, data, base, autoencoder, None, run, tmp_path / "s", encoded=encoded)
        found[name] = load_tensors(run / STEP)[0]
    assert all(torch.equal(found["run"][key], found["model"][key]) for key in found["run"])
    assert any(not torch.equal(found["run"][key], found["own"][key]) for key in found["run"])
