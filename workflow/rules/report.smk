# Views of metrics.parquet: Table 1, figures, the report page.


localrules:
    effective_config,
    table1,
    figures,
    report,


rule effective_config:
    output:
        FILES.result("config.yaml"),
    log:
        f"{RESULTS}/logs/effective_config.log",
    conda:
        "../../environment.yml"
    params:
        # In the file's own order: it is that of the table, and of the numbers in a run's name.
        spec=as_it_is(json.dumps(TIER.model_dump(mode="json", by_alias=True))),
        version=VERSIONS.of("effective-config"),
    shell:
        "python -m mclr --log {log} effective-config --spec {params.spec:q} --output {output}"


rule table1:
    input:
        **JOBS.table1().inputs,
    output:
        [shown_table(path) for path in JOBS.views.tables],
        FILES.result("table1.json"),
        FILES.result("points.csv"),
        FILES.result("equal_cost.csv"),
    log:
        f"{RESULTS}/logs/table1.log",
    conda:
        "../../environment.yml"
    params:
        folder=subpath(input.metrics, parent=True),
        version=VERSIONS.of("table"),
    shell:
        "python -m mclr --log {log} table --config {input.config} --metrics {input.metrics}"
        " --output {params.folder}"


rule figures:
    input:
        **JOBS.figures().inputs,
    output:
        [shown_figure(path) for path in JOBS.views.figures],
    log:
        f"{RESULTS}/logs/figures.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures.tsv"
    conda:
        "../../environment.yml"
    params:
        grids=lambda wildcards: f"{RESULTS}/grids",
        folder=lambda wildcards: f"{RESULTS}/figures",
        version=VERSIONS.of("figures"),
    shell:
        "python -m mclr --log {log} figures --config {input.config} --metrics {input.metrics}"
        " --manifest {input.manifest} --grids {params.grids} --output {params.folder}"


rule report:
    input:
        **JOBS.report().inputs,
    output:
        report(
            FILES.result("report.html"),
            caption="../report/page.rst",
            category="Report page",
        ),
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    params:
        results=subpath(input.metrics, parent=True),
        version=VERSIONS.of("report"),
    shell:
        "python -m mclr --log {log} report --config {input.config} --results {params.results}"
        " --manifest {input.manifest} --output {output}"
