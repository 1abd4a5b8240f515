# Base models: trained in the run, or taken over from those who trained them.


TAKEN_OVER = [model for model in TIER.models if JOBS.released(model, "tokenizer")]


rule tokenizer:
    input:
        unpack(inputs_of(JOBS.tokenizer, "model")),
    output:
        FILES.tokenizer("{model}"),
    log:
        f"{RESULTS}/logs/tokenizer/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/tokenizer/{{model}}.tsv"
    wildcard_constraints:
        model="|".join(m for m in TIER.models if m not in TAKEN_OVER) or "none",
    conda:
        "../../environment.yml"
    threads: SITE.sample.cpus
    resources:
        **SITE.resources("sample"),
    params:
        spec=spec_of(JOBS.tokenizer, "model"),
        data=subpath(input.manifest, parent=True),
        state=f"{RESULTS}/state/tokenizer-{{model}}",
        version=version_of(JOBS.tokenizer, "model"),
    shell:
        "python -m mclr --threads {threads} --log {log} tokenizer"
        " --spec {params.spec:q} --data {params.data}"
        " --output {output} --state {params.state}"
        " --result-version {params.version:q}"


# Once for all jobs that train on it.
rule encode:
    input:
        unpack(inputs_of(JOBS.encode, "model")),
    output:
        FILES.encoded("{model}"),
    log:
        f"{RESULTS}/logs/encode/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/encode/{{model}}.tsv"
    conda:
        "../../environment.yml"
    threads: SITE.sample.cpus
    resources:
        **SITE.resources("sample"),
    params:
        spec=spec_of(JOBS.encode, "model"),
        data=subpath(input.manifest, parent=True),
        tokenizer=flag_of("tokenizer"),
        state=f"{RESULTS}/state/encode-{{model}}",
        version=version_of(JOBS.encode, "model"),
    shell:
        "python -m mclr --threads {threads} --log {log} encode"
        " --spec {params.spec:q} --data {params.data}"
        " {params.tokenizer} --output {output} --state {params.state}"
        " --result-version {params.version:q}"


rule import_tokenizer:
    input:
        unpack(inputs_of(JOBS.tokenizer, "model")),
    output:
        FILES.tokenizer("{model}"),
    log:
        f"{RESULTS}/logs/tokenizer/{{model}}.log",
    wildcard_constraints:
        model="|".join(TAKEN_OVER) or "none",
    conda:
        "../../environment.yml"
    params:
        spec=spec_of(JOBS.tokenizer, "model"),
        source=source_flag,
        version=version_of(JOBS.tokenizer, "model"),
    shell:
        "python -m mclr --log {log} import-tokenizer --spec {params.spec:q}"
        " --manifest {input.manifest} {params.source} --output {output}"


# One rule per network, because the name of a checkpoint holds its step.
NETWORKS = [
    JOBS.network(role, model) for model in TIER.models for role in JOBS.roles(model)
] + [JOBS.take_over(run) for run in TIER.released]
NETWORKS += [
    JOBS.final_base(run.run_id)
    for model in TIER.models
    for run in JOBS.final_bases(model)
]


for job in NETWORKS:
    if "source" in job.inputs:
        continue

    rule:
        name:
            f"{job.rule}_{job.subject.replace('-', '_')}"
        input:
            **job.inputs,
        output:
            **job.outputs,
        log:
            f"{RESULTS}/logs/{job.rule}/{job.subject}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{job.rule}/{job.subject}.tsv"
        priority: 100
        conda:
            "../../environment.yml"
        threads: SITE.train.cpus
        resources:
            **SITE.resources("train"),
            micro_batch=0,
            processes=SITE.train.size,
        params:
            spec=as_it_is(canonical(job.spec)),
            data=subpath(input.manifest, parent=True),
            tokenizer=flag_of("tokenizer"),
            encoded=flag_of("encoded"),
            run=subpath(output.config, parent=True),
            state=f"{RESULTS}/state/{job.subject}-{job.rule}",
            version=VERSIONS.of(job.kind),
        shell:
            "workflow/launch {resources.nodes} {resources.processes} --log {log} base"
            " --spec {params.spec:q} --data {params.data}"
            " {params.tokenizer} {params.encoded} --run {params.run} --state {params.state}"
            " --micro-batch {resources.micro_batch}"
            " --result-version {params.version:q}"


for job in NETWORKS:
    if "source" not in job.inputs:
        continue

    rule:
        name:
            f"{job.rule}_{job.subject.replace('-', '_')}"
        input:
            **job.inputs,
        output:
            **job.outputs,
        log:
            f"{RESULTS}/logs/{job.rule.removeprefix('import_')}/{job.subject}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{job.rule.removeprefix('import_')}/{job.subject}.tsv"
        conda:
            "../../environment.yml"
        resources:
            **SITE.resources("evaluate"),
        params:
            spec=as_it_is(canonical(job.spec)),
            source=source_flag,
            tokenizer=flag_of("tokenizer"),
            run=subpath(output.config, parent=True),
            version=VERSIONS.of(job.kind),
        shell:
            "python -m mclr --log {log} import-base --spec {params.spec:q}"
            " --manifest {input.manifest} {params.source} {params.tokenizer}"
            " --run {params.run}"
            " --result-version {params.version:q}"
