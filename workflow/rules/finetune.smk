# Fine-tuning: one job per (model, objective, hyperparameters, seed).


rule negatives:
    input:
        manifest=lambda wildcards: manifest_of(PLAN.model_of(wildcards.start)),
        base=lambda wildcards: PLAN.start_checkpoint(wildcards.start),
        tokenizer=lambda wildcards: tokenizer_of(PLAN.model_of(wildcards.start)),
    output:
        f"{RESULTS}/negatives/{{start}}.safetensors",
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
        spec=lambda wildcards: canonical(PLAN.negatives_spec(wildcards.start)),
        tokenizer=tokenizer_flag,
        version=lambda wildcards: negatives_version(wildcards.start),
    shell:
        "workflow/launch {resources.nodes} {resources.processes}"
        " --threads {resources.threads_each} --log {log} negatives"
        " --spec {params.spec:q} --manifest {input.manifest}"
        " --weights {input.base} {params.tokenizer} --output {output}"


# One rule per run, because each run has its own checkpoints.
for run in PLAN.runs.values():
    if run.is_base or run.is_final:
        continue

    rule:
        name:
            f"finetune_{run.run_id.replace('-', '_').replace('.', '_')}"
        input:
            **data_of(run.model),
            base=PLAN.start_checkpoint(run.start),
            tokenizer=tokenizer_of(run.model),
            encoded=encoded_of(run.model),
            negatives=negatives_of(run),
        output:
            checkpoints=[checkpoint_path(NAME, run.run_id, s) for s in run.checkpoints],
            config=f"{RESULTS}/runs/{run.run_id}/config.yaml",
            provenance=f"{RESULTS}/runs/{run.run_id}/provenance.json",
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
            spec=canonical(PLAN.finetune_spec(run.run_id)),
            data=subpath(input.manifest, parent=True),
            tokenizer=tokenizer_flag,
            encoded=encoded_flag,
            negatives=negatives_flag,
            run=subpath(output.config, parent=True),
            state=f"{RESULTS}/state/{run.run_id}",
            version=run_version(run),
        shell:
            "workflow/launch {resources.nodes} {resources.processes} --log {log} finetune"
            " --spec {params.spec:q} --data {params.data}"
            " --base {input.base} {params.tokenizer} {params.encoded} {params.negatives}"
            " --run {params.run} --state {params.state} --micro-batch {resources.micro_batch}"
            " --result-version {params.version:q}"


# The selected point of an experiment again, with other seeds.
rule finetune_final:
    input:
        unpack(lambda wildcards: data_of(PLAN.runs[wildcards.final].model)),
        selection=lambda wildcards: selection_file(
            PLAN.runs[wildcards.final].experiment
        ),
        base=lambda wildcards: PLAN.start_checkpoint(PLAN.runs[wildcards.final].start),
        tokenizer=lambda wildcards: tokenizer_of(PLAN.runs[wildcards.final].model),
        encoded=lambda wildcards: encoded_of(PLAN.runs[wildcards.final].model),
        negatives=lambda wildcards: negatives_of(PLAN.runs[wildcards.final]),
    output:
        checkpoint=f"{RESULTS}/runs/{{final}}/checkpoints/final.safetensors",
        config=f"{RESULTS}/runs/{{final}}/config.yaml",
        provenance=f"{RESULTS}/runs/{{final}}/provenance.json",
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
        spec=lambda wildcards: canonical(PLAN.finetune_spec(wildcards.final)),
        data=subpath(input.manifest, parent=True),
        tokenizer=tokenizer_flag,
        encoded=encoded_flag,
        negatives=negatives_flag,
        run=subpath(output.config, parent=True),
        state=f"{RESULTS}/state/{{final}}",
        version=lambda wildcards: run_version(PLAN.runs[wildcards.final]),
    shell:
        "workflow/launch {resources.nodes} {resources.processes} --log {log} finetune"
        " --spec {params.spec:q} --data {params.data} --selection {input.selection}"
        " --base {input.base} {params.tokenizer} {params.encoded} {params.negatives}"
        " --run {params.run} --state {params.state} --micro-batch {resources.micro_batch}"
        " --result-version {params.version:q}"
