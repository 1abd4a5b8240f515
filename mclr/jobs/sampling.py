"""Jobs that sample: points to evaluate, and the negatives of DDO."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor, nn

from mclr.data.load import Manifest, load_manifest
from mclr.device import CPU
from mclr.errors import UserError
from mclr.events import Progress
from mclr.files import atomic, read_json, save_tensors
from mclr.jobs.gather import join_rows, write_together
from mclr.jobs.labels import block_labels, check_scheme, labels_of
from mclr.metrics.features import (
    NetFeatures,
    feature_table,
    load_feature_net,
    net_features,
    with_packages,
)
from mclr.models.dial import turned
from mclr.models.drawing import Unchecked, draw_images, draw_samples
from mclr.models.families import make_family
from mclr.models.family import load_network
from mclr.planning.specs import NegativesSpec, SampleSpec
from mclr.provenance import other_packages
from mclr.training import processes
from mclr.training.share import WHOLE, Share

# Image seeds of three purposes never meet: torch's CPU generator tells 32-bit seeds apart.
NEGATIVES_SEED = 2**30
GRID_SEED = 2**31


def shard_batches(spec: SampleSpec, shard: int) -> list[list[int]]:
    """Seeds of the batches of one shard.

    A shard takes whole batches, so that every image is computed in the same batch, and to the
    same bits, however many shards there are.
    """
    n, size = spec.n_samples, spec.batch
    batches = [list(range(i, min(i + size, n))) for i in range(0, n, size)]
    begin, end = (len(batches) * s // spec.shards for s in (shard, shard + 1))
    return [[spec.seed * n + i for i in batch] for batch in batches[begin:end]]


@torch.no_grad()
def sample(
    spec: SampleSpec,
    shard: int,
    manifest_file: Path,
    weights: Path,
    tokenizer: Path | None,
    feature_nets: dict[str, Path],
    features: Path,
    grid: Path,
    *,
    base: Path | None = None,
    selection: Path | None = None,
    device: torch.device = CPU,
    share: Share = WHOLE,
) -> None:
    """Sample one shard of a point: features of every image, and a small grid of images.

    Of several processes each samples whole batches, and the first writes the files.
    The grid has one row per noise seed and one column per class shown; all classes of a row start
    from the same noise, the same for every method and step. Images that are not finite are a
    UserError that names weights and seeds.

    Args:
        base: checkpoint of the base model, for points that it guides or is mixed with; or of the
            network of the model's own that guides, ``spec.guide_network``.
        selection: the selected point, whose guidance is taken where ``spec`` has none, and whose
            dial where the network has one.
        share: whether networks are to be compiled.

    Raises:
        UserError: labels are to be uniform, and the classes of the data differ too much.
    """
    manifest = load_manifest(manifest_file)
    check_scheme(spec.labels, manifest)
    sampler = _sampler(spec, manifest, weights, tokenizer, base, selection, device, share)
    nets = {n: load_feature_net(path, manifest).to(device) for n, path in feature_nets.items()}
    batches = processes.own_part(shard_batches(spec, shard))
    progress = Progress(str(features.parent), len(batches), spec.batch)

    def tables() -> Iterator[pa.Table]:
        # To read a batch's features is to wait for them: a GPU is given the next batch before.
        waiting: list[tuple[NetFeatures, Unchecked, Tensor]] = []
        for done, seeds in enumerate(batches):
            labels = block_labels(seeds, spec.labels, manifest, spec.n_samples)
            images = sampler(seeds, labels)
            waiting.append((net_features(nets, images.x), images, labels))
            if len(waiting) > 1:
                yield _table(weights, *waiting.pop(0))
            progress.update(done + 1)
        for last in waiting:
            yield _table(weights, *last)

    write_together(features, with_packages(tables(), other_packages()))
    if not processes.is_first():
        return
    rows, shown = spec.grid_rows, shown_classes(spec, manifest)
    first = GRID_SEED + shard * rows
    seeds = [first + row for row in range(rows) for _ in shown]
    images = sampler(seeds, torch.tensor(shown).repeat(rows)).checked(weights)
    write_grid(grid, images, manifest, len(shown))


def _table(weights: Path, found: NetFeatures, images: Unchecked, labels: Tensor) -> pa.Table:
    """Features of images that turn out to be finite."""
    images.checked(weights)
    return feature_table(found, list(images.seeds), labels)


def _sampler(
    spec: SampleSpec,
    manifest: Manifest,
    weights: Path,
    tokenizer: Path | None,
    base: Path | None,
    selection: Path | None,
    device: torch.device,
    share: Share,
) -> Callable[[list[int], Tensor], Unchecked]:
    """Seeds and labels to images, in the way of a point."""
    family = make_family(spec, manifest, tokenizer, device)
    network = load_network(family, weights)
    guides = family
    if spec.guide_network:
        guides = make_family(spec.with_(network=spec.guide_network), manifest, tokenizer, device)
    guide = load_network(guides, base) if base else None
    if guide and spec.dial != 1:
        interpolate_(network, guide, spec.dial)
    net = family.frozen(network)
    if getattr(spec.network, "dial", False):
        net = turned(net, _value(spec, selection))
    share.prepare(net)
    weak = guides.frozen(guide) if guide and spec.guide != "null" else None
    if weak:
        share.prepare(weak)
    scale = _scale(spec, selection)

    return partial(draw_images, family, net, guidance=scale, guide=weak, interval=spec.interval)


def _scale(spec: SampleSpec, selection: Path | None) -> float:
    """The guidance of a point: its own, or the selected one."""
    if spec.guidance is not None:
        return spec.guidance
    if selection is None:
        raise UserError("this point takes the selected guidance: give --selection")
    return float(read_json(selection)["guidance"])


def _value(spec: SampleSpec, selection: Path | None) -> float:
    """Where the dial of a point's network stands: its own value, or the selected one."""
    if spec.beta is not None:
        return spec.beta
    if selection is None:
        raise UserError("this point takes the selected value of the dial: give --selection")
    return float(read_json(selection, "hyperparameters")["hyperparameters"]["dial"])


@torch.no_grad()
def interpolate_(network: nn.Module, base: nn.Module, t: float) -> None:
    """Set the weights of ``network`` to base + t (network − base): t = 0 is the base."""
    origins = base.state_dict()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.lerp(origins[name], value, t))


def shown_classes(spec: SampleSpec, manifest: Manifest) -> list[int]:
    """The labels of a grid's columns: those that are asked for, or all.

    Raises:
        UserError: a label that the data do not have.
    """
    shown = spec.grid_classes or list(range(manifest.num_classes))
    if max(shown) >= manifest.num_classes:
        raise UserError(
            f"evaluation.grid_classes: {max(shown)} is no class of the data, which has "
            f"{manifest.num_classes}; labels begin with 0"
        )
    return shown


def write_grid(path: Path, images: Tensor, manifest: Manifest, columns: int) -> None:
    """Images (rows·columns, C, H, W) as one PNG, a column per class shown."""
    C, H, W = manifest.shape
    cells = images.cpu().view(-1, columns, C, H, W).permute(0, 3, 1, 4, 2)
    array = cells.reshape(-1, columns * W, C).numpy()
    with atomic(path) as temporary:
        Image.fromarray(array[:, :, 0] if C == 1 else array).save(temporary, "PNG")


@torch.no_grad()
def sample_negatives(
    spec: NegativesSpec,
    manifest_file: Path,
    weights: Path,
    tokenizer: Path | None,
    output: Path,
    device: torch.device = CPU,
    share: Share = WHOLE,
) -> None:
    """Samples of the frozen base model with balanced labels, as the network models them."""
    manifest = load_manifest(manifest_file)
    family = make_family(spec, manifest, tokenizer, device)
    net = family.frozen(load_network(family, weights))
    share.prepare(net)
    n, size = spec.n_negatives, spec.batch
    labels = labels_of(list(range(n)), "balanced", manifest.num_classes)
    batches = processes.own_part(range(0, n, size))
    progress, parts = Progress(output.stem, len(batches), size), []
    for done, i in enumerate(batches):
        seeds = list(range(NEGATIVES_SEED + i, NEGATIVES_SEED + min(i + size, n)))
        drawn = draw_samples(family, net, seeds, labels[i : i + size], 0.0)
        parts.append(drawn.checked(weights).cpu())
        progress.update(done + 1)
    x = join_rows(output, parts)
    if processes.is_first():
        about = {"seed": str(NEGATIVES_SEED)}
        save_tensors(output, {"x": x, "labels": labels}, about, noted=True)
