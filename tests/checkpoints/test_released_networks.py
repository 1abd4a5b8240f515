"""Released weights in the place of trained ones: base models, guides, tokenizers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from official_edm2 import Official
from tiny import TINY, Trained

from mclr.config.reading import parse_tier
from mclr.data.load import load_manifest
from mclr.errors import UserError
from mclr.events import read_events
from mclr.files import load_tensors, read_json, save_tensors, sha256
from mclr.jobs.inputs import Data
from mclr.jobs.sampling import sample
from mclr.jobs.take_over import import_base, import_tokenizer
from mclr.jobs.training import finetune
from mclr.metrics.features import read_features
from mclr.models.edm2.encoders import StabilityVaeEncoder, pack_vae
from mclr.models.families import make_family
from mclr.models.var.config import VqvaeConfig
from mclr.models.var.vqvae import Vqvae
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan
from mclr.planning.specs import FinetuneSpec
from mclr.settings.section import canonical
from mclr.weights.importer import import_weights

GUIDE = {
    "network": {**TINY["models"]["edm2"]["network"], "model_channels": 2},
    "base": {**TINY["models"]["edm2"]["base"], "label_dropout": 0},
}


def plan_with(model: str, **edit: Any) -> Plan:
    """The tiny tier with keys of one model replaced."""
    content = copy.deepcopy(TINY)
    content["models"][model] |= edit
    return Plan(parse_tier(content, "tiny"))


@pytest.fixture(scope="module")
def snapshot(
    official: Official, trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The trained tiny EDM2 as an official snapshot, float32."""
    folder = tmp_path_factory.mktemp("snapshot")
    plan = Plan(parse_tier(copy.deepcopy(TINY), "tiny"))
    family = make_family(plan.base_spec("edm2"), load_manifest(trained.manifest))
    sizes = {"class_name": "Precond", **family.build(torch.Generator()).config.model_dump()}  # type: ignore[union-attr,operator]
    tensors, _ = load_tensors(trained.edm2)
    save_tensors(folder / "tiny.safetensors", tensors, {"config": json.dumps(sizes)})
    return official.write(folder / "tiny.safetensors", folder / "tiny.pkl", dtype="float32")


def test_released_base_takes_the_place_of_the_trained_one(
    snapshot: Path, trained: Trained, tmp_path: Path
) -> None:
    plan = plan_with("edm2", base={"released": str(snapshot)})
    run = plan.runs["edm2-base"]
    assert (run.seed, run.checkpoints) == (0, (0,))
    import_base(plan.base_spec("edm2"), trained.manifest, snapshot, None, tmp_path / "edm2-base")
    tensors, metadata = load_tensors(tmp_path / "edm2-base/checkpoints/step-000000.safetensors")
    wanted, _ = load_tensors(trained.edm2)
    assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)
    assert metadata["source"] == f"tiny.pkl sha256:{sha256(snapshot)}"
    facts = read_json(tmp_path / "edm2-base/provenance.json")
    assert facts["source"]["source"]["sha256"] == sha256(snapshot)
    assert (tmp_path / "edm2-base/events.jsonl").is_file()


def test_another_architecture_is_named(snapshot: Path, trained: Trained, tmp_path: Path) -> None:
    network = TINY["models"]["edm2"]["network"] | {"label_balance": 0.3}
    spec = plan_with("edm2", network=network).base_spec("edm2")
    with pytest.raises(UserError, match=r"label_balance 0.3 \(in the file 0.5\)"):
        import_base(spec, trained.manifest, snapshot, None, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_released_tokenizer_and_transformer(trained: Trained, tmp_path: Path) -> None:
    for name, weights in (("vae", trained.tokenizer), ("var", trained.var)):
        torch.save(load_tensors(weights)[0], tmp_path / f"{name}.pth")
    tokenizer = copy.deepcopy(TINY["models"]["var"]["tokenizer"])
    tokenizer["training"] = {"released": "vae.pth"}
    plan = plan_with("var", tokenizer=tokenizer, base={"released": "var.pth"})
    imported, run = tmp_path / "var.safetensors", tmp_path / "var-base"
    import_tokenizer(plan.encode_spec("var"), trained.manifest, tmp_path / "vae.pth", imported)
    import_base(plan.base_spec("var"), trained.manifest, tmp_path / "var.pth", imported, run)
    for found, wanted in (
        (imported, trained.tokenizer),
        (run / "checkpoints/step-000000.safetensors", trained.var),
    ):
        tensors = load_tensors(found)[0]
        for name, tensor in load_tensors(wanted)[0].items():
            assert torch.equal(tensors[name], tensor)


def test_a_tier_says_what_official_files_do_not(trained: Trained, tmp_path: Path) -> None:
    """Heads, norm_eps and angles are those of the configuration; imported files have their own."""
    var = TINY["models"]["var"]
    more = {"attn_l2_norm": False, "num_heads": 2, "norm_eps": 1e-5}
    codes = {**var["tokenizer"]["network"], "using_znorm": True, "quant_conv_ks": 1}
    tokenizer = {"network": codes, "training": {"released": "vae.pth"}}
    network = {**var["network"], **more}
    plan = plan_with("var", tokenizer=tokenizer, network=network, base={"released": "var.pth"})
    draws = torch.Generator().manual_seed(0)
    vae = Vqvae.build(VqvaeConfig(**codes, img_channels=1), draws)
    torch.save(vae.state_dict(), tmp_path / "vae.pth")
    imported, run = tmp_path / "tokenizer.safetensors", tmp_path / "run"
    import_tokenizer(plan.encode_spec("var"), trained.manifest, tmp_path / "vae.pth", imported)
    spec = plan.base_spec("var")
    manifest = load_manifest(trained.manifest)
    net = make_family(spec, manifest, imported).build(draws)
    torch.save(net.state_dict(), tmp_path / "var.pth")
    import_base(spec, trained.manifest, tmp_path / "var.pth", imported, run)
    assumed = read_json(run / "provenance.json")["source"]["assumed"]
    assert assumed == {"drop_path_rate": 0.0, "norm_eps": 1e-5, "num_heads": 2}
    told = {"num_heads": 4, "norm_eps": 1e-5}
    import_weights(tmp_path / "var.pth", tmp_path / "var.safetensors", told=told)
    with pytest.raises(UserError, match=r"num_heads 2 \(in the file 4\)"):
        import_base(spec, trained.manifest, tmp_path / "var.safetensors", imported, run)
    import_weights(
        tmp_path / "vae.pth", tmp_path / "vae.safetensors", told={"patch_nums": codes["patch_nums"]}
    )
    with pytest.raises(UserError, match=r"using_znorm True \(in the file False\)"):
        import_tokenizer(
            plan.encode_spec("var"), trained.manifest, tmp_path / "vae.safetensors", imported
        )


def test_missing_file_says_what_to_do(trained: Trained, tmp_path: Path) -> None:
    spec = plan_with("edm2", base={"released": "x.pkl"}).base_spec("edm2")
    with pytest.raises(UserError, match=r"x\.pkl: no such file; run `snakemake` to fetch it"):
        import_base(spec, trained.manifest, tmp_path / "x.pkl", None, tmp_path / "run")


def test_network_of_its_own_guides(trained: Trained, tmp_path: Path) -> None:
    """With the model itself as guide guidance changes nothing; with another network it does."""
    plan = plan_with("edm2", guide=GUIDE)
    assert plan.guide_spec("edm2").content()["network"]["unconditional"] is True
    assert plan.guide_checkpoint("edm2").endswith(
        "runs/edm2-guide/checkpoints/step-000004.safetensors"
    )
    own = [point for point in plan.points("edm2-base") if point.seed == 1]
    point = next(point for point in own if point.guidance == 2)
    assert plan.guide(point) == "net"
    spec = plan.sample_spec(point).with_(shards=1)
    same = spec.with_(guide_network=spec.network)
    guides = make_family(plan.guide_spec("edm2"), load_manifest(trained.manifest))
    other = tmp_path / "guide.safetensors"
    net = guides.build(torch.Generator().manual_seed(0))
    assert "unet.emb_label.weight" not in net.state_dict()
    with torch.no_grad():
        net.unet.out_gain.fill_(1.0)  # type: ignore[union-attr,operator]
    save_tensors(other, net.state_dict(), {})
    plain = plan.sample_spec(
        next(p for p in plan.points("edm2-base") if not p.guidance and p.seed == 1)
    )
    assert "guide_network" not in plain.content()
    found = {}
    for name, (how, guide) in {
        "plain": (plain.with_(shards=1), None),
        "itself": (same, trained.edm2),
        "other": (spec, other),
    }.items():
        features = tmp_path / f"{name}.parquet"
        sample(
            how, 0, trained.manifest, trained.edm2, None,
            {"cnn": trained.net / "net.safetensors"}, features, tmp_path / "grid.png", base=guide,
        )  # fmt: skip
        found[name] = read_features([features], "cnn").features
    torch.testing.assert_close(found["itself"], found["plain"], rtol=1e-3, atol=1e-3)
    assert (found["other"] - found["plain"]).abs().max() > 0.01


def test_it_guides_the_teacher_of_distillation(trained: Trained, tmp_path: Path) -> None:
    """As its images are guided; with the model itself as guide there is nothing to learn."""
    content = copy.deepcopy(TINY)
    content["models"]["edm2"] |= {"guide": GUIDE}
    run = {"model": "edm2", "lr": 0.001, "batch": 8, "checkpoints": [2]}
    content["runs"] = {
        "taught": run | {"objective": {"name": "distill", "gamma": 2}},
        "gft": run | {"objective": {"name": "gft", "beta": 0.4}},
        "mclr": run | {"objective": {"name": "mclr"}},
    }
    jobs = Jobs(Plan(parse_tier(content, "tiny")))
    plan = jobs.plan
    read = {name: jobs.finetune(f"{name}-seed0").inputs["guide"] for name in content["runs"]}
    assert read == {"taught": [plan.guide_checkpoint("edm2")], "gft": [], "mclr": []}
    assert "guide_network" not in canonical(plan.finetune_spec("gft-seed0"))
    spec = plan.finetune_spec("taught-seed0")
    assert spec.guide_network == plan.guide_spec("edm2").network
    guides = make_family(plan.guide_spec("edm2"), load_manifest(trained.manifest))
    net = guides.build(torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.unet.out_gain.fill_(1.0)  # type: ignore[union-attr,operator]
    save_tensors(tmp_path / "guide.safetensors", net.state_dict(), {})

    def losses(spec: FinetuneSpec, guide: Path | None, run: str) -> list[float]:
        finetune(
            spec, Data(trained.prepared), trained.edm2, None, None, tmp_path / run,
            tmp_path / "state", guide=guide,
        )  # fmt: skip
        events = read_events(tmp_path / run / "events.jsonl")
        return [event["loss"] for event in events if event["event"] == "train"]

    same = losses(spec.with_(guide_network=spec.network), trained.edm2, "itself")
    other = losses(spec, tmp_path / "guide.safetensors", "other")
    assert abs(same[0]) < 1e-3 < 0.1 < other[0]
    facts = read_json(tmp_path / "other/provenance.json")
    assert sha256(tmp_path / "guide.safetensors") in facts["inputs"].values()
    with pytest.raises(UserError, match="learns from a network that guides: give --guide"):
        losses(spec, None, "none")


def test_packed_autoencoder_is_the_same(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[4] * 4, norm_num_groups=2, latent_channels=4,
    )  # fmt: skip
    vae.save_pretrained(tmp_path / "folder")
    pack_vae(tmp_path / "folder", tmp_path / "vae.safetensors")
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    raw = [
        StabilityVaeEncoder(tmp_path / n).encode_pixels(images)
        for n in ("folder", "vae.safetensors")
    ]
    assert torch.equal(*raw)
