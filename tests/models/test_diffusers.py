"""The family of diffusers' networks, against diffusers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import diffusers
import pytest
import torch
from diffusers_folders import (
    dit_folder,
    dit_pipeline,
    images_of,
    loaded,
    model_of,
    unet_folder,
    unet_pipeline,
)
from torch import Tensor, nn

from mclr.config.objectives import FineTuning
from mclr.data.load import step_generator
from mclr.errors import UserError
from mclr.likelihood import Draw, noise_weight
from mclr.models.diffusers.config import DiffusersBase
from mclr.models.families import make_family
from mclr.models.spec import ModelSpec
from mclr.settings.section import plain
from mclr.training.base import base_trainee
from mclr.training.finetune import finetune_trainee
from mclr.training.given import Samples
from mclr.training.share import Share
from mclr.versions import kinds

BY_SCHEDULER = {"kind": "scheduler", "num_steps": 6}
HEUN = {"num_steps": 4, "sigma_min": 0.02, "sigma_max": 80, "rho": 7}
SEEDS = [5, 2**31 + 7, 11]
LABELS = torch.tensor([3, 0, 9])


def generators(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed % 2**32) for seed in seeds]


@pytest.fixture(scope="module")
def dit(tmp_path_factory: Any) -> Path:
    return dit_folder(tmp_path_factory.mktemp("dit"))


@pytest.fixture(scope="module")
def unet(tmp_path_factory: Any) -> Path:
    return unet_folder(tmp_path_factory.mktemp("unet"))


# ------------------------------------------------------------------ sampling


@pytest.mark.parametrize("guidance", [0.0, 1.5])
@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "DPMSolverMultistepScheduler"])
def test_equal_to_the_pipeline_of_dit(tmp_path: Path, scheduler: str, guidance: float) -> None:
    """Images of each seed; the null label of DiTPipeline is number 1000, whatever the model."""
    pipeline = dit_pipeline(classes=1000, channels=3)
    pipeline.scheduler = getattr(diffusers, scheduler).from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(tmp_path)
    family, net = loaded(tmp_path, images_of(1000, 3))
    x = family.generate(net, SEEDS, LABELS, guidance)
    with torch.no_grad():
        made = (pipeline.vae.decode(x / 0.7).sample / 2 + 0.5).clamp(0, 1)
    theirs = pipeline(
        LABELS.tolist(),
        guidance_scale=1 + guidance,
        generator=generators(SEEDS),
        num_inference_steps=6,
        output_type="np",
    ).images
    expected = torch.from_numpy(theirs).permute(0, 3, 1, 2)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    assert ((family.decode(x) - 255 * expected).abs() <= 0.5 + 1e-2).all()


def unet_loop(pipeline: Any, steps: int) -> Tensor:
    """What DDPMPipeline does, with labels."""
    scheduler, made = pipeline.scheduler, generators(SEEDS)
    x = torch.cat([torch.randn(1, 1, 8, 8, generator=g) for g in made])
    x = x * getattr(scheduler, "init_noise_sigma", 1)
    scheduler.set_timesteps(steps)
    scale = getattr(scheduler, "scale_model_input", lambda x, t: x)
    for t in scheduler.timesteps:
        out = pipeline.unet(scale(x, t), t, class_labels=LABELS).sample
        x = scheduler.step(out, t, x, generator=made).prev_sample
    return x


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("DDPMScheduler", {}),
        ("DDPMScheduler", {"prediction_type": "sample", "clip_sample": False}),
        ("DDIMScheduler", {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}),
        ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
        ("EulerAncestralDiscreteScheduler", {}),
        ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    ],
)
def test_equal_to_the_loop_of_a_unet(tmp_path: Path, name: str, settings: Any) -> None:
    pipeline = unet_pipeline(scheduler=getattr(diffusers, name)(**settings))
    pipeline.unet.save_pretrained(tmp_path / "unet")
    pipeline.scheduler.save_pretrained(tmp_path / "scheduler")
    family, net = loaded(tmp_path)
    made = family.generate(net, SEEDS, LABELS, 0.0)
    torch.testing.assert_close(made, unet_loop(pipeline, 6), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampler", [BY_SCHEDULER, HEUN])
def test_an_image_depends_on_its_own_seed(dit: Path, sampler: Any) -> None:
    family, net = loaded(dit, sampler=sampler)
    together = family.generate(net, SEEDS, LABELS, 0.5)
    alone = family.generate(net, SEEDS[1:2], LABELS[1:2], 0.5)
    torch.testing.assert_close(alone, together[1:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", [BY_SCHEDULER, HEUN])
def test_guides(dit: Path, sampler: Any) -> None:
    """An interval outside all levels guides nothing; the network guided by itself, neither."""
    family, net = loaded(dit, sampler=sampler)
    plain_ = family.generate(net, SEEDS, LABELS, 0.0)
    guided = family.generate(net, SEEDS, LABELS, 2.0)
    assert (guided - plain_).abs().max() > 1e-3
    nowhere = family.generate(net, SEEDS, LABELS, 2.0, interval=(1e8, 1e9))
    torch.testing.assert_close(nowhere, plain_)
    everywhere = family.generate(net, SEEDS, LABELS, 2.0, interval=(0.0, 1e9))
    torch.testing.assert_close(everywhere, guided)
    itself = family.generate(net, SEEDS, LABELS, 2.0, guide=net)
    torch.testing.assert_close(itself, plain_, rtol=1e-4, atol=1e-4)


def test_heun_of_a_gaussian(dit: Path) -> None:
    """With the optimal denoiser of N(0, s²) the ODE scales the noise by s/√(s² + σ_max²)."""
    family, _ = loaded(dit, sampler=HEUN | {"num_steps": 64, "sigma_min": 0.002})
    s = 0.8

    class Optimal(nn.Module):
        """Predicts ε of x + σε for x ~ N(0, s²), as DDPM does."""

        def forward(self, seen: Tensor, time: Tensor, class_labels: Tensor) -> Any:
            sigma = family.levels.sigma_of(time).view(-1, 1, 1, 1)
            noisy = seen * (1 + sigma**2).sqrt()
            out = noisy * sigma / (s**2 + sigma**2)
            return type("Out", (), {"sample": torch.cat([out, out], 1)})

    made = family.generate(Optimal().eval(), SEEDS, LABELS, 0.0)
    noise = torch.cat([torch.randn(1, 4, 4, 4, generator=g) for g in generators(SEEDS)])
    expected = noise * 80 * s / (s**2 + 80**2) ** 0.5
    torch.testing.assert_close(made, expected, rtol=1e-2, atol=1e-2)


# ------------------------------------------------------------------ likelihood


def test_log_likelihood_by_hand(unet: Path) -> None:
    """−w(σ) ‖x − D‖² with D of the noise that diffusers' network predicts at a step."""
    family, net = loaded(unet)
    pipeline = unet_pipeline()
    x = torch.randn(3, 1, 8, 8, generator=step_generator(1))
    epsilon = torch.randn(3, 1, 8, 8, generator=step_generator(2))
    t = torch.tensor([10, 400, 900])
    alpha_bar = pipeline.scheduler.alphas_cumprod[t]
    sigma = ((1 - alpha_bar) / alpha_bar).sqrt()
    x_t = pipeline.scheduler.add_noise(x, epsilon, t)
    with torch.no_grad():
        predicted = pipeline.unet(x_t, t, class_labels=LABELS).sample
        found = family.log_likelihood(net, x, LABELS, Draw(sigma, epsilon))
    error = (sigma.view(-1, 1, 1, 1) * (predicted - epsilon)).square().sum((1, 2, 3))
    torch.testing.assert_close(found, -noise_weight(sigma, 0.5) * error, rtol=1e-3, atol=1e-3)


def test_a_learned_variance_stays_as_it_is(dit: Path) -> None:
    """ℓ has no gradient on the half of the output that is a variance."""
    family, net = loaded(dit)
    net.train().requires_grad_(True)
    x = torch.randn(3, *family.shape, generator=step_generator(1))
    value = family.log_likelihood(net, x, LABELS, family.draw(x, step_generator(2))).sum()
    value.backward()  # type: ignore[no-untyped-call]
    last = cast(Any, net).proj_out_2
    gradient = last.bias.grad.view(2, 2, 8)  # a patch, channels
    assert (gradient[..., 4:] == 0).all() and (gradient[..., :4] != 0).all()


def test_training_drops_no_labels_of_its_own(dit: Path) -> None:
    """diffusers' DiT drops a tenth in train mode; what is dropped here, the objective decides."""
    family, net = loaded(dit)
    x = torch.randn(3, *family.shape, generator=step_generator(1)).repeat(50, 1, 1, 1)
    draw = Draw(torch.full((150,), 0.5), torch.zeros_like(x))
    labels = LABELS.repeat(50)
    with torch.no_grad():
        trained = family.log_likelihood(net.train(), x, labels, draw)
        still = family.log_likelihood(net.eval(), x, labels, draw)
    torch.testing.assert_close(trained, still)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_a_perfect_network_has_no_loss_and_no_error(tmp_path: Path, kind: str) -> None:
    scheduler = cast(Any, diffusers.DDIMScheduler)(prediction_type=kind)
    family, _ = loaded(unet_folder(tmp_path, scheduler=scheduler))
    x = torch.randn(3, 1, 8, 8, generator=step_generator(1))
    draw = family.draw(x, step_generator(2))
    assert draw.sigma is not None and draw.epsilon is not None
    sigma = draw.sigma.view(-1, 1, 1, 1)
    alpha, deviation = 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()
    answers = {
        "epsilon": draw.epsilon,
        "sample": x,
        "v_prediction": alpha * draw.epsilon - deviation * x,
    }

    class Perfect(nn.Module):
        def forward(self, seen: Tensor, time: Tensor, class_labels: Tensor) -> Any:
            torch.testing.assert_close(seen, alpha * x + deviation * draw.epsilon)
            return type("Out", (), {"sample": answers[kind]})

    assert family.base_loss(Perfect(), x, LABELS, draw) < 1e-10
    assert family.log_likelihood(Perfect(), x, LABELS, draw).abs().max() < 1e-6


# ------------------------------------------------------------------ latents and pixels


def test_latents_are_those_of_the_pipeline(dit: Path) -> None:
    family, _ = loaded(dit)
    pixels = torch.randint(256, (3, 1, 8, 8), generator=step_generator(1)).to(torch.uint8)
    vae: Any = dit_pipeline().vae
    with torch.no_grad():
        found = vae.encode(pixels / 127.5 - 1).latent_dist
        mean, std = found.mean, found.std
    raw = family.encode(pixels)
    torch.testing.assert_close(raw, torch.cat([mean, std], 1))
    x = family.from_encoded(raw, step_generator(3))
    noise = torch.randn(x.shape, generator=step_generator(3))
    torch.testing.assert_close(x, 0.7 * (mean + noise * std))


def test_pixels_there_and_back(unet: Path) -> None:
    family, _ = loaded(unet)
    pixels = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    x = family.from_encoded(family.encode(pixels), step_generator(0))
    assert x.min() == -1 and x.max() == 1
    assert torch.equal(family.decode(x), pixels)
    assert torch.equal(family.from_encoded(pixels, step_generator(0)), x)


# ------------------------------------------------------------------ what is refused


def test_without_a_null_label_nothing_guides(tmp_path: Path, unet: Path) -> None:
    network = plain(model_of(unet).parts[0]) | {"null_label": False}
    scheduler = plain(model_of(unet).parts[1])
    told = {"network": network, "scheduler": scheduler, "guidance": []}
    family, net = loaded(unet, images_of(11), **told)  # all embeddings are classes
    family.generate(net, SEEDS, LABELS, 0.0)
    with pytest.raises(UserError, match="no null label"):
        family.generate(net, SEEDS, LABELS, 1.0)
    with pytest.raises(ValueError, match="null_label"):
        model_of(unet, **told | {"guidance": [1]})


def test_precision(dit: Path) -> None:
    exact, half = (loaded(dit, precision=name)[0] for name in ("float32", "bfloat16"))
    net = loaded(dit)[1]
    x = torch.randn(3, *exact.shape, generator=step_generator(1))
    draw = exact.draw(x, step_generator(2))
    values = [family.log_likelihood(net, x, LABELS, draw).detach() for family in (exact, half)]
    assert values[1].dtype == torch.float32
    assert not torch.equal(*values)
    torch.testing.assert_close(*values, rtol=0.05, atol=0.5)


# ------------------------------------------------------------------ training


OBJECTIVES: list[dict[str, Any]] = [
    {"name": "mclr", "K": 2},
    {"name": "mclr", "K": 2, "dsm": 1},
    {"name": "wmclr", "dsm": 1, "K": 2, "draws": 2},
    {"name": "ccdpo", "beta": 0.1, "K": 2},
    {"name": "cca", "beta": 0.1, "lambda": 1, "K": 2},
    {"name": "ddo", "alpha": 1, "beta": 0.1, "n_negatives": 12},
    {"name": "distill", "gamma": 0.5},
    {"name": "gft", "beta": 0.5},
    {"name": "mg", "w": 0.3},
]


def test_no_objective_is_left_out() -> None:
    assert {objective["name"] for objective in OBJECTIVES} == kinds.OBJECTIVES.keys() - {kinds.OWN}


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective["name"])
def test_every_objective_trains_it(dit: Path, objective: dict[str, Any]) -> None:
    """A step by each: every weight moves but those of the variance and of classes not seen."""
    family, net = loaded(dit)
    settings = FineTuning.model_validate(
        {"model": "dit", "objective": objective, "lr": 0.01, "batch": 8, "checkpoints": [1]}
    )
    generator = step_generator(1)
    raw = torch.rand(12, 8, 4, 4, generator=generator)
    made = torch.randn(12, *family.shape, generator=generator)
    labels = torch.arange(12) % 10
    data, negatives = Samples(raw, labels, 10), Samples(made, labels, 10, generated=True)
    trainee = finetune_trainee(family, net, settings, 0, data, negatives)
    for loss in trainee.losses(0):
        assert loss.value.isfinite()
        loss.value.backward()  # type: ignore[no-untyped-call]
    before = {name: value.clone() for name, value in trainee.net.state_dict().items()}
    trainee.optimizer.step()
    after = trainee.net.state_dict()
    still = [name for name, value in after.items() if torch.equal(value, before[name])]
    assert still == []
    bias = after["proj_out_2.bias"].view(4, 8) == before["proj_out_2.bias"].view(4, 8)
    assert bias[:, 4:].all() and not bias[:, :4].any()


@pytest.mark.parametrize("write", [dit_folder, unet_folder])
def test_less_memory_gives_the_same_gradient(write: Any, tmp_path: Path) -> None:
    """Activations that are computed again, as a job with too little memory does."""
    family, net = loaded(write(tmp_path))
    net.train().requires_grad_(True)
    x = torch.randn(3, *family.shape, generator=step_generator(1))
    draw, found = family.draw(x, step_generator(2)), []
    for checkpointing in (False, True):
        Share(checkpointing=checkpointing).prepare(net)
        assert cast(Any, net).is_gradient_checkpointing == checkpointing
        value = family.log_likelihood(net, x, LABELS, draw).sum()
        found.append(torch.autograd.grad(value, list(net.parameters()), allow_unused=True))
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "scheduler",
    [
        {"name": "DDPMScheduler", "prediction_type": "v_prediction"},
        {"name": "FlowMatchEulerDiscreteScheduler"},
    ],
)
def test_a_base_learns(scheduler: dict[str, Any]) -> None:
    """Classes of grey images of one level each: in much noise, ℓ tells them apart."""
    network = {"kind": "dit", "num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16}
    base = {"seed": 0, "steps": 150, "batch": 32, "lr": 0.002, "warmup_steps": 10}
    base |= {"weight_decay": 0.0, "label_dropout": 0.1, "ema_std": 0.1}
    told: dict[str, Any] = {"network": network, "scheduler": scheduler, "base": base}
    model = model_of(Path("none"), **told, noise={"P_mean": 2.0, "P_std": 0.7})
    content = {"network": model.architecture(), "precision": "float32", "noise": model.noise}
    family = make_family(ModelSpec.model_validate(content), images_of(2))
    labels = torch.arange(64) % 2
    images = (labels.view(-1, 1, 1, 1) * 200 + 20).expand(-1, 1, 8, 8).to(torch.uint8)
    assert isinstance(model.base, DiffusersBase)
    trainee = base_trainee(family, model.base, family.encode(images), labels, 2)
    for step in range(base["steps"]):
        for group in trainee.optimizer.param_groups:
            group["lr"] = trainee.learning_rate(step)
        (loss,) = trainee.losses(step)
        loss.value.backward()  # type: ignore[no-untyped-call]
        trainee.optimizer.step()
        trainee.optimizer.zero_grad()
    x, net = family.encode(images), trainee.net.eval()
    draw = Draw(torch.full((64,), 20.0), torch.randn(x.shape, generator=step_generator(1)))
    with torch.no_grad():
        own = family.log_likelihood(net, x, labels, draw)
        other = family.log_likelihood(net, x, 1 - labels, draw)
    assert (own > other).float().mean() > 0.9
