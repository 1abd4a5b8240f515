# Raw data to checked, split, hashed Parquet.

RAW = f"data/raw/{NAME}.raw"


# Where Snakemake runs there is a network; compute nodes often have none.
localrules:
    fetch,
    fetch_released,


rule fetch:
    output:
        RAW,
    log:
        f"{RESULTS}/logs/fetch.log",
    conda:
        "../../environment.yml"
    params:
        source=TIER.data.source,
        version=VERSIONS.of("fetch"),
    shell:
        "python -m mclr --log {log} fetch --source {params.source} --output {output}"


# Published weights and statistics. Whoever has a file puts it there; it is then taken as it is.
rule fetch_released:
    output:
        "data/raw/released/{file}",
    log:
        "results/logs/released/{file}.log",
    conda:
        "../../environment.yml"
    params:
        version=VERSIONS.of("fetch-released"),
    shell:
        "python -m mclr --log {log} fetch-released --file {wildcards.file} --output {output}"


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
        version=VERSIONS.of("prepare"),
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
        version=VERSIONS.of("prepare"),


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
    wildcard_constraints:
        net="|".join(n for n in PLAN.nets if not published_net(n)) or "none",
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
        version=lambda wildcards: net_version("feature-net", wildcards.net),
    shell:
        "python -m mclr --threads {threads} --log {log} feature-net"
        " --spec {params.spec:q} --data {params.data}"
        " --output {params.folder} --state {params.state}"
        " --result-version {params.version:q}"


# Inception and DINOv2: others' weights, and others' statistics of real images.
rule published_net:
    input:
        unpack(lambda wildcards: data_at(PLAN.nets[wildcards.net][1])),
        weights=lambda wildcards: net_weights(wildcards.net),
        statistics=lambda wildcards: net_statistics(wildcards.net),
    output:
        net=f"{RESULTS}/feature-nets/{{net}}/net.safetensors",
        reference=f"{RESULTS}/feature-nets/{{net}}/reference.parquet",
        train_features=f"{RESULTS}/feature-nets/{{net}}/train.parquet",
        info=f"{RESULTS}/feature-nets/{{net}}/info.json",
    log:
        f"{RESULTS}/logs/feature-net/{{net}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/feature-net/{{net}}.tsv"
    wildcard_constraints:
        net="|".join(n for n in PLAN.nets if published_net(n)) or "none",
    conda:
        "../../environment.yml"
    threads: SITE.sample.cpus
    resources:
        **SITE.resources("sample"),
    params:
        spec=lambda wildcards: canonical(TIER.features[PLAN.nets[wildcards.net][0]]),
        data=subpath(input.manifest, parent=True),
        folder=subpath(output.net, parent=True),
        statistics=lambda wildcards, input: (
            f"--statistics {input.statistics}" if input.statistics else ""
        ),
        most=TIER.evaluation.n_samples,
        version=lambda wildcards: net_version("published-net", wildcards.net),
    shell:
        "python -m mclr --threads {threads} --log {log} published-net"
        " --spec {params.spec:q} --data {params.data} --weights {input.weights}"
        " {params.statistics} --most {params.most} --output {params.folder}"
