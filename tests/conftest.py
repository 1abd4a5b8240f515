"""A tiny tier that trains in seconds, and the files its jobs make, shared by all tests."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, Trained
from xdist.scheduler import LoadScopeScheduling

from mclr.config.reading import parse_tier
from mclr.config.tier import Tier
from mclr.data.load import Manifest, load_manifest
from mclr.data.prepare import prepare
from mclr.data.sources import fetch
from mclr.events import LOG
from mclr.planning.plan import Plan
from mclr.settings.data import Data as DataSection

PRISTINE = LOG.level, tuple(LOG.handlers), LOG.propagate


LONGEST_FIRST = ("cluster", "workflow")
SHARED = ("test_faults.py", "test_pipeline.py", "test_versions.py")
"""Files that need the finished micro tier, which takes a minute or two to make."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that processes end at about the same time."""
    items.sort(key=lambda item: _place(item.path.parent.name))


def _place(folder: str) -> int:
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)


class Together(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a process a file at a time; but all that needs one Slurm, or one finished tier."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.split("::")[0])
        if file.parent.name == "cluster":
            return "cluster"
        return "finished" if file.name in SHARED else str(file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Same bits here as in the jobs, which run on one thread."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _grad_enabled() -> Iterator[None]:
    with torch.enable_grad():
        yield


@pytest.fixture(autouse=True)
def _logger() -> Iterator[None]:
    """Puts the logger of the package back as it was: a command sets it up for its process.

    Before the test, too: a fixture of a whole module may have run one.
    """
    _put_back()
    yield
    _put_back()


def _put_back() -> None:
    LOG.setLevel(PRISTINE[0])
    LOG.handlers, LOG.propagate = list(PRISTINE[1]), PRISTINE[2]


@pytest.fixture
def tiny() -> dict[str, Any]:
    """The content of the tiny tier's configuration, to be edited freely."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def tiny_tier() -> Tier:
    return parse_tier(copy.deepcopy(TINY), "tiny")


@pytest.fixture(scope="session")
def tiny_plan(tiny_tier: Tier) -> Plan:
    return Plan(tiny_tier)


@pytest.fixture(scope="session")
def raw_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "digits.raw"
    fetch("digits", path)
    return path


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, raw_digits: Path, tiny_tier: Tier) -> Path:
    """Folder of the prepared digits: train.parquet, reference.parquet, manifest.json."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(DataSection.model_validate(TINY["data"]), raw_digits, folder)
    return folder


@pytest.fixture(scope="session")
def manifest(prepared: Path) -> Manifest:
    return load_manifest(prepared / "manifest.json")


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, prepared: Path, tiny_plan: Plan, _one_thread: None
) -> Trained:
    """Feature net, tokenizer and both base models, trained for a few steps by their jobs."""
    from mclr.jobs.feature_net import train_feature_net
    from mclr.jobs.inputs import Data
    from mclr.jobs.tokenizer import train_tokenizer
    from mclr.jobs.training import train_base

    folder, data = tmp_path_factory.mktemp("trained"), Data(prepared)
    net, tokenizer, state = folder / "cnn", folder / "tokenizer" / "var.safetensors", folder / "s"
    train_feature_net(tiny_plan.tier.features["cnn"], data, net, state)
    train_tokenizer(tiny_plan.tokenizer_spec("var"), data, tokenizer, state)
    train_base(tiny_plan.base_spec("edm2"), data, None, folder / "edm2-base", state)
    train_base(tiny_plan.base_spec("var"), data, tokenizer, folder / "var-base", state)
    last = "checkpoints/step-000004.safetensors"
    return Trained(
        prepared, net, tokenizer, folder / "edm2-base" / last, folder / "var-base" / last
    )
