# What the numbers mean: real images as a yardstick, the paper's claims, how MCLR resembles CFG.


localrules:
    claims,


SIMILARITY = [f"{RESULTS}/figures/{name}" for name in similarity_files(TIER)]
SEPARATION = [f"{RESULTS}/separation/{m}.json" for m in TIER.models if TIER.separation]


rule floors:
    input:
        manifest=lambda wildcards: manifest_of(wildcards.model),
        nets=lambda wildcards: net_files(wildcards.model, "net.safetensors"),
        reference=lambda wildcards: net_files(wildcards.model, "reference.parquet"),
        train=lambda wildcards: net_files(wildcards.model, "train.parquet"),
    output:
        f"{RESULTS}/evaluations/{{model}}-real.json",
    log:
        f"{RESULTS}/logs/floors/{{model}}.log",
    conda:
        "../../environment.yml"
    threads: SITE.evaluate.cpus
    resources:
        **SITE.resources("evaluate"),
    params:
        spec=lambda wildcards: canonical(PLAN.floors_spec(wildcards.model)),
        nets=lambda wildcards: net_flags(wildcards.model),
        version=VERSIONS.of("floors"),
    shell:
        "python -m mclr --threads {threads} --log {log} floors"
        " --spec {params.spec:q} --manifest {input.manifest} {params.nets} --output {output}"


rule claims:
    input:
        metrics=rules.metrics.output.metrics,
        config=f"{RESULTS}/config.yaml",
    output:
        f"{RESULTS}/claims.json",
        report(
            f"{RESULTS}/claims.md",
            caption="../report/claims.rst",
            category="Claims",
        ),
    log:
        f"{RESULTS}/logs/claims.log",
    conda:
        "../../environment.yml"
    params:
        folder=subpath(input.metrics, parent=True),
        version=VERSIONS.of("claims"),
    shell:
        "python -m mclr --log {log} claims --config {input.config} --metrics {input.metrics}"
        " --output {params.folder}"


# Only other features change it. Metrics and configuration just tell which ones to compare: a
# change of another method must not ask for features, which are not published. (By its name:
# `ancient(rules.metrics.output.metrics)` would make it ancient for every other rule, too.)
rule similarity:
    input:
        metrics=ancient(f"{RESULTS}/metrics.parquet"),
        config=ancient(f"{RESULTS}/config.yaml"),
        features=compared_features,
    output:
        data=f"{RESULTS}/similarity.json",
        figures=SIMILARITY,
    log:
        f"{RESULTS}/logs/similarity.log",
    conda:
        "../../environment.yml"
    resources:
        **SITE.resources("evaluate"),
    params:
        features=lambda wildcards: f"{RESULTS}/features",
        figures=lambda wildcards: f"{RESULTS}/figures",
        version=VERSIONS.of("similarity"),
    shell:
        "python -m mclr --log {log} similarity --config {input.config} --metrics {input.metrics}"
        " --samples {params.features} --output {output.data} --figures {params.figures}"


rule separation:
    input:
        unpack(lambda wildcards: data_of(wildcards.model)),
        metrics=rules.metrics.output.metrics,
        base=lambda wildcards: base_checkpoint(wildcards.model),
        tuned=tuned_of,
        tokenizer=lambda wildcards: tokenizer_of(wildcards.model),
    output:
        f"{RESULTS}/separation/{{model}}.json",
    log:
        f"{RESULTS}/logs/separation/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/separation/{{model}}.tsv"
    conda:
        "../../environment.yml"
    threads: SITE.sample.cpus
    resources:
        **SITE.resources("sample"),
    params:
        spec=lambda wildcards: canonical(PLAN.separation_spec(wildcards.model)),
        data=subpath(input.manifest, parent=True),
        tokenizer=tokenizer_flag,
        tuned=lambda wildcards, input: f"--tuned {input.tuned}" if input.tuned else "",
        version=lambda wildcards: model_version("separation", wildcards.model),
    shell:
        "python -m mclr --threads {threads} --log {log} separation"
        " --spec {params.spec:q} --data {params.data} --metrics {input.metrics}"
        " --base {input.base} {params.tuned} {params.tokenizer} --output {output}"
