# Fine-tuning: one job per (model, objective, hyperparameters, seed).


rule negatives:
    input:
        unpack(inputs_of(JOBS.negatives, "start")),
    output:
        FILES.negatives("{start}"),
    log:
        f"{RESULTS}/logs/negatives/{{start}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/negatives/{{start}}.tsv"
    conda:
        "../../environment.yml"
    threads: SITE.sample.cpus
    resources:
        **SITE.resources("sample"),
        processes=SITE.sample.size,
        threads_each=threads_each,
    params:
        spec=spec_of(JOBS.negatives, "start"),
        tokenizer=flag_of("tokenizer"),
        version=version_of(JOBS.negatives, "start"),
    shell:
        "workflow/launch {resources.nodes} {resources.processes}"
        " --threads {resources.threads_each} --log {log} negatives"
        " --spec {params.spec:q} --manifest {input.manifest}"
        " --weights {input.base} {params.tokenizer} --output {output}"


# One rule per run, because each run has its own checkpoints.
for run in PLAN.runs.values():
    if run.settings is None or run.is_final:
        continue
    job = JOBS.finetune(run.run_id)

    rule:
        name:
            f"finetune_{run.run_id.replace('-', '_').replace('.', '_')}"
        input:
            **job.inputs,
        output:
            **job.outputs,
        log:
            f"{RESULTS}/logs/finetune/{run.run_id}.log",
        benchmark:
            f"{RESULTS}/benchmarks/finetune/{run.run_id}.tsv"
        priority: 50
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
            negatives=flag_of("negatives"),
            guide=flag_of("guide"),
            run=subpath(output.config, parent=True),
            state=f"{RESULTS}/state/{run.run_id}",
            version=VERSIONS.of(job.kind),
        shell:
            "workflow/launch {resources.nodes} {resources.processes} --log {log} finetune"
            " --spec {params.spec:q} --data {params.data}"
            " --base {input.base} {params.tokenizer} {params.encoded} {params.negatives}"
            " {params.guide} --run {params.run} --state {params.state} --micro-batch {resources.micro_batch}"
            " --result-version {params.version:q}"


# The selected point of an experiment again, with other seeds.
rule finetune_final:
    input:
        unpack(inputs_of(JOBS.finetune, "final")),
    output:
        checkpoint=FILES.final("{final}"),
        config=FILES.run("{final}", "config.yaml"),
        provenance=FILES.run("{final}", "provenance.json"),
    log:
        f"{RESULTS}/logs/finetune/{{final}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/finetune/{{final}}.tsv"
    priority: 50
    conda:
        "../../environment.yml"
    threads: SITE.train.cpus
    resources:
        **SITE.resources("train"),
        micro_batch=0,
        processes=SITE.train.size,
    params:
        spec=spec_of(JOBS.finetune, "final"),
        data=subpath(input.manifest, parent=True),
        tokenizer=flag_of("tokenizer"),
        encoded=flag_of("encoded"),
        negatives=flag_of("negatives"),
        guide=flag_of("guide"),
        run=subpath(output.config, parent=True),
        state=f"{RESULTS}/state/{{final}}",
        version=version_of(JOBS.finetune, "final"),
    shell:
        "workflow/launch {resources.nodes} {resources.processes} --log {log} finetune"
        " --spec {params.spec:q} --data {params.data} --selection {input.selection}"
        " --base {input.base} {params.tokenizer} {params.encoded} {params.negatives}"
        " {params.guide} --run {params.run} --state {params.state} --micro-batch {resources.micro_batch}"
        " --result-version {params.version:q}"
