# Fine-tuning: one job per (model, objective, hyperparameters, seed).


rule negatives:
    input:
        manifest=rules.prepare.output.manifest,
        base=lambda wildcards: base_checkpoint(wildcards.model),
        tokenizer=lambda wildcards: tokenizer_of(wildcards.model),
    output:
        f"{RESULTS}/negatives/{{model}}.safetensors",
    log:
        f"{RESULTS}/logs/negatives/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/negatives/{{model}}.tsv"
    conda:
        "../../environment.yml"
    threads: SITE.sample.cpus
    resources:
        **SITE.resources("sample"),
    params:
        spec=lambda wildcards: canonical(PLAN.negatives_spec(wildcards.model)),
        tokenizer=tokenizer_flag,
        code=code_digest("mclr.jobs.sampling"),
    shell:
        "python -m mclr --threads {threads} --log {log} negatives"
        " --spec {params.spec:q} --manifest {input.manifest}"
        " --weights {input.base} {params.tokenizer} --output {output}"


# One rule per run, because each run has its own checkpoints.
for run in PLAN.runs.values():
    if run.is_base:
        continue

    rule:
        name:
            f"finetune_{run.run_id.replace('-', '_').replace('.', '_')}"
        input:
            **DATA,
            base=base_checkpoint(run.model),
            tokenizer=tokenizer_of(run.model),
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
            negatives=negatives_flag,
            run=subpath(output.config, parent=True),
            state=f"{RESULTS}/state/{run.run_id}",
            code=code_digest("mclr.jobs.training"),
        shell:
            "workflow/launch {resources.nodes} {resources.processes} --log {log} finetune"
            " --spec {params.spec:q} --data {params.data}"
            " --base {input.base} {params.tokenizer} {params.negatives}"
            " --run {params.run} --state {params.state} --micro-batch {resources.micro_batch}"
