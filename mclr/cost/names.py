"""Which job makes what another one needs: names as ``rule:subject``."""

from __future__ import annotations

from mclr.config.features import PublishedFeatures
from mclr.config.models import released_files
from mclr.data.released import FOLDER, released_paths
from mclr.planning.plan import Plan
from mclr.planning.points import Point, Run, net_folder


def is_own(plan: Plan) -> bool:
    """Whether the images are the user's own, which are indexed and not fetched."""
    return plan.tier.data.source == "images"


def own_side(plan: Plan) -> int | None:
    """Side of the data, where the configuration says it."""
    return getattr(plan.tier.data, "resolution", None)


def needs_negatives(run: Run) -> bool:
    """Whether a run contrasts with samples of what it starts from."""
    return run.settings is not None and run.settings.objective.needs.negatives > 0


def data_at(plan: Plan, resolution: int | None) -> str:
    """The job that prepares the data at a resolution (None: the data's own)."""
    rule = "prepare_images" if is_own(plan) else "prepare"
    return f"{rule}_smaller:{resolution}" if resolution else rule


def data_of(plan: Plan, model: str) -> str:
    """The job that prepares the data of a model."""
    return data_at(plan, plan.tier.models[model].resolution)


def nets_of(plan: Plan, model: str) -> list[str]:
    """The jobs of all feature nets at a model's resolution."""
    resolution = plan.tier.models[model].resolution
    return [net_job(plan, net_folder(net, resolution)) for net in plan.tier.features]


def net_job(plan: Plan, folder: str) -> str:
    """The job that trains a feature net, or takes it over."""
    settings = plan.tier.features[plan.nets[folder][0]]
    rule = "published_net" if isinstance(settings, PublishedFeatures) else "feature_net"
    return f"{rule}:{folder}"


def net_releases(plan: Plan, folder: str) -> list[str]:
    """Weights of a published feature net, and statistics for the images that it sees."""
    name, resolution = plan.nets[folder]
    settings = plan.tier.features[name]
    if not isinstance(settings, PublishedFeatures):
        return []
    statistics = settings.statistics.get(resolution or own_side(plan) or 0)
    return [settings.released, *([statistics] if statistics else [])]


def fetched(released: str) -> list[str]:
    """The jobs that fetch a release: one for each file that is not the user's own copy."""
    paths = [path for path in released_paths(released) if path.is_relative_to(FOLDER)]
    return [f"fetch_released:{path.relative_to(FOLDER)}" for path in paths]


def made_by(plan: Plan, role: str, model: str) -> str:
    """The job that trains a model's base, guide or tokenizer, or takes it over."""
    is_released = role in released_files(plan.tier.models[model])
    return f"import_{role}:{model}" if is_released else f"{role}:{model}"


def has_encoder(plan: Plan, model: str) -> bool:
    """Whether a model works on tokens or latents instead of pixels."""
    settings = plan.tier.models[model]
    return any(getattr(settings, name, None) for name in ("tokenizer", "autoencoder"))


def coder_of(plan: Plan, model: str) -> list[str]:
    """The job that makes a model's tokenizer or autoencoder, if it has one."""
    return [made_by(plan, "tokenizer", model)] if has_encoder(plan, model) else []


def encoded_of(plan: Plan, model: str) -> list[str]:
    """The job that encodes what a model trains on, or decodes one's own images to pixels."""
    if has_encoder(plan, model):
        return [f"encode:{model}"]
    side = plan.tier.models[model].resolution or own_side(plan)
    return [f"encode_pixels:{side}"] if is_own(plan) else []


def start_of(plan: Plan, start: str) -> str:
    """The job that makes the weights which runs start from."""
    is_base = start in plan.tier.models
    return made_by(plan, "base", start) if is_base else f"best:{start}"


def trained_by(plan: Plan, run: Run) -> str:
    """The job that makes the checkpoints of a run."""
    if run.is_base:
        return made_by(plan, "base", run.model)
    return f"finetune_final:{run.run_id}" if run.is_final else f"finetune:{run.run_id}"


def weights_of(plan: Plan, point: Point) -> str:
    """The job that makes the weights of a point."""
    if point.step is None and not point.run.is_final:
        return f"best:{point.run.experiment}"
    return trained_by(plan, point.run)
