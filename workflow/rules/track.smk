# The only writer of MLflow: publishes what the other jobs wrote, and decides nothing.


localrules:
    track,


rule track:
    input:
        config=rules.effective_config.output,
        metrics=rules.metrics.output.metrics,
        evaluations=rules.metrics.input.evaluations,
        table=TABLE,
        figures=FIGURES,
        claims=rules.claims.output,
    output:
        f"{RESULTS}/tracking.json",
    log:
        f"{RESULTS}/logs/track.log",
    conda:
        "../../environment.yml"
    params:
        results=subpath(input.metrics, parent=True),
        version=VERSIONS.of("track"),
    shell:
        "python -m mclr --log {log} track --config {input.config} --results {params.results}"
        " --record {output}"
