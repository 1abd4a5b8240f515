"""The tiers of small jobs that `make same` runs: every kind of job, every published option."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mclr.config.reading import load_tier  # noqa: E402
from mclr.versions.kinds import KINDS  # noqa: E402
from mclr.versions.used import kinds_of, options_of  # noqa: E402

PUBLISHED = ("digits", "fashion")


class DoesNotRunError(Exception):
    """A tree of code that cannot run a tier."""


@dataclass(frozen=True)
class Micro:
    """A tier of small jobs; ``prepare`` makes what it needs beside its configuration."""

    name: str
    config: str
    prepare: tuple[str, ...] = ()

    @property
    def kinds(self) -> set[str]:
        """The kinds of job that it runs."""
        if self.name == "theory":
            return {kind for kind in KINDS if kind.startswith("theory")}
        return kinds_of(load_tier(ROOT / self.config))

    def can_be_made(self, folder: Path) -> bool:
        """Whether a tree has the script that prepares it, if there is one, and knows its keys."""
        scripts = (word for word in self.prepare[:1] if word.endswith(".py"))
        known = json.loads((folder / "config/schema.json").read_text())
        told = yaml.safe_load((ROOT / self.config).read_text())
        has_scripts = all((folder / script).is_file() for script in scripts)
        return has_scripts and jsonschema.Draft202012Validator(known).is_valid(told)


TESTS = "tests/workflow"
TINY_DIT = ("tests/diffusers_folders.py", "data/raw/tiny-dit")
OWN_IMAGES = ("docs/examples/digit_images.py", "pictures")
BASES = [f"results/micro/runs/{model}-base/config.yaml" for model in ("edm2", "var")]
TRAIN_BASES = ("-m", "snakemake", "--configfile", f"{TESTS}/micro.yaml", "--cores", "2", *BASES)
TIERS = (
    Micro("micro", f"{TESTS}/micro.yaml"),
    Micro("stages", f"{TESTS}/stages.yaml"),
    Micro("imported", f"{TESTS}/imported.yaml", TRAIN_BASES),
    Micro("options", f"{TESTS}/options.yaml"),
    Micro("bases", f"{TESTS}/bases.yaml"),
    Micro("own", f"{TESTS}/own.yaml"),
    Micro("diffusers", f"{TESTS}/diffusers.yaml", TINY_DIT),
    Micro("images", f"{TESTS}/images.yaml", OWN_IMAGES),
    Micro("theory", f"{TESTS}/micro.yaml"),
)


def uncovered(tiers: tuple[Micro, ...]) -> list[str]:
    """Options of the published tiers that no micro tier has."""
    micro = [load_tier(ROOT / tier.config) for tier in tiers]
    published = [load_tier(ROOT / "config" / f"{name}.yaml") for name in PUBLISHED]
    asked = set[str]().union(*map(options_of, published))
    return sorted(asked.difference(*map(options_of, micro)))


def run(folder: Path, tier: Micro, *arguments: str) -> None:
    """Snakemake on a tier, in a folder that git takes for no repository."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "SNAKEMAKE"))}
    environment |= {
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "PYTHONPATH": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = ("snakemake", "--configfile", tier.config, "--cores", str(os.cpu_count() or 1))
    log = folder.parent / f"{folder.name}-{tier.name}.log"
    with log.open("a") as stream:
        if tier.prepare and not (folder / tier.prepare[-1]).exists():
            prepare = (sys.executable, *tier.prepare)
            subprocess.run(
                prepare, cwd=folder, env=environment, stdout=stream, stderr=stream, check=True
            )
        done = subprocess.run(
            (*command, *arguments), cwd=folder, env=environment, stdout=stream, stderr=stream
        )
    if done.returncode:
        raise DoesNotRunError(f"tier {tier.name} fails in {folder}; see {log}")
