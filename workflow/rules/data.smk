# Raw data to checked, split, hashed Parquet.

RAW = f"data/raw/{NAME}.raw"


# Where Snakemake runs there is a network; compute nodes often have none.
localrules:
    fetch,


rule fetch:
    output:
        RAW,
    log:
        f"{RESULTS}/logs/fetch.log",
    conda:
        "../../environment.yml"
    params:
        source=TIER.data.source,
        code=code_digest("mclr.data.sources"),
    shell:
        "python -m mclr --log {log} fetch --source {params.source} --output {output}"


rule prepare:
    input:
        RAW,
    output:
        train=f"{PREPARED}/train.parquet",
        reference=f"{PREPARED}/reference.parquet",
        manifest=f"{PREPARED}/manifest.json",
    log:
        f"{RESULTS}/logs/prepare.log",
    conda:
        "../../environment.yml"
    threads: SITE.evaluate.cpus
    resources:
        **SITE.resources("evaluate"),
    params:
        spec=canonical(TIER.data),
        folder=subpath(output.manifest, parent=True),
        resolution="",
        code=code_digest("mclr.data.prepare"),
    shell:
        "python -m mclr --threads {threads} --log {log} prepare"
        " --spec {params.spec:q} --raw {input} --output {params.folder} {params.resolution}"


# The same images averaged down, for models of fewer pixels.
use rule prepare as prepare_smaller with:
    output:
        train=f"{PREPARED}/{{resolution}}px/train.parquet",
        reference=f"{PREPARED}/{{resolution}}px/reference.parquet",
        manifest=f"{PREPARED}/{{resolution}}px/manifest.json",
    log:
        f"{RESULTS}/logs/prepare-{{resolution}}px.log",
    params:
        spec=canonical(TIER.data),
        folder=subpath(output.manifest, parent=True),
        resolution="--resolution {resolution}",
        code=code_digest("mclr.data.prepare"),


rule feature_net:
    input:
        unpack(lambda wildcards: data_at(PLAN.nets[wildcards.net][1])),
    output:
        net=f"{RESULTS}/feature-nets/{{net}}/net.safetensors",
        reference=f"{RESULTS}/feature-nets/{{net}}/reference.parquet",
        train_features=f"{RESULTS}/feature-nets/{{net}}/train.parquet",
        info=f"{RESULTS}/feature-nets/{{net}}/info.json",
    log:
        f"{RESULTS}/logs/feature-net/{{net}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/feature-net/{{net}}.tsv"
    conda:
        "../../environment.yml"
    threads: SITE.sample.cpus
    resources:
        **SITE.resources("sample"),
    params:
        spec=lambda wildcards: canonical(TIER.features[PLAN.nets[wildcards.net][0]]),
        data=subpath(input.manifest, parent=True),
        folder=subpath(output.net, parent=True),
        state=f"{RESULTS}/state/feature-net-{{net}}",
        code=code_digest("mclr.jobs.feature_net"),
    shell:
        "python -m mclr --threads {threads} --log {log} feature-net"
        " --spec {params.spec:q} --data {params.data}"
        " --output {params.folder} --state {params.state}"
