"""CCA and DPO losses equal those that thu-ml/CCA computed (see golden/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mclr.files import load_tensors
from mclr.likelihood import token_log_likelihood
from mclr.models.var.config import VarConfig, VqvaeConfig
from mclr.models.var.network import Var
from mclr.models.var.vqvae import Vqvae
from mclr.objectives.cca import cca_tuple_loss
from mclr.objectives.ccdpo import dpo_tuple_loss

FOLDER = Path(__file__).parents[1] / "golden"
LOSSES = np.load(FOLDER / "cca_losses.npz")
VAR = np.load(FOLDER / "cca_var_end2end.npz")
CASES: list[dict[str, Any]] = json.loads(str(LOSSES["meta_json"]))["cases"]
OURS = [i for i, case in enumerate(CASES) if case["loss_type"] != "unlearning"]


def array(source: Any, name: str) -> Tensor:
    return torch.from_numpy(source[name])


def recorded_logps() -> list[Tensor]:
    names = "img_logps", "negative_img_logps", "img_ref_logps", "negative_img_ref_logps"
    return [array(LOSSES, name) for name in names]


def test_log_likelihoods() -> None:
    tokens = array(LOSSES, "tokens").repeat(2, 1)
    for source, (positive, negative) in (("logits", (0, 1)), ("ref_logits", (2, 3))):
        found = token_log_likelihood(array(LOSSES, source), tokens)
        expected = torch.cat([recorded_logps()[positive], recorded_logps()[negative]])
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)


def official(
    case: dict[str, Any], preferred: Tensor, other: Tensor, as_positive: Tensor | None
) -> Tensor:
    """Mean loss of the pairs; the official code divides CCA by max(λ, 1) if it drops labels."""
    if case["loss_type"] == "DPO":
        return dpo_tuple_loss(preferred, other).mean()
    if not case["uncond_ratio"]:
        return cca_tuple_loss(preferred, other, case["lambda_"]).mean()
    loss = cca_tuple_loss(preferred, other, case["lambda_"], as_positive).mean()
    return loss / max(case["lambda_"], 1)


@pytest.mark.parametrize("index", OURS)
def test_losses_and_gradients(index: int) -> None:
    case = CASES[index]
    positive, negative, ref, ref_negative = recorded_logps()
    positive, negative = positive.requires_grad_(), negative.requires_grad_()
    preferred, other = (
        case["beta"] * (positive - ref), case["beta"] * (negative - ref_negative)
    )  # fmt: skip
    as_positive = array(LOSSES, f"case{index}_neg_counts_as_positive")
    if case["uncond_ratio"]:
        assert as_positive.any() and not as_positive.all()
    value = official(case, preferred, other, as_positive)
    assert value.item() == pytest.approx(LOSSES["case_losses"][index], rel=2e-6)
    for name, logps in (("img_logps", positive), ("negative_img_logps", negative)):
        (found,) = torch.autograd.grad(value, logps, retain_graph=True)
        expected = array(LOSSES, f"case{index}_grad_{name}")
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


def test_far_from_the_reference_nothing_overflows() -> None:
    gap, zero = array(LOSSES, "extreme_gap"), torch.zeros(9)
    for beta, name in ((1.0, "beta1"), (0.02, "beta0.02")):
        expected = array(LOSSES, f"extreme_neg_log_sigmoid_{name}")
        torch.testing.assert_close(dpo_tuple_loss(beta * gap, zero), expected, rtol=1e-6, atol=0)


# ------------------------------------------------------------------ the whole step on a network


@pytest.fixture(scope="module")
def networks() -> tuple[Var, Var, Vqvae]:
    meta = json.loads(str(VAR["meta_json"]))
    tensors = load_tensors(FOLDER / "var_var.safetensors")[0]
    config = VarConfig(
        depth=2, embed_dim=48, num_heads=3, num_classes=5, patch_nums=(1, 2, 3, 4),
        vocab_size=32, z_channels=8,
    )  # fmt: skip
    reference, policy = (Var.build(config, torch.Generator()) for _ in range(2))
    for net in (reference, policy):
        net.load_state_dict(tensors)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if f"policy_delta:{name}" in VAR.files:
                parameter.add_(array(VAR, f"policy_delta:{name}"))
    codes = VqvaeConfig(
        vocab_size=32, z_channels=8, ch=32, patch_nums=(1, 2, 3, 4),
        **meta["ddconfig_override"],
    )  # fmt: skip
    vqvae = Vqvae.build(codes, torch.Generator())
    stored = load_tensors(FOLDER / "var_vae_small.safetensors")[0]
    vqvae.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    return reference, policy, vqvae.eval()


def test_log_likelihoods_of_images(networks: tuple[Var, Var, Vqvae]) -> None:
    found = image_logps(networks)
    for name, values in found.items():
        torch.testing.assert_close(values.detach(), array(VAR, name), rtol=1e-6, atol=1e-4)


def image_logps(networks: tuple[Var, Var, Vqvae]) -> dict[str, Tensor]:
    """Images under their own labels, and under those of their neighbours."""
    reference, policy, vqvae = networks
    tokens = vqvae.encode_tokens(array(VAR, "img"))
    inputs, labels = vqvae.tokens_to_input(tokens), array(VAR, "labels")
    return {
        f"{sign}img_{prefix}logps": net.log_likelihood(c, tokens, inputs)
        for prefix, net in (("", policy), ("ref_", reference))
        for sign, c in (("", labels), ("negative_", labels.roll(-1)))
    }


@pytest.mark.parametrize("index", [0, 1, 2])
def test_step_on_a_network(index: int, networks: tuple[Var, Var, Vqvae]) -> None:
    """The gradient of every parameter of the policy."""
    case = json.loads(str(VAR["meta_json"]))["cases"][index]
    logps = {name: values for name, values in image_logps(networks).items()}
    preferred = case["beta"] * (logps["img_logps"] - logps["img_ref_logps"].detach())
    other = case["beta"] * (logps["negative_img_logps"] - logps["negative_img_ref_logps"].detach())
    value = official(case, preferred, other, None)
    assert value.item() == pytest.approx(float(VAR[f"case{index}_loss"]), rel=2e-6)
    parameters = dict(networks[1].named_parameters())
    names = [str(name) for name in VAR["grad_names"]]
    found = dict(
        zip(names, torch.autograd.grad(value, [parameters[n] for n in names]), strict=True)
    )
    norms = torch.stack([found[name].norm() for name in names])
    recorded = array(VAR, f"case{index}_gradnorms")
    torch.testing.assert_close(norms, recorded, rtol=2e-5, atol=1e-5 * recorded.max().item())
    for name in ("class_emb.weight", "head.bias"):
        expected = array(VAR, f"case{index}_grad:{name}")
        error = (found[name] - expected).abs().max()
        assert error <= 1e-5 * expected.abs().max()
