"""Multiply-adds of each job of a tier: what its networks do, how often."""

from __future__ import annotations

from typing import Any

from mclr.config.features import ClassifierFeatures
from mclr.config.models import Edm2Model
from mclr.cost.dag import Job
from mclr.cost.hardware import Work
from mclr.cost.images import Images
from mclr.cost.networks import Network, dimensions, feature_macs
from mclr.cost.passes import BACKWARD, BASE, objective_passes
from mclr.plan import Plan
from mclr.points import Point, evaluations

TRAINING_FEATURES = 5_000  # mclr.jobs.feature_net: training images whose features are written
STATISTICS_IMAGES = 10_000  # mclr.jobs.tokenizer: images for the deviation of latents
EIGENVALUES = 25
"""Multiply-adds of the eigenvalues of a d × d matrix, in d³ (Golub & Van Loan, section 7.5)."""


class Workload:
    """What every job of a plan computes; networks that are not part of it are left out."""

    def __init__(self, plan: Plan, images: Images) -> None:
        self.plan, self.images, tier = plan, images, plan.tier
        self.networks = {name: Network(model, images) for name, model in tier.models.items()}

    def of(self, job: Job) -> Work:
        """The work of one job; none for those that just move or draw data."""
        match job.rule:
            case "feature_net":
                return self._feature_net(job.subject)
            case "tokenizer":
                return self._tokenizer(job.subject)
            case "encode":
                return self._code(job.subject, self._encode(job.subject) * self.images.n_train)
            case "base":
                base = self.plan.tier.models[job.subject].base
                return self._train(job.subject, base.steps * base.batch * BASE.evaluations)
            case "negatives":
                made = int(self.plan.negatives_spec(job.subject)["n_negatives"])
                return self._generate(job.subject, made, guided=False)
            case "finetune" | "finetune_final":
                return self._finetune(job.subject)
            case "sample":
                return self._sample(job)
            case "evaluate":
                points = self.plan.evaluations[job.subject]
                counts = [self.plan.tier.evaluation.n_samples] * len(points)
                return self._measure(points[0].run.model, counts)
            case "floors":
                n = self.plan.tier.evaluation.n_samples
                known = min(TRAINING_FEATURES, self.images.n_train)
                return self._measure(job.subject, [k for k in (n // 2, n, 2 * n) if k <= known])
            case "separation":
                return self._separation(job.subject)
        return Work()

    # Networks.

    def _pass(self, model: str, macs: float) -> Work:
        """Passes of the model itself, in its own precision."""
        return Work(half=macs) if self.networks[model].half else Work(single=macs)

    def _code(self, model: str, macs: float) -> Work:
        """Passes of the encoder or decoder; the VQ-VAE's are in float32."""
        is_latent = isinstance(self.plan.tier.models[model], Edm2Model)
        return self._pass(model, macs) if is_latent else Work(single=macs)

    def _encode(self, model: str) -> int:
        return self.networks[model].encoder.encode

    def _train(self, model: str, passes: float) -> Work:
        return self._pass(model, self.networks[model].evaluation * passes)

    def _finetune(self, run_id: str) -> Work:
        """Up to the last checkpoint; a final run, to the step that is selected, at most so far."""
        run = self.plan.runs[run_id]
        if run.settings is None:
            return Work()
        steps, passes = run.settings.checkpoints[-1], objective_passes(run.settings.objective)
        return self._train(run.model, steps * run.settings.batch * passes.evaluations)

    def _generate(self, model: str, count: float, guided: bool, interval: Any = None) -> Work:
        network = self.networks[model]
        if isinstance(network.model, Edm2Model):
            macs = network.evaluation * evaluations(network.model, guided, interval)
        else:
            macs = network.generation * (2 if guided else 1)
        return self._pass(model, macs * count)

    def _features(self, model: str | None, net: str | None = None) -> int:
        """Of one image at the model's resolution, by one or by all feature nets."""
        tier = self.plan.tier
        resolution = tier.models[model].resolution if model else None
        manifest = self.images.manifest(resolution)
        nets = [tier.features[net]] if net else list(tier.features.values())
        shape = manifest.channels, manifest.resolution, manifest.num_classes
        return sum(feature_macs(settings, *shape) for settings in nets)

    # Jobs.

    def _tokenizer(self, model: str) -> Work:
        network, settings = self.networks[model], self.plan.tier.models[model]
        coder = network.encoder
        if isinstance(settings, Edm2Model):
            assert settings.autoencoder is not None
            training = settings.autoencoder.training
            extra = coder.encode * min(STATISTICS_IMAGES, self.images.n_train)
        else:
            training, extra = settings.tokenizer.training, 0  # type: ignore[assignment]
        passes = training.steps * training.batch * (1 + BACKWARD)
        return self._code(model, (coder.encode + coder.decode) * passes + extra)

    def _feature_net(self, folder: str) -> Work:
        """Trained, or a probe of it, on a processor; then features of real images."""
        name, resolution = self.plan.nets[folder]
        settings, manifest = self.plan.tier.features[name], self.images.manifest(resolution)
        macs = feature_macs(settings, manifest.channels, manifest.resolution, manifest.num_classes)
        n, held_out = self.images.n_train, self.images.n_reference
        seen = min(TRAINING_FEATURES, n) + 2 * held_out  # features and accuracy
        if isinstance(settings, ClassifierFeatures):
            seen += settings.steps * settings.batch * (1 + BACKWARD) + n
        else:
            seen += 2 * min(settings.probe_images, n)
        return Work(cpu=macs * seen)

    def _sample(self, job: Job) -> Work:
        point = job.point
        assert point is not None
        evaluation, model = self.plan.tier.evaluation, point.run.model
        n = shard_images(evaluation.n_samples, evaluation.batch, evaluation.shards, job.shard)
        grid = evaluation.grid_rows * self.images.source.classes
        made = self._images(model, n + grid, point)
        return made + Work(single=self._features(model) * n)

    def _images(self, model: str, count: float, point: Point) -> Work:
        guided = point.guidance != 0
        decoded = self._code(model, self.networks[model].encoder.decode * count)
        return self._generate(model, count, guided, point.interval) + decoded

    def _measure(self, model: str, counts: list[int]) -> Work:
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
        made = self._generate(model, n * (1 + tuned), False) + self._generate(model, 2 * n, True)
        draws = study.draws if isinstance(network.model, Edm2Model) else 1
        labels = 1 + min(study.others, self.images.source.classes - 1)
        likelihoods = sets * n * draws * labels * network.evaluation
        coded = n * (sets * network.encoder.encode + (sets - 1) * network.encoder.decode)
        return Work(cpu=made.macs + likelihoods + coded)


def shard_images(n: int, batch: int, shards: int, shard: int) -> int:
    """Images of one shard: whole batches, of which the last may be smaller."""
    batches = -(-n // batch)
    begin, end = (batches * s // shards for s in (shard, shard + 1))
    return min(end * batch, n) - begin * batch
