# What the numbers mean: real images as a yardstick, the paper's claims, how MCLR resembles CFG.


localrules:
    claims,


rule floors:
    input:
        unpack(inputs_of(JOBS.floors, "model")),
    output:
        FILES.floors("{model}"),
    log:
        f"{RESULTS}/logs/floors/{{model}}.log",
    conda:
        "../../environment.yml"
    threads: SITE.evaluate.cpus
    resources:
        **SITE.resources("evaluate"),
    params:
        spec=spec_of(JOBS.floors, "model"),
        nets=lambda wildcards: net_flags(wildcards.model),
        version=VERSIONS.of("floors"),
    shell:
        "python -m mclr --threads {threads} --log {log} floors"
        " --spec {params.spec:q} --manifest {input.manifest} {params.nets} --output {output}"


rule claims:
    input:
        **JOBS.claims().inputs,
    output:
        FILES.result("claims.json"),
        report(
            FILES.result("claims.md"),
            caption="../report/claims.rst",
            category="Claims",
        ),
        FILES.result("claims.csv"),
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
        metrics=ancient(FILES.result("metrics.parquet")),
        config=ancient(FILES.result("config.yaml")),
        features=JOBS.similarity().inputs["features"],
    output:
        **JOBS.similarity().outputs,
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
        unpack(inputs_of(JOBS.separation, "model")),
    output:
        FILES.separation("{model}"),
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
        spec=spec_of(JOBS.separation, "model"),
        data=subpath(input.manifest, parent=True),
        tokenizer=flag_of("tokenizer"),
        tuned=flag_of("tuned"),
        version=version_of(JOBS.separation, "model"),
    shell:
        "python -m mclr --threads {threads} --log {log} separation"
        " --spec {params.spec:q} --data {params.data} --metrics {input.metrics}"
        " --base {input.base} {params.tuned} {params.tokenizer} --output {output}"
