"""The jobs that prepare data and make networks: what each reads and makes."""

from __future__ import annotations

from functools import partial

from mclr.data.releases import FOLDER
from mclr.planning.job import NET_FILES, Job, Named, Reads, release
from mclr.planning.specs import PIXELS
from mclr.settings.features import PublishedFeatures


class ModelJobs(Reads):
    """From raw data to the checkpoints of every run."""

    # Data.

    def fetch(self) -> Job:
        return Job("fetch", "", "fetch", {}, {"raw": self.files.raw})

    def fetch_released(self, file: str) -> Job:
        return Job("fetch_released", file, "fetch-released", {}, {"file": str(FOLDER / file)})

    def prepare(self, resolution: int | str | None) -> Job:
        """The images of a tier; of one's own, an index of them."""
        rule = "prepare_images" if self.is_own else "prepare"
        inputs: Named = {} if self.is_own else {"raw": self.files.raw}
        if resolution and self.is_own:
            inputs = {**self.files.prepared(None)}
        return Job(
            f"{rule}_smaller" if resolution else rule,
            str(resolution or ""),
            rule.replace("_", "-"),
            inputs,
            {**self.files.prepared(resolution)},
        )

    def net(self, folder: str) -> Job:
        """What trains a feature net, or takes it over as published."""
        name, resolution = self.plan.nets[folder]
        settings = self.tier.features[name]
        inputs: Named = {**self.files.prepared(resolution)}
        outputs: Named = {key: self.files.net(folder, file) for key, file in NET_FILES.items()}
        if not isinstance(settings, PublishedFeatures):
            kind = f"feature-net.{settings.kind}"
            return Job("feature_net", folder, kind, inputs, outputs, lambda: settings)
        statistics = self.statistics_of(folder)
        inputs |= {
            "weights": release(settings.released),
            "statistics": release(statistics) if statistics else [],
        }
        kind = f"published-net.{settings.kind}"
        return Job("published_net", folder, kind, inputs, outputs, lambda: settings)

    # Models.

    def tokenizer(self, model: str) -> Job:
        """What trains a model's tokenizer or autoencoder, or takes it over."""
        outputs: Named = {"weights": self.files.tokenizer(model)}
        source = self.released(model, "tokenizer")
        if not source:
            kind, specify = self._kind("tokenizer", model), partial(self.plan.tokenizer_spec, model)
            return Job("tokenizer", model, kind, self._data(model), outputs, specify)
        inputs: Named = {"manifest": self.manifest_of(model), "source": source}
        kind = self._kind("import-tokenizer", model)
        taken = partial(self.plan.encode_spec, model)
        return Job("import_tokenizer", model, kind, inputs, outputs, taken)

    def encode(self, model: str) -> Job:
        """Training images as tokens or latents, once for all jobs that train on them."""
        return Job(
            "encode",
            model,
            self._kind("encode", model),
            self._data(model) | {"tokenizer": self.tokenizer_of(model)},
            {"encoded": self.files.encoded(model)},
            partial(self.plan.encode_spec, model),
        )

    def encode_pixels(self, side: int | str) -> Job:
        """One's own images, decoded once for every model of pixels of this resolution."""
        is_whole = int(side) == self.side
        inputs: Named = {**self.files.prepared(None if is_whole else side), "tokenizer": []}
        outputs: Named = {"encoded": self.files.pixels(side)}
        return Job("encode_pixels", str(side), "encode.pixels", inputs, outputs, lambda: PIXELS)

    def network(self, role: str, model: str) -> Job:
        """What trains a model's ``base`` or ``guide``, or takes it over."""
        run_id, is_base = f"{model}-{role}", role == "base"
        checkpoint = self.plan.start_checkpoint if is_base else self.plan.guide_checkpoint
        outputs = self._trained(run_id) | {"checkpoint": checkpoint(model)}
        specify = partial(self.plan.base_spec if is_base else self.plan.guide_spec, model)
        source = self.released(model, role)
        if not source:
            inputs, kind = self._training_data(model), self._kind("base", model)
            return Job(role, model, kind, inputs, outputs, specify)
        taken: Named = {
            "manifest": self.manifest_of(model),
            "source": source,
            "tokenizer": self.tokenizer_of(model),
        }
        kind = self._kind("import-base", model)
        return Job(f"import_{role}", model, kind, taken, outputs, specify)

    def final_base(self, run_id: str) -> Job:
        """What trains a base of final rows, with its own seed."""
        run = self.plan.runs[run_id]
        outputs = self._trained(run_id) | {"checkpoint": self.plan.start_checkpoint(run_id)}
        inputs, kind = self._training_data(run.model), self._kind("base", run.model)
        return Job(
            "base", run_id, kind, inputs, outputs, partial(self.plan.final_base_spec, run_id)
        )

    def take_over(self, run_id: str) -> Job:
        """What takes over a network that others fine-tuned."""
        run = self.plan.runs[run_id]
        if run.taken is None:
            raise ValueError(f"{run_id} is trained here")
        inputs: Named = {
            "manifest": self.manifest_of(run.model),
            "source": release(run.taken.released),
            "tokenizer": self.tokenizer_of(run.model),
        }
        outputs = self._trained(run_id) | {"checkpoint": self.files.checkpoint(run_id, 0)}
        kind, specify = self._kind("import-base", run.model), partial(self.plan.taken_spec, run_id)
        return Job("import_tuned", run_id, kind, inputs, outputs, specify)

    def negatives(self, start: str) -> Job:
        """Samples of what runs start from."""
        model = self.plan.model_of(start)
        inputs: Named = {
            "manifest": self.manifest_of(model),
            "base": self.plan.start_checkpoint(start),
            "tokenizer": self.tokenizer_of(model),
        }
        return Job(
            "negatives",
            start,
            f"{self._kind('finetune', model)}.ddo",
            inputs,
            {"samples": self.files.negatives(start)},
            partial(self.plan.negatives_spec, start),
        )

    def finetune(self, run_id: str) -> Job:
        """A fine-tuning run; a final one waits for the selection of its experiment."""
        run = self.plan.runs[run_id]
        if run.settings is None:
            raise ValueError(f"{run_id} is a base model's")
        inputs: Named = {
            **self._training_data(run.model),
            "base": self.plan.start_checkpoint(run.start),
            "negatives": [self.files.negatives(run.start)] if self.needs_negatives(run) else [],
            "guide": [self.plan.guide_checkpoint(run.model)]
            if self.plan.has_guided_teacher(run)
            else [],
        }
        if run.is_final:
            inputs |= {"selection": self.files.selection(run.experiment)}
            weights: Named = {"checkpoint": self.files.final(run_id)}
        else:
            weights = {"checkpoints": [self.files.checkpoint(run_id, *w) for w in run.weights]}
        return Job(
            "finetune_final" if run.is_final else "finetune",
            run_id,
            f"{self._kind('finetune', run.model)}.{run.settings.objective.name}",
            inputs,
            weights | self._trained(run_id),
            partial(self.plan.finetune_spec, run_id),
        )

    def _trained(self, run_id: str) -> Named:
        """What a run writes beside its weights."""
        files = {"config": "config.yaml", "provenance": "provenance.json"}
        return {name: self.files.run(run_id, file) for name, file in files.items()}
