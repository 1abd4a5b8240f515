"""The jobs that sample and measure, and the views of what was measured."""

from __future__ import annotations

from functools import partial

from mclr.planning.job import Job, Named, Reads, flat
from mclr.planning.points import GRID


class ResultJobs(Reads):
    """From checkpoints to tables, figures and the report."""

    # Samples and metrics.

    def sample(self, path: str, shard: int | str) -> Job:
        """One shard of a point."""
        point = self.points[path]
        model, guide = point.run.model, self.plan.guide(point)
        guides = {"net": self.plan.guide_checkpoint, "base": self.plan.start_checkpoint}
        role = "base" if guide != "net" and point.needs_base else guide
        inputs: Named = {
            "manifest": self.manifest_of(model),
            "weights": self.plan.weights(point),
            "tokenizer": self.tokenizer_of(model),
            "guide": [guides[role](model)] if role in guides else [],
            "selection": self._selection(point.run) if point.is_selected else [],
            "nets": self.net_files(model, "net"),
        }
        return Job(
            "sample",
            f"{path}:{int(shard)}",
            self._kind("sample", model),
            inputs,
            {"features": self.files.features(path, shard), "grid": self.files.grid(path, shard)},
            partial(self.plan.sample_spec, point),
            point,
            int(shard),
        )

    def evaluate(self, evaluation: str) -> Job:
        """The metrics of every point of an evaluation."""
        points = self.plan.evaluations[evaluation]
        run = points[0].run
        inputs: Named = {
            "manifest": self.manifest_of(run.model),
            "nets": self.net_files(run.model, "net"),
            "reference": self.net_files(run.model, "reference"),
            "selection": self._selection(run) if points[0].stage != GRID else [],
            "features": self._features(points),
        }
        outputs: Named = {"evaluation": self.files.evaluation(evaluation)}
        specify = partial(self.plan.evaluate_spec, evaluation)
        return Job("evaluate", evaluation, "evaluate", inputs, outputs, specify)

    def floors(self, model: str) -> Job:
        """What the metrics give for real images."""
        inputs: Named = {
            "manifest": self.manifest_of(model),
            "nets": self.net_files(model, "net"),
            "reference": self.net_files(model, "reference"),
            "train": self.net_files(model, "train_features"),
        }
        outputs: Named = {"evaluation": self.files.floors(model)}
        return Job(
            "floors", model, "floors", inputs, outputs, partial(self.plan.floors_spec, model)
        )

    def select(self, experiment: str) -> Job:
        """The point of lowest FD of an experiment's grid."""
        inputs: Named = {"evaluation": self.files.evaluation(experiment)}
        outputs: Named = {"selection": self.files.selection(experiment)}
        return Job("select", experiment, "select", inputs, outputs)

    def best(self, experiment: str) -> Job:
        """The checkpoint of that point."""
        runs = self.plan.of(experiment)
        steps = [self.files.checkpoint(run.run_id, *w) for run in runs for w in run.weights]
        inputs: Named = {
            "evaluation": self.files.evaluation(experiment),
            "checkpoints": steps,
        }
        outputs: Named = {"weights": self.files.best(experiment)}
        return Job("best", experiment, "best", inputs, outputs)

    def metrics(self) -> Job:
        """One table of all that was measured."""
        inputs: Named = {
            "evaluations": [self.files.evaluation(name) for name in self.plan.evaluations],
            "floors": [self.files.floors(model) for model in self.tier.models],
            "provenance": [self.files.run(run, "provenance.json") for run in self.plan.runs],
        }
        outputs = self._results(metrics="metrics.parquet", protocols="protocols.json")
        return Job("metrics", "", "metrics", inputs, outputs)

    def separation(self, model: str) -> Job:
        """How the base model tells the classes of real and of generated images apart."""
        tuned = self.plan.tuned_by_mclr(model)[:1]
        inputs = self._data(model) | {
            "metrics": self.files.result("metrics.parquet"),
            "base": self.plan.start_checkpoint(model),
            "tuned": [self.files.best(experiment) for experiment in tuned],
            "tokenizer": self.tokenizer_of(model),
        }
        outputs: Named = {"separation": self.files.separation(model)}
        specify = partial(self.plan.separation_spec, model)
        return Job("separation", model, self._kind("separation", model), inputs, outputs, specify)

    def similarity(self) -> Job:
        """What MCLR and CFG do to the same images."""
        tuned = [e for model in self.tier.models for e in self.plan.tuned_by_mclr(model)]
        compared = [*(f"{model}-base" for model in self.tier.models), *tuned]
        points = [point for experiment in compared for point in self.plan.points(experiment)]
        outputs = self._results(data="similarity.json") | {"figures": self.views.similarity}
        inputs = self._measured() | {"features": self._features(points)}
        return Job("similarity", "", "similarity", inputs, outputs)

    # Views.

    def effective_config(self) -> Job:
        outputs = self._results(config="config.yaml")
        return Job("effective_config", "", "effective-config", {}, outputs)

    def claims(self) -> Job:
        outputs = self._results(data="claims.json", page="claims.md", table="claims.csv")
        return Job("claims", "", "claims", self._measured(), outputs)

    def table1(self) -> Job:
        outputs = self._results(data="table1.json", points="points.csv", costs="equal_cost.csv")
        outputs |= {"table": self.views.tables}
        return Job("table1", "", "table", self._measured(), outputs)

    def figures(self) -> Job:
        inputs, outputs = self._measured() | self._shown(), self.views.figures
        return Job("figures", "", "figures", inputs, {"figures": outputs})

    def report(self) -> Job:
        """The page of a tier."""
        models = [*self.tier.models] if self.tier.separation else []
        inputs: Named = {
            **self._measured(),
            **self._results(protocols="protocols.json"),
            "figures": self.views.figures,
            "claims": [*flat(self.claims().outputs)],
            "similarity": [*flat(self.similarity().outputs)],
            "separation": [self.files.separation(model) for model in models],
            **self._shown(),
            "nets": [self.files.net(net, "info.json") for net in self.plan.nets],
            "provenance": self.metrics().inputs["provenance"],
        }
        return Job("report", "", "report", inputs, self._results(page="report.html"))

    def track(self) -> Job:
        """MLflow's view."""
        inputs: Named = {
            **self._measured(),
            "evaluations": self.metrics().inputs["evaluations"],
            "table": self.views.tables,
            "figures": self.views.figures,
            "claims": [*flat(self.claims().outputs)],
        }
        return Job("track", "", "track", inputs, self._results(record="tracking.json"))

    def _measured(self) -> Named:
        return self._results(metrics="metrics.parquet", config="config.yaml")

    def _shown(self) -> Named:
        """What pictures are made of: class names, and the first grid of every point."""
        return {
            "manifest": self.files.prepared(None)["manifest"],
            "grids": [self.files.grid(path, 0) for path in self.points],
        }

    def _results(self, **names: str) -> Named:
        """Files of the tier as a whole."""
        return {key: self.files.result(name) for key, name in names.items()}
