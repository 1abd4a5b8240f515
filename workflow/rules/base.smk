# Base models, trained in the run.


rule tokenizer:
    input:
        unpack(lambda wildcards: data_of(wildcards.model)),
    output:
        f"{RESULTS}/tokenizers/{{model}}.safetensors",
    log:
        f"{RESULTS}/logs/tokenizer/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/tokenizer/{{model}}.tsv"
    conda:
        "../../environment.yml"
    threads: SITE.sample.cpus
    resources:
        **SITE.resources("sample"),
    params:
        spec=lambda wildcards: canonical(PLAN.tokenizer_spec(wildcards.model)),
        data=subpath(input.manifest, parent=True),
        state=f"{RESULTS}/state/tokenizer-{{model}}",
        code=code_digest("mclr.jobs.tokenizer"),
    shell:
        "python -m mclr --threads {threads} --log {log} tokenizer"
        " --spec {params.spec:q} --data {params.data}"
        " --output {output} --state {params.state}"


# Once for all jobs that train on it.
rule encode:
    input:
        unpack(lambda wildcards: data_of(wildcards.model)),
        tokenizer=lambda wildcards: tokenizer_of(wildcards.model),
    output:
        f"{RESULTS}/encoded/{{model}}.safetensors",
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
        spec=lambda wildcards: canonical(PLAN.encode_spec(wildcards.model)),
        data=subpath(input.manifest, parent=True),
        tokenizer=tokenizer_flag,
        state=f"{RESULTS}/state/encode-{{model}}",
        code=code_digest("mclr.jobs.encoding"),
    shell:
        "python -m mclr --threads {threads} --log {log} encode"
        " --spec {params.spec:q} --data {params.data}"
        " {params.tokenizer} --output {output} --state {params.state}"


# One rule per model, because the name of a checkpoint holds its step.
for model in TIER.models:

    rule:
        name:
            f"base_{model.replace('-', '_')}"
        input:
            **data_of(model),
            tokenizer=tokenizer_of(model),
            encoded=encoded_of(model),
        output:
            checkpoint=base_checkpoint(model),
            config=f"{RESULTS}/runs/{model}-base/config.yaml",
            provenance=f"{RESULTS}/runs/{model}-base/provenance.json",
        log:
            f"{RESULTS}/logs/base/{model}.log",
        benchmark:
            f"{RESULTS}/benchmarks/base/{model}.tsv"
        priority: 100
        conda:
            "../../environment.yml"
        threads: SITE.train.cpus
        resources:
            **SITE.resources("train"),
            micro_batch=0,
            processes=SITE.train.size,
        params:
            spec=canonical(PLAN.base_spec(model)),
            data=subpath(input.manifest, parent=True),
            tokenizer=tokenizer_flag,
            encoded=encoded_flag,
            run=subpath(output.config, parent=True),
            state=f"{RESULTS}/state/{model}-base",
            code=code_digest("mclr.jobs.training"),
        shell:
            "workflow/launch {resources.nodes} {resources.processes} --log {log} base"
            " --spec {params.spec:q} --data {params.data}"
            " {params.tokenizer} {params.encoded} --run {params.run} --state {params.state}"
            " --micro-batch {resources.micro_batch}"
