"""The kinds of job there are, and the code of each.

A kind is a command of the command line, for one family of models, objective or feature net where
the command has a branch for each: ``finetune.edm2.mclr``. Results of other kinds do not change with
the code of one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from mclr.config.objectives import Objective
from mclr.theory.lab.run import TOPICS, module_of
from mclr.versions.digest import Code, Symbol

OWN = "own"
"""Family, or objective, of somebody's own."""

# What leads to the code of one family, objective or net alone: a kind that has nothing to do with
# it does not depend on these definitions, or on what only they refer to.
FAMILIES = {
    "edm2": {
        *("Edm2Family", "Edm2Model", "Edm2Base", "autoencoder_trainee", "AutoencoderTraining"),
        *("Edm2Network", "Precond", "read_edm2", "Edm2Spec", "Edm2Sampler", "Autoencoder"),
        *("encode_moments", "latent_statistics", "pack_vae"),
    },
    "var": {
        *("VarFamily", "VarModel", "VarBase", "vqvae_trainee", "TokenizerTraining"),
        *("VarConfig", "VqvaeConfig", "Var", "Vqvae", "read_var", "read_pth"),
        *("VarSpec", "VarSampler", "Tokenizer"),
    },
    "diffusers": {
        *("DiffusersFamily", "DiffusersModel", "DiffusersBase", "DiffusersSpec"),
        *("SchedulerSampler", "pack_autoencoder", "read_weights", "weights_file", "write_model"),
    },
    OWN: {"own_family", "OwnFamily", "OwnModel", "OwnBase", "OwnSpec", "OwnSampler"},
}
DIFFUSION = ("edm2", "diffusers")
"""Families that have noise levels."""
OBJECTIVES = {
    str(get_args(cls.model_fields["name"].annotation)[0]): {cls.__name__}
    for cls in get_args(get_args(Objective)[0])
}
LOSSES = frozenset(f"{name}_loss" for name in OBJECTIVES if name != OWN)
"""Each in the module of its objective; reading a configuration runs none of them."""
NOISY = "noisy_likelihood"
ASK_FOR_NOISY = ("wmclr", OWN)
HELPERS = (
    *("mclr.objectives.loss:preference_log_ratios", "mclr.objectives.loss:preference_terms"),
    *("mclr.objectives.weights:class_posterior_weights", "mclr.objectives:__getattr__"),
)
"""What the class of somebody's own objective may call."""
NETS = {
    "classifier": {"ClassifierFeatures", "Classifier", "_train_classifier"},
    "efficientnet-lite0": {"EfficientNetFeatures", "EfficientNetLite0", "_pretrained"},
    "inception": {"InceptionFeatures", "Inception"},
    "dinov2": {"Dinov2Features", "Dinov2"},
}
FAMILY_ENTRY = "make_family"
PIXELS = "pixels"
"""The kind of encoding that is of no family."""


@dataclass(frozen=True)
class Kind:
    """A kind of job.

    without: names that lead to code of others. also: definitions that are found by their name when
    the job runs, as ``module:name``. files: patterns of files that are code, too.
    """

    name: str
    without: frozenset[str] = frozenset()
    also: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def commands(self) -> list[str]:
        """The commands of its jobs: DDO's negatives are a part of fine-tuning with DDO."""
        first, *rest = self.name.split(".")
        return [first, "negatives"] if rest and rest[-1] == "ddo" else [first]

    def roots(self, code: Code) -> list[Symbol]:
        """The definitions that its jobs start with."""
        places = [Symbol(*place.split(":")) for place in self.also]
        return [code.commands[command] for command in self.commands] + places

    def digest(self, code: Code) -> str:
        """Digest of the code of its jobs: command, launch script, the rule's call, templates."""
        called = [text for command in self.commands for text in calls(code.root, command)]
        files = self._files(code.root)
        return code.digest(self.roots(code), self.without, code.entry, *called, *files)

    def _files(self, root: Path) -> Iterator[str]:
        for pattern in self.files:
            for path in sorted(root.glob(pattern)):
                yield path.read_text(encoding="utf-8")


def _others(parts: dict[str, set[str]], kept: str) -> frozenset[str]:
    return frozenset(name for part, names in parts.items() if part != kept for name in names)


def _of_families(command: str, *families: str) -> list[Kind]:
    return [Kind(f"{command}.{family}", _others(FAMILIES, family)) for family in families]


def _of_nets(command: str, *nets: str) -> list[Kind]:
    families = _others(FAMILIES, "")  # published statistics are imported by code that knows them
    return [Kind(f"{command}.{net}", _others(NETS, net) | families) for net in nets]


def _finetuning() -> list[Kind]:
    return [
        Kind(
            f"finetune.{family}.{name}",
            _others(FAMILIES, family)
            | _others(OBJECTIVES, name)
            | (frozenset() if name in ASK_FOR_NOISY else {NOISY}),
            HELPERS if name == OWN else (),
        )
        for family in FAMILIES
        for name in OBJECTIVES
        if name != "wmclr" or family in DIFFUSION
    ]


def _without_losses(kind: Kind) -> Kind:
    """Theory, which calls what it tests, and fine-tuning stay as they are."""
    runs_them = kind.name.startswith(("finetune.", "theory"))
    return kind if runs_them else replace(kind, without=kind.without | LOSSES)


def _theory() -> list[Kind]:
    topics = [Kind(f"theory.{topic}", also=(f"{module_of(topic)}:run",)) for topic in TOPICS]
    return [*topics, Kind("theory-page", files=("mclr/theory/lab/*.j2",))]


KINDS = {
    kind.name: _without_losses(kind)
    for kind in (
        *(Kind(name) for name in ("fetch", "fetch-released", "prepare", "prepare-images")),
        *_of_nets("feature-net", "classifier", "efficientnet-lite0"),
        *_of_nets("published-net", "inception", "dinov2"),
        *_of_families("tokenizer", "edm2", "var"),
        *_of_families("import-tokenizer", "edm2", "var", "diffusers"),
        *_of_families("encode", "edm2", "var", "diffusers"),
        Kind(f"encode.{PIXELS}", frozenset({FAMILY_ENTRY})),
        *_of_families("base", *FAMILIES),
        *_of_families("import-base", *FAMILIES),
        *_finetuning(),
        *_of_families("sample", *FAMILIES),
        *(Kind(name) for name in ("evaluate", "floors", "select", "best", "metrics")),
        *(Kind(name) for name in ("claims", "similarity")),
        *_of_families("separation", *FAMILIES),
        *(Kind(name) for name in ("effective-config", "table", "figures")),
        Kind("report", files=("mclr/report/templates/*.j2",)),
        Kind("track"),
        *_theory(),
    )
}
"""Every kind, in the order in which data flow."""


def matching(name: str, known: Iterable[str] = KINDS) -> list[str]:
    """The kinds that a name stands for: one, or all of a command, or of a command and family."""
    return [kind for kind in known if f"{kind}.".startswith(f"{name}.")]


def calls(root: Path, command: str) -> Iterator[str]:
    """How the rules of the workflow call a command, and the scripts that start it."""
    for path in sorted((root / "workflow" / "rules").glob("*.smk")):
        for block in re.findall(r"\n +shell:\n((?: +\".*\"\n)+)", path.read_text(encoding="utf-8")):
            call: str = ast.literal_eval(f"({block})")
            if re.search(rf"--log \{{log\}} {command}(?![\w-])", call):
                yield call
                if "workflow/launch" in call:
                    yield from _scripts(root / "workflow", "launch", "torchrun-node")


def _scripts(folder: Path, *names: str) -> Iterator[str]:
    """Shell scripts without comments and empty lines."""
    for name in names:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        stripped = (line.strip() for line in lines)
        yield "\n".join(line for line in stripped if line and not line.startswith("#"))
