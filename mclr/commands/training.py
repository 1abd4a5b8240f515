"""Jobs that train: feature nets, tokenizers, base models, fine-tuning."""

from __future__ import annotations

from pathlib import Path

import click

from mclr.commands.options import (
    data_option,
    encoded_option,
    micro_batch_option,
    parsed,
    path_option,
    set_up_device,
    spec_option,
    state_option,
    tokenizer_option,
    version_option,
)


@click.command()
@spec_option
@data_option
@path_option("output", "Folder to write.")
@state_option
@version_option
@click.pass_obj
def feature_net(
    threads: int, spec: str, data: Path, output: Path, state: Path, version: str
) -> None:
    """Train a feature net on the training split."""
    from mclr.jobs.feature_net import train_feature_net
    from mclr.jobs.inputs import Data
    from mclr.metrics.features import SETTINGS

    set_up_device(threads)
    train_feature_net(parsed(SETTINGS, spec), Data(data), output, state, version)


@click.command()
@spec_option
@data_option
@path_option("output", "Weights to write.")
@state_option
@version_option
@click.pass_obj
def tokenizer(threads: int, spec: str, data: Path, output: Path, state: Path, version: str) -> None:
    """Train the VQ-VAE of an autoregressive model, or the autoencoder of a model of latents."""
    from mclr.jobs.inputs import Data
    from mclr.jobs.tokenizer import train_tokenizer
    from mclr.planning.specs import TokenizerSpec

    told = parsed(TokenizerSpec, spec)
    images = Data(data, told.transform)
    train_tokenizer(told, images, output, state, set_up_device(threads), version)


@click.command()
@spec_option
@data_option
@tokenizer_option
@encoded_option
@path_option("run", "Folder of the run to write.")
@state_option
@micro_batch_option
@version_option
@click.pass_obj
def base(
    threads: int,
    /,
    spec: str,
    data: Path,
    micro_batch: int,
    version: str,
    **paths: Path | None,
) -> None:
    """Train a base model from scratch."""
    from mclr.jobs.inputs import Data
    from mclr.jobs.training import train_base
    from mclr.operations.site import load_site
    from mclr.planning.specs import BaseSpec
    from mclr.training.processes import joined

    told = parsed(BaseSpec, spec)
    device, site = set_up_device(threads), load_site().train
    with joined(micro_batch, device, site.checkpointing, site.compile) as share:
        train_base(
            told, Data(data), **paths, share=share, device=device, version=version,  # type: ignore[arg-type]
        )  # fmt: skip


@click.command()
@spec_option
@path_option("manifest", "Manifest of the prepared data.")
@path_option("weights", "Checkpoint of the base model.")
@tokenizer_option
@path_option("output", "File to write.")
@click.pass_obj
def negatives(
    threads: int,
    spec: str,
    manifest: Path,
    weights: Path,
    tokenizer: Path | None,
    output: Path,
) -> None:
    """Sample the frozen base model, for DDO."""
    from mclr.jobs.sampling import sample_negatives
    from mclr.operations.site import load_site
    from mclr.planning.specs import NegativesSpec
    from mclr.training.processes import joined

    told, device = parsed(NegativesSpec, spec), set_up_device(threads)
    with joined(device=device, compiled=load_site().sample.compile) as share:
        sample_negatives(told, manifest, weights, tokenizer, output, device, share)


@click.command()
@spec_option
@data_option
@path_option("base", "Checkpoint of the base model.")
@tokenizer_option
@encoded_option
@path_option("negatives", "Samples of the base model (DDO).", required=False)
@path_option("guide", "Checkpoint of the network that guides it (distillation).", required=False)
@path_option("selection", "Selected point, whose hyperparameters and step to take.", required=False)
@path_option("run", "Folder of the run to write.")
@state_option
@micro_batch_option
@version_option
@click.pass_obj
def finetune(
    threads: int,
    /,
    spec: str,
    data: Path,
    micro_batch: int,
    version: str,
    **paths: Path | None,
) -> None:
    """Fine-tune a base model with one objective."""
    from mclr.jobs.inputs import Data
    from mclr.jobs.training import finetune as run_job
    from mclr.operations.site import load_site
    from mclr.planning.specs import FinetuneSpec
    from mclr.training.processes import joined

    told = parsed(FinetuneSpec, spec)
    device, site = set_up_device(threads), load_site().train
    with joined(micro_batch, device, site.checkpointing, site.compile) as share:
        run_job(
            told, Data(data), **paths, share=share, device=device, version=version,  # type: ignore[arg-type]
        )  # fmt: skip
