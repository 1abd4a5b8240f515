# The paper's theory, checked by computation. It has no tier: nothing but code goes in.

from mclr.theory.lab.run import TOPICS

THEORY = "results/theory"
THEORY_LOGS = "results/logs/theory"


localrules:
    theory,


rule theory_topic:
    output:
        statements=f"{THEORY}/{{topic}}.json",
        figures=directory(f"{THEORY}/{{topic}}"),
    log:
        f"{THEORY_LOGS}/{{topic}}.log",
    benchmark:
        f"{THEORY_LOGS}/{{topic}}.tsv"
    wildcard_constraints:
        topic="|".join(TOPICS),
    conda:
        "../../environment.yml"
    resources:
        **SITE.resources("evaluate"),
    params:
        folder=subpath(output.statements, parent=True),
        version=lambda wildcards: VERSIONS.of(f"theory.{wildcards.topic}"),
    shell:
        "python -m mclr --log {log} theory {wildcards.topic} --output {params.folder}"


rule theory:
    input:
        statements=expand(f"{THEORY}/{{topic}}.json", topic=TOPICS),
        # Folders have no checksum, so their time would decide; `version` tells when figures change.
        figures=ancient(expand(f"{THEORY}/{{topic}}", topic=TOPICS)),
    output:
        data=f"{THEORY}/theory.json",
        page=f"{THEORY}/theory.html",
    log:
        f"{THEORY_LOGS}/theory.log",
    conda:
        "../../environment.yml"
    params:
        folder=subpath(output.data, parent=True),
        version=VERSIONS.of("theory-page"),
    shell:
        "python -m mclr --log {log} theory-page --results {params.folder}"
        " --result-version {params.version:q}"
