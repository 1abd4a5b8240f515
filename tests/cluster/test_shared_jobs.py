"""Several samples in one Slurm job, as docs/slurm.md tells to ask for it."""

from __future__ import annotations

import re
from collections.abc import Callable

import yaml
from checkout import ROOT
from slurm_checkout import SITE, SMALL, SlurmCheckout

from mclr.operations.slurm import ask


def documented() -> list[str]:
    """The options of the page."""
    page = (ROOT / "docs" / "slurm.md").read_text()
    (options,) = re.findall(r"^snakemake --profile slurm (--groups .*) -- all$", page, re.MULTILINE)
    return options.split()


def asked(number: str) -> tuple[str, dict[str, str], int]:
    """Nodes, other resources and minutes that a Slurm job asked for."""
    found = ask("sacct", "-XnP", "-j", number, "--format=NNodes,ReqTRES,TimelimitRaw")
    nodes, resources, minutes = found.strip().split("|")
    return nodes, dict(part.split("=") for part in resources.split(",")), int(minutes)


def test_samples_run_one_after_the_other_on_what_one_asks_for(
    on_slurm: Callable[..., SlurmCheckout],
) -> None:
    checkout = on_slurm(4)
    larger = SMALL | {"memory_mb": 3000}
    site = SITE | {"train": larger, "sample": SMALL | {"gpus": 1}, "evaluate": SMALL}
    (checkout.folder / "config" / "site.yaml").write_text(yaml.safe_dump(site))
    checkout.snakemake("results/micro/feature-nets/cnn/net.safetensors")
    checkout.start("results/micro/evaluations/edm2-base.json", *documented())
    said = checkout.finish()

    (number,) = re.findall(r"SLURM jobid (\d+) \(log: \S*/group_samples", said)
    nodes, wanted, minutes = asked(number)
    (trained,) = checkout.base_jobs()
    assert asked(trained["JobIDRaw"])[1]["mem"] == "3000M"
    assert nodes == wanted["cpu"] == wanted["gres/gpu"] == "1"
    assert wanted["mem"] == f"{SMALL['memory_mb']}M"
    assert minutes == 2 * SMALL["minutes"]
    features = checkout.results / "features" / "edm2-base"
    assert len(list(features.rglob("shard-*.parquet"))) == 2
