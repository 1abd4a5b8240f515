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
    output:
        f"{RESULTS}/tracking.json",
    params:
        results=RESULTS,
        code=code_digest("mclr.tracking.publish"),
    log:
        f"{RESULTS}/logs/track.log",
    shell:
        "mclr --log {log} track --config {input.config} --results {params.results}"
        " --record {output}"
