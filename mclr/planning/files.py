"""Where the files of a tier are. A wildcard in braces may stand for any part of a name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Files:
    """Names of a tier's files, from the folder in which Snakemake runs."""

    tier: str

    @property
    def results(self) -> str:
        return f"results/{self.tier}"

    # Data.

    @property
    def raw(self) -> str:
        return f"data/raw/{self.tier}.raw"

    def prepared(self, resolution: int | str | None) -> dict[str, str]:
        """The prepared images of a resolution (None: the data's own): splits and manifest."""
        folder = f"data/prepared/{self.tier}" + (f"/{resolution}px" if resolution else "")
        splits = {name: f"{folder}/{name}.parquet" for name in ("train", "reference")}
        return splits | {"manifest": f"{folder}/manifest.json"}

    def net(self, folder: str, file: str) -> str:
        """A file of a feature net, whose folder is that of ``net_folder``."""
        return f"{self.results}/feature-nets/{folder}/{file}"

    # Models and runs.

    def tokenizer(self, model: str) -> str:
        return f"{self.results}/tokenizers/{model}.safetensors"

    def encoded(self, model: str) -> str:
        return f"{self.results}/encoded/{model}.safetensors"

    def pixels(self, side: int | str) -> str:
        """One's own images, decoded once for all models of pixels of a resolution."""
        return f"{self.results}/encoded/pixels/{side}px.safetensors"

    def run(self, run_id: str, file: str) -> str:
        """A file of a run: ``config.yaml``, ``provenance.json``."""
        return f"{self.results}/runs/{run_id}/{file}"

    def checkpoint(self, run_id: str, step: int, averaged: bool = False) -> str:
        """The weights of one step of a run, or their average."""
        ending = "-average" if averaged else ""
        return self.run(run_id, f"checkpoints/step-{step:06d}{ending}.safetensors")

    def final(self, run_id: str) -> str:
        """The weights of a final run; their step is in the metadata of the file."""
        return self.run(run_id, "checkpoints/final.safetensors")

    def negatives(self, start: str) -> str:
        return f"{self.results}/negatives/{start}.safetensors"

    # Samples and what is measured on them.

    def features(self, point: str, shard: int | str) -> str:
        return f"{self.results}/features/{point}/shard-{shard:0>3}.parquet"

    def grid(self, point: str, shard: int | str) -> str:
        return f"{self.results}/grids/{point}/shard-{shard:0>3}.png"

    def evaluation(self, name: str) -> str:
        return f"{self.results}/evaluations/{name}.json"

    def floors(self, model: str) -> str:
        """What the metrics give for real images, at a model's resolution."""
        return self.evaluation(f"{model}-real")

    def selection(self, experiment: str) -> str:
        return f"{self.results}/selections/{experiment}.json"

    def best(self, experiment: str) -> str:
        """The best checkpoint of an experiment's grid."""
        return f"{self.results}/best/{experiment}.safetensors"

    def separation(self, model: str) -> str:
        return f"{self.results}/separation/{model}.json"

    # Views.

    def result(self, name: str) -> str:
        """A file of the tier as a whole, such as ``metrics.parquet``."""
        return f"{self.results}/{name}"

    def figure(self, name: str) -> str:
        return f"{self.results}/figures/{name}"


def net_folder(net: str, resolution: int | None) -> str:
    """Folder of a feature net: its name, and the resolution where it is not the data's own."""
    return net if resolution is None else f"{net}-{resolution}px"
