"""Multiply-adds of each job of a tier: what its networks do, how often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mclr.cost.hardware import Work
from mclr.cost.images import Images
from mclr.cost.passes import BACKWARD, BASE, objective_passes
from mclr.metrics.cost import dimensions, feature_macs
from mclr.models.config import Model
from mclr.models.costs import cost_of
from mclr.planning.job import Job
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan
from mclr.planning.points import Point, Run
from mclr.report.names import views_of
from mclr.settings.features import (
    ClassifierFeatures,
    EfficientNetFeatures,
    FeatureNet,
    PublishedFeatures,
)
from mclr.settings.origin import Released

TRAINING_FEATURES = 5_000  # mclr.jobs.feature_net: training images whose features are written
STATISTICS_IMAGES = 10_000  # mclr.jobs.tokenizer: images for the deviation of latents
EIGENVALUES = 25
"""Multiply-adds of the eigenvalues of a d × d matrix, in d³ (Golub & Van Loan, section 7.5)."""

Sampling = tuple[bool, Any, str]
"""Whether it is guided, at which noise levels, by what: points alike in these cost the same."""


class Workload:
    """What the jobs of a plan compute, all of them or those behind some targets."""

    def __init__(self, plan: Plan, images: Images, targets: Sequence[str] = ()) -> None:
        self.plan, self.images, models = plan, images, plan.tier.models
        shapes = {name: images.manifest(model.resolution) for name, model in models.items()}
        self.networks = {name: cost_of(model, shapes[name]) for name, model in models.items()}
        self.guides = {
            name: cost_of(model, shapes[name], is_guide=True)
            for name, model in models.items()
            if model.guide
        }
        self.dag = Jobs(plan, views_of(plan.tier))
        self.jobs = self.dag.behind(targets)
        self.names = {job.name for job in self.jobs}
        self._shards: dict[tuple[str, int, Sampling], Work] = {}

    @property
    def points(self) -> dict[str, Point]:
        """Every point that is sampled, by its path."""
        return {job.point.path: job.point for job in self.jobs if job.point}

    @property
    def runs(self) -> list[Run]:
        """Every run that is trained or taken over."""
        runs = self.plan.runs.values()
        return [run for run in runs if self.dag.maker_of(run).name in self.names]

    def subjects(self, rule: str) -> list[str]:
        """What a rule has jobs for."""
        return [job.subject for job in self.jobs if job.rule == rule]

    def model_trained(self, subject: str) -> str:
        """The model of a job that trains a base or a guide: a base of final rows is a run's."""
        return subject if subject in self.networks else self.plan.runs[subject].model

    def training_features(self, net: FeatureNet) -> int:
        """Training images whose features by a net are written."""
        is_published = isinstance(net, PublishedFeatures)
        most = self.plan.tier.evaluation.n_samples if is_published else TRAINING_FEATURES
        return min(most, self.images.n_train)

    def of(self, job: Job) -> Work:
        """The work of one job; none for those that just move or draw data."""
        match job.rule:
            case "feature_net" | "published_net":
                return self._feature_net(job.subject)
            case "tokenizer":
                return self._tokenizer(job.subject)
            case "encode":
                macs = self.networks[job.subject].coder.encode
                return self._code(job.subject, macs * self.images.n_train)
            case "base" | "guide":
                return self._base(job)
            case "negatives":
                made = self.plan.negatives_spec(job.subject).n_negatives
                return self._generate(self.plan.model_of(job.subject), made)
            case "finetune" | "finetune_final":
                return self._finetune(job.subject)
            case "sample":
                return self._sample(job)
            case "evaluate":
                points = self.plan.evaluations[job.subject]
                counts = [self.plan.tier.evaluation.n_samples] * len(points)
                return self._measure(counts)
            case "floors":
                return self._floors()
            case "separation":
                return self._separation(job.subject)
        return Work()

    # Networks.

    def _pass(self, model: str, macs: float) -> Work:
        """Passes of the model itself, in its own precision."""
        return Work(half=macs) if self.networks[model].half else Work(single=macs)

    def _code(self, model: str, macs: float) -> Work:
        """Passes of the encoder, or of both while they are trained."""
        return Work(half=macs) if self.networks[model].coder.half else Work(single=macs)

    def decoding(self, model: str, count: float) -> Work:
        """Images from tokens or latents."""
        macs = self.networks[model].coder.decode * count
        match self.plan.tier.models[model].decoding:
            case None | "float32":
                return self._code(model, macs)
            case "tf32":
                return Work(tf32=macs)
        return Work(half=macs)

    def _train(self, model: str, passes: float) -> Work:
        return self._pass(model, self.networks[model].evaluation * passes)

    def _base(self, job: Job) -> Work:
        """Training of a base model, or of the network that guides one."""
        model = self.model_trained(job.subject)
        settings = training_of(self.plan.tier.models[model], job.rule)
        networks = self.guides if job.rule == "guide" else self.networks
        passes = settings.steps * settings.batch * BASE.evaluations
        return self._pass(model, networks[model].evaluation * passes)

    def _finetune(self, run_id: str) -> Work:
        """Up to the last checkpoint; a final run, to the step that is selected, at most so far.

        Of a teacher that a network of its own guides, one evaluation of two is that network's.
        """
        run = self.plan.runs[run_id]
        if run.settings is None:
            return Work()
        rows = run.settings.checkpoints[-1] * run.settings.batch
        passes = objective_passes(run.settings.objective).evaluations
        if not self.plan.has_guided_teacher(run):
            return self._train(run.model, rows * passes)
        guide = self._pass(run.model, rows * self.guides[run.model].evaluation)
        return self._train(run.model, rows * (passes - 1)) + guide

    def _generate(
        self, model: str, count: float, guided: bool = False, interval: Any = None, guide: str = ""
    ) -> Work:
        """Images; ``guide`` net: what guides is a network of its own, else one of this size."""
        other = self.guides[model] if guide == "net" else None
        return self._pass(model, self.networks[model].sampling(guided, interval, other) * count)

    def _features(self, model: str) -> int:
        """Of one image at the model's resolution, by all feature nets."""
        tier = self.plan.tier
        manifest = self.images.manifest(tier.models[model].resolution)
        shape = manifest.channels, manifest.resolution, manifest.num_classes
        return sum(feature_macs(settings, *shape) for settings in tier.features.values())

    # Jobs.

    def _tokenizer(self, model: str) -> Work:
        coder, settings = self.networks[model].coder, self.plan.tier.models[model]
        training = training_of(settings, "tokenizer")
        passes = training.steps * training.batch * (1 + BACKWARD)
        seen = min(STATISTICS_IMAGES, self.images.n_train) if coder.statistics else 0
        return self._code(model, (coder.encode + coder.decode) * passes + coder.encode * seen)

    def _feature_net(self, folder: str) -> Work:
        """Trained, or a probe of it, on a processor; then features of real images.

        Those of a published net are taken on a GPU.
        """
        name, resolution = self.plan.nets[folder]
        settings, manifest = self.plan.tier.features[name], self.images.manifest(resolution)
        macs = feature_macs(settings, manifest.channels, manifest.resolution, manifest.num_classes)
        n, held_out = self.images.n_train, self.images.n_reference
        real = self.training_features(settings) + held_out
        if isinstance(settings, ClassifierFeatures):
            learned = settings.steps * settings.batch * (1 + BACKWARD) + n
        elif isinstance(settings, EfficientNetFeatures):
            learned = 2 * min(settings.probe_images, n)
        else:
            return Work(single=macs * real)
        return Work(cpu=macs * (real + held_out + learned))  # accuracy takes another pass

    def _sample(self, job: Job) -> Work:
        point = job.point
        assert point is not None
        evaluation, model = self.plan.tier.evaluation, point.run.model
        how = point.guidance != 0, point.interval, self.plan.guide(point)
        key = model, job.shard, how
        if key not in self._shards:
            sizes = evaluation.n_samples, evaluation.batch, evaluation.shards
            self._shards[key] = self._shard(model, shard_images(*sizes, job.shard), how)
        return self._shards[key]

    def _shard(self, model: str, n: int, how: Sampling) -> Work:
        """n images and those of the grid, sampled and decoded; features of the n."""
        shown = self.plan.tier.evaluation.shown(self.images.source.classes)
        count = n + self.plan.tier.evaluation.grid_rows * len(shown)
        made = self._generate(model, count, *how) + self.decoding(model, count)
        return made + Work(single=self._features(model) * n)

    def _floors(self) -> Work:
        n, nets = self.plan.tier.evaluation.n_samples, self.plan.tier.features.values()
        known = min(self.training_features(net) for net in nets)
        return self._measure([k for k in (n // 2, n, 2 * n) if k <= known])

    def _measure(self, counts: list[int]) -> Work:
        """Covariances, eigenvalues and distances of sets of images to the reference images."""
        m, total = self.images.n_reference, 0.0
        for settings in self.plan.tier.features.values():
            d = dimensions(settings)
            total += m * d**2 + m**2 * d
            total += sum(n * d**2 + EIGENVALUES * d**3 + n * m * d + n**2 * d for n in counts)
        return Work(cpu=total)

    def _separation(self, model: str) -> Work:
        """Real images and those of base, CFG at two scales and MCLR; on a processor."""
        study, network = self.plan.tier.separation, self.networks[model]
        assert study is not None
        tuned = bool(self.plan.tuned_by_mclr(model))
        n, sets = study.n_images, 4 + tuned
        made = self._generate(model, n * (1 + tuned)) + self._generate(model, 2 * n, True)
        draws = study.draws if network.model.noise else 1
        labels = 1 + min(study.others, self.images.source.classes - 1)
        likelihoods = sets * n * draws * labels * network.evaluation
        coded = n * (sets * network.coder.encode + (sets - 1) * network.coder.decode)
        return Work(cpu=made.macs + likelihoods + coded)


def training_of(model: Model, role: str) -> Any:
    """How a base, guide or tokenizer is trained."""
    guide = model.guide.base if model.guide else None
    found: Any = {"base": model.base, "guide": guide, "tokenizer": model.coder}[role]
    if found is None or isinstance(found, Released):
        raise ValueError(f"{model.label}: its {role} is not trained")
    return found


def shard_images(n: int, batch: int, shards: int, shard: int) -> int:
    """Images of one shard: whole batches, of which the last may be smaller."""
    batches = -(-n // batch)
    begin, end = (batches * s // shards for s in (shard, shard + 1))
    return min(end * batch, n) - begin * batch
