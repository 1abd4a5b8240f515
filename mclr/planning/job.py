"""A job, and what several kinds of job read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mclr.data.releases import FOLDER, released_paths
from mclr.errors import UserError
from mclr.planning.files import net_folder
from mclr.planning.plan import Plan
from mclr.planning.points import Point, Run
from mclr.settings.features import PublishedFeatures
from mclr.settings.section import Section

Named = dict[str, str | list[str]]
"""Files by what they are called in a rule."""

NET_FILES = {
    "net": "net.safetensors",
    "reference": "reference.parquet",
    "train_features": "train.parquet",
    "info": "info.json",
}


@dataclass(frozen=True)
class Job:
    """A job: its rule, what of the tier it is for, the files that it reads and makes.

    kind: of its results, an entry of ``workflow/versions.yaml``. point, shard: of a sampling job.
    """

    rule: str
    subject: str
    kind: str
    inputs: Named
    outputs: Named
    specify: Callable[[], Section] | None = None
    point: Point | None = None
    shard: int = 0

    @property
    def name(self) -> str:
        return f"{self.rule}:{self.subject}" if self.subject else self.rule

    @property
    def spec(self) -> Section:
        """What the job is told."""
        if self.specify is None:
            raise ValueError(f"{self.name} has no specification")
        return self.specify()


def flat(named: Named) -> Iterator[str]:
    """The files alone."""
    for value in named.values():
        yield from [value] if isinstance(value, str) else value


@dataclass(frozen=True)
class Views:
    """Names of the files that are drawn of a tier's results (``mclr.report.names``)."""

    tables: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    similarity: list[str] = field(default_factory=list)


class Reads:
    """Files of a plan that several kinds of job read."""

    def __init__(self, plan: Plan, views: Views | None = None) -> None:
        self.plan, self.tier, self.files = plan, plan.tier, plan.files
        self.views = views or Views()
        self.points = {p.path: p for points in plan.evaluations.values() for p in points}
        self.shards = range(self.tier.evaluation.shards)
        self.is_own = self.tier.data.source == "images"
        self.side: int | None = getattr(self.tier.data, "resolution", None)

    def released(self, model: str, role: str) -> list[str]:
        """The published files of a model's base, guide or tokenizer; none if it is trained here."""
        found = self.tier.models[model].releases.get(role)
        return release(found.released) if found else []

    def require_released(self) -> None:
        """UserError if somebody's weights cannot be read, or a copy of them is not there."""
        given = {
            f"models.{name}.{role}": (name, part.released)
            for name, model in self.tier.models.items()
            for role, part in model.releases.items()
        }
        tuned = self.tier.released.items()
        given |= {f"runs.{name}": (run.model, run.released) for name, run in tuned}
        for key, (model, name) in given.items():
            for path in map(Path, release(name)):
                is_fetched = FOLDER in path.parents
                if not is_fetched and not path.exists():
                    raise UserError(
                        f"{key}.released: {path}: no such file; give the path of your copy, "
                        "or a name of data/versions.csv"
                    )
                is_other = path.suffix not in (".json", ".safetensors")
                if is_fetched and is_other and self.tier.models[model].family == "diffusers":
                    raise UserError(
                        f"{key}.released: {name}: {path.name} is not in diffusers' layout, and "
                        "models of family diffusers are read in no other; give a folder that is"
                    )

    def nets_of(self, model: str) -> dict[str, str]:
        """Folder name of each feature net at a model's resolution."""
        resolution = self.tier.models[model].resolution
        return {net: net_folder(net, resolution) for net in self.tier.features}

    def net_files(self, model: str, name: str) -> list[str]:
        """A file of each feature net at a model's resolution, by its name in ``NET_FILES``."""
        return [*self._net_files[model, name]]

    @cached_property
    def _net_files(self) -> dict[tuple[str, str], list[str]]:
        """Of every model and name, once for the thousands of jobs that read them."""
        return {
            (model, name): [self.files.net(folder, file) for folder in self.nets_of(model).values()]
            for model in self.tier.models
            for name, file in NET_FILES.items()
        }

    def statistics_of(self, folder: str) -> str | None:
        """Published statistics for the images that a feature net sees, if there are some."""
        name, resolution = self.plan.nets[folder]
        settings, side = self.tier.features[name], resolution or self.side
        if not isinstance(settings, PublishedFeatures) or side is None:
            return None
        return settings.statistics.get(side)

    def roles(self, model: str) -> list[str]:
        """Which networks a model has: its base, and a guide of its own if it names one."""
        return ["base", "guide"] if self.tier.models[model].guide else ["base"]

    def needs_negatives(self, run: Run) -> bool:
        """Whether a run contrasts with samples of the model that it starts from."""
        return run.settings is not None and run.settings.objective.needs.negatives > 0

    def pixels_side(self, model: str) -> int | None:
        """The side of one's own images that a model of pixels learns from."""
        if not self.is_own or self.tier.models[model].has_coder:
            return None
        return self.tier.models[model].resolution or self.side

    def _kind(self, command: str, model: str) -> str:
        return f"{command}.{self.tier.models[model].family}"

    def _data(self, model: str) -> Named:
        return {**self.files.prepared(self.tier.models[model].resolution)}

    def manifest_of(self, model: str) -> str:
        """What is known of a model's prepared images."""
        return self.files.prepared(self.tier.models[model].resolution)["manifest"]

    def tokenizer_of(self, model: str) -> list[str]:
        """The file of a model's tokenizer or autoencoder, if it has one."""
        return [self.files.tokenizer(model)] if self.tier.models[model].has_coder else []

    def _training_data(self, model: str) -> Named:
        """Images, tokenizer, and what the training images are encoded as, where they are."""
        side, encoded = self.pixels_side(model), []
        if self.tier.models[model].has_coder:
            encoded = [self.files.encoded(model)]
        elif side is not None:
            encoded = [self.files.pixels(side)]
        return {**self._data(model), "tokenizer": self.tokenizer_of(model), "encoded": encoded}

    def _selection(self, run: Run) -> list[str]:
        return [self.files.selection(run.experiment)]

    def _features(self, points: Iterable[Point]) -> list[str]:
        return [self.files.features(point.path, shard) for point in points for shard in self.shards]


def release(name: str) -> list[str]:
    """Where the files of a release lie, see ``mclr.data.releases``.

    Raises:
        UserError: as there, or a name that Snakemake would not take as it is.
    """
    paths = [str(path) for path in released_paths(name)]
    for path in paths:
        if set(path) & set("{}<>"):
            raise UserError(
                f"released: {path}: Snakemake reads braces and < > in names of files as something "
                "else; rename the file, or make a link to it with a plain name"
            )
    return paths
