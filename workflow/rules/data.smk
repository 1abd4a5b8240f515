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
        code=code_digest("mclr.data.prepare"),
    shell:
        "python -m mclr --threads {threads} --log {log} prepare"
        " --spec {params.spec:q} --raw {input} --output {params.folder}"


# The prepared data, as the inputs of a job that trains.
DATA = dict(rules.prepare.output.items())


rule feature_net:
    input:
        **DATA,
    output:
        net=f"{RESULTS}/feature-nets/{{net}}/net.safetensors",
        reference=f"{RESULTS}/feature-nets/{{net}}/reference.parquet",
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
        spec=lambda wildcards: canonical(TIER.features[wildcards.net]),
        data=subpath(input.manifest, parent=True),
        folder=subpath(output.net, parent=True),
        state=f"{RESULTS}/state/feature-net-{{net}}",
        code=code_digest("mclr.jobs.feature_net"),
    shell:
        "python -m mclr --threads {threads} --log {log} feature-net"
        " --spec {params.spec:q} --data {params.data}"
        " --output {params.folder} --state {params.state}"
