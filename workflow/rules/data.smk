# Raw data to checked, split, hashed Parquet.


# Where Snakemake runs there is a network; compute nodes often have none.
localrules:
    fetch,
    fetch_released,


rule fetch:
    output:
        FILES.raw,
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
        FILES.raw,
    output:
        **FILES.prepared(None),
    log:
        f"{RESULTS}/logs/prepare.log",
    conda:
        "../../environment.yml"
    threads: SITE.evaluate.cpus
    resources:
        **SITE.resources("evaluate"),
    params:
        spec=as_it_is(canonical(TIER.data)),
        folder=subpath(output.manifest, parent=True),
        resolution="",
        version=VERSIONS.of("prepare"),
    shell:
        "python -m mclr --threads {threads} --log {log} prepare"
        " --spec {params.spec:q} --raw {input} --output {params.folder} {params.resolution}"


# The same images averaged down, for models of fewer pixels.
use rule prepare as prepare_smaller with:
    output:
        **FILES.prepared("{resolution}"),
    log:
        f"{RESULTS}/logs/prepare-{{resolution}}px.log",
    params:
        spec=as_it_is(canonical(TIER.data)),
        folder=subpath(output.manifest, parent=True),
        resolution="--resolution {resolution}",
        version=VERSIONS.of("prepare"),


rule feature_net:
    input:
        unpack(inputs_of(JOBS.net, "net")),
    output:
        **{name: FILES.net("{net}", file) for name, file in NET_FILES.items()},
    log:
        f"{RESULTS}/logs/feature-net/{{net}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/feature-net/{{net}}.tsv"
    wildcard_constraints:
        net=nets_made_by("feature_net"),
    conda:
        "../../environment.yml"
    threads: SITE.sample.cpus
    resources:
        **SITE.resources("sample"),
    params:
        spec=spec_of(JOBS.net, "net"),
        data=subpath(input.manifest, parent=True),
        folder=subpath(output.net, parent=True),
        state=f"{RESULTS}/state/feature-net-{{net}}",
        version=version_of(JOBS.net, "net"),
    shell:
        "python -m mclr --threads {threads} --log {log} feature-net"
        " --spec {params.spec:q} --data {params.data}"
        " --output {params.folder} --state {params.state}"
        " --result-version {params.version:q}"


# Inception and DINOv2: others' weights, and others' statistics of real images.
rule published_net:
    input:
        unpack(inputs_of(JOBS.net, "net")),
    output:
        **{name: FILES.net("{net}", file) for name, file in NET_FILES.items()},
    log:
        f"{RESULTS}/logs/feature-net/{{net}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/feature-net/{{net}}.tsv"
    wildcard_constraints:
        net=nets_made_by("published_net"),
    conda:
        "../../environment.yml"
    threads: SITE.sample.cpus
    resources:
        **SITE.resources("sample"),
    params:
        spec=spec_of(JOBS.net, "net"),
        data=subpath(input.manifest, parent=True),
        folder=subpath(output.net, parent=True),
        statistics=flag_of("statistics"),
        most=TIER.evaluation.n_samples,
        version=version_of(JOBS.net, "net"),
    shell:
        "python -m mclr --threads {threads} --log {log} published-net"
        " --spec {params.spec:q} --data {params.data} --weights {input.weights:q}"
        " {params.statistics} --most {params.most} --output {params.folder}"
