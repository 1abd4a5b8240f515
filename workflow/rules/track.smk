# The only writer of MLflow: publishes what the other jobs wrote, and decides nothing.


localrules:
    track,


rule track:
    input:
        **JOBS.track().inputs,
    output:
        **JOBS.track().outputs,
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
