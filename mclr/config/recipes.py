"""Published recipes of fine-tuning by name: what their authors' code does, in keys of a run.

``recipe: cca-var-d24`` fills in what a run does not say itself. Every value has its source.
"""

from __future__ import annotations

from typing import Any, NamedTuple

CCA = "thu-ml/CCA 7d5a073"
VAR = "FoundationVision/VAR 78b9539"
GFT = "thu-ml/GFT 9bf5ee4"
EDM2 = "NVlabs/edm2 4bf8162"
SECTIONS = ("objective", "optimizer", "noise")
"""Of which a run may give some keys and leave the others to its recipe."""


class Value(NamedTuple):
    """A value of a recipe, and where it stands."""

    value: Any
    source: str


Recipe = dict[str, Value]
"""By dotted key of a run."""


def _cca_var(depth: int, lam: float, final: float, drop_path: float, decayed: float) -> Recipe:
    """Of one depth; what the depths share stands in the code of VAR, which CCA imports.

    lam: λ. final: ``wpe``. drop_path: of the last block. decayed: ``twde``.
    """
    command = f"{CCA}, README: VAR d{depth}"
    recipe = {
        "objective.name": Value("cca", command),
        "objective.beta": Value(0.02, command),
        "objective.lambda": Value(lam, command),
        "objective.K": Value(1, f"{CCA}, VAR_CCA_trainer.py: labels turned by one"),
        "objective.uncond_ratio": Value(0.1, command),
        "lr": Value(2e-5, f"{command}, --tblr at batch 256"),
        "batch": Value(256, command),
        "epochs": Value([1.0], f"{command}, --ep"),
        "optimizer.name": Value("adamw", f"{CCA}, VAR_finetune.py"),
        "optimizer.betas": Value([0.9, 0.95], f"{CCA}, VAR_finetune.py"),
        "optimizer.weight_decay": Value(0.05, f"{VAR}, arg_util.py: twd"),
        "optimizer.schedule": Value("linear", f"{VAR}, arg_util.py: sche lin0"),
        "optimizer.warmup": Value(0.02, f"{VAR}, arg_util.py: wp = ep / 50"),
        "optimizer.start": Value(0.005, f"{VAR}, arg_util.py: wp0"),
        "optimizer.hold": Value(0.05, f"{VAR}, lr_control.py: T of lin0"),
        "optimizer.final": Value(final, f"{command}, --wpe"),
        # Their loss is divided by λ before its gradient is clipped at 2, ours is not.
        "optimizer.clip": Value(2 * lam, f"{VAR}, arg_util.py: tclip 2, of the loss / λ"),
        "optimizer.dropout": Value(
            drop_path,
            f"{command}: dpr_ratio · 0.1 · depth / 24; their masks are independent, ours shared",
        ),
    }
    if decayed != 0.05:
        recipe["optimizer.weight_decay_final"] = Value(decayed, f"{command}, --twde")
    return recipe


def _cca_llamagen() -> Recipe:
    command, code = f"{CCA}, README: LlamaGen", f"{CCA}, LlamaGen_finetune.py"
    return {
        "objective.name": Value("cca", command),
        "objective.beta": Value(0.02, command),
        "objective.lambda": Value(1000.0, f"{command} B, XL, XXL (L: 300, 3B: 500)"),
        "objective.K": Value(1, f"{code}: labels turned by one"),
        "objective.uncond_ratio": Value(0.1, command),
        "lr": Value(1e-5, command),
        "batch": Value(256, command),
        "checkpoints": Value([5000], f"{command}, --ckpt-every; the released weights are its"),
        "optimizer.name": Value("adamw", code),
        "optimizer.betas": Value([0.9, 0.95], code),
        "optimizer.weight_decay": Value(0.05, code),
        "optimizer.clip": Value(1000.0, f"{code}: 1, of the loss / λ"),
        "optimizer.dropout": Value(0.1, f"{command}, --keep_dropout"),
    }


# Karras et al. (arXiv 2312.02696), Eq. 67, at the end of the published training.
def _edm2(
    size: str, lr: float, end: str, dropout: float, P_mean: float, P_std: float, std: float
) -> Recipe:
    preset = f"{EDM2}, train_edm2.py: {size}"
    return {
        "lr": Value(lr, f"{preset}: {end}"),
        "batch": Value(2048, preset),
        "noise.P_mean": Value(P_mean, preset),
        "noise.P_std": Value(P_std, preset),
        "optimizer.name": Value("adam", f"{EDM2}, training_loop.py"),
        "optimizer.betas": Value([0.9, 0.99], f"{EDM2}, training_loop.py"),
        "optimizer.ema.std": Value(std, f"{EDM2}, README: the released average of best FID"),
        "optimizer.dropout": Value(dropout, preset),
    }


def _gft_dit() -> Recipe:
    command, code = f"{GFT}, DiT/train.sh", f"{GFT}, DiT/train.py"
    return {
        "objective.name": Value("gft", GFT),
        "objective.uncond_ratio": Value(0.1, "arXiv 2501.15420: labels dropped as in pre-training"),
        "lr": Value(1e-4, command),
        "batch": Value(256, code),
        "epochs": Value([28.0], command),
        "optimizer.name": Value("adamw", code),
        "optimizer.betas": Value([0.9, 0.999], f"{code}: torch's own"),
        "optimizer.schedule": Value("cosine", f"{command}, --cos-decay"),
        "optimizer.final": Value(0.1, f"{code}: eta_min 1e-5"),
        "optimizer.ema.half_life": Value(1_774_358.0, f"{code}: 0.9999 a step of 256 images"),
    }


RECIPES: dict[str, Recipe] = {
    "cca-var-d16": _cca_var(16, 50.0, 0.1, 0.0, 0.05),
    "cca-var-d20": _cca_var(20, 50.0, 0.1, 0.1 * 20 / 24, 0.05),
    "cca-var-d24": _cca_var(24, 100.0, 0.01, 0.1, 0.05),
    "cca-var-d30": _cca_var(30, 1000.0, 0.01, 0.1 * 30 / 24, 0.08),
    "cca-llamagen": _cca_llamagen(),
    "edm2-img64-s": _edm2(
        "edm2-img64-s", 0.00258, "0.0100 / √(524,288 / 35,000)", 0.0, -0.8, 1.6, 0.075
    ),
    "edm2-img512-l": _edm2(
        "edm2-img512-l", 0.00221, "0.0080 / √(917,504 / 70,000)", 0.1, -0.4, 1.0, 0.085
    ),
    "gft-dit-xl": _gft_dit(),
}


FAMILIES = {"cca": "var", "edm2": "edm2", "gft-dit": "diffusers"}
"""Family of the models that recipes are of, by the beginning of their names."""


def fitting(family: str) -> list[str]:
    """Names of the recipes for models of a family; of one's own family, all."""
    return [name for name in RECIPES if family in ("own", family_of(name))]


def family_of(recipe: str) -> str:
    """The family of the models that a recipe fine-tunes."""
    (found,) = (family for start, family in FAMILIES.items() if recipe.startswith(f"{start}-"))
    return found


def filled(content: dict[str, Any]) -> dict[str, Any]:
    """A run with what its ``recipe`` says and it does not.

    Of a section it may say some keys; an objective of another name, or another ``ema``, is wholly
    its own. ValueError if there is no such recipe.
    """
    name = content["recipe"]
    if not isinstance(name, str) or name not in RECIPES:
        raise ValueError(f"recipe: unknown name {name!r}; choose from {', '.join(RECIPES)}")
    found = _nested(RECIPES[name])
    if {"checkpoints", "epochs"} & content.keys():
        found = {k: v for k, v in found.items() if k not in ("checkpoints", "epochs")}
    if _named_otherwise(content.get("objective"), found.get("objective")):
        del found["objective"]
    sections = [key for key in SECTIONS if isinstance(content.get(key), dict)]
    merged = {key: found.get(key, {}) | content[key] for key in sections}
    return found | content | merged


def _named_otherwise(given: Any, meant: Any) -> bool:
    if not isinstance(given, dict) or not isinstance(meant, dict):
        return False
    return "implementation" in given or given.get("name", meant["name"]) != meant["name"]


def _nested(recipe: Recipe) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, (value, _) in recipe.items():
        *parents, last = key.split(".")
        section = found
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    return found
