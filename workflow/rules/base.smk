# Base models: trained in the run, or taken over from those who trained them.


TRAINED = {
    role: "|".join(m for m in TIER.models if not released_of(m, role)) or "none"
    for role in ("base", "guide", "tokenizer")
}
TAKEN_OVER = {
    role: "|".join(m for m in TIER.models if released_of(m, role)) or "none"
    for role in ("base", "guide", "tokenizer")
}


rule tokenizer:
    input:
        unpack(lambda wildcards: data_of(wildcards.model)),
    output:
        f"{RESULTS}/tokenizers/{{model}}.safetensors",
    log:
        f"{RESULTS}/logs/tokenizer/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/tokenizer/{{model}}.tsv"
    wildcard_constraints:
        model=TRAINED["tokenizer"],
    conda:
        "../../environment.yml"
    threads: SITE.sample.cpus
    resources:
        **SITE.resources("sample"),
    params:
        spec=lambda wildcards: canonical(PLAN.tokenizer_spec(wildcards.model)),
        data=subpath(input.manifest, parent=True),
        state=f"{RESULTS}/state/tokenizer-{{model}}",
        version=lambda wildcards: model_version("tokenizer", wildcards.model),
    shell:
        "python -m mclr --threads {threads} --log {log} tokenizer"
        " --spec {params.spec:q} --data {params.data}"
        " --output {output} --state {params.state}"
        " --result-version {params.version:q}"


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
        version=lambda wildcards: model_version("encode", wildcards.model),
    shell:
        "python -m mclr --threads {threads} --log {log} encode"
        " --spec {params.spec:q} --data {params.data}"
        " {params.tokenizer} --output {output} --state {params.state}"
        " --result-version {params.version:q}"


rule import_tokenizer:
    input:
        manifest=lambda wildcards: manifest_of(wildcards.model),
        source=lambda wildcards: released_of(wildcards.model, "tokenizer"),
    output:
        f"{RESULTS}/tokenizers/{{model}}.safetensors",
    log:
        f"{RESULTS}/logs/tokenizer/{{model}}.log",
    wildcard_constraints:
        model=TAKEN_OVER["tokenizer"],
    conda:
        "../../environment.yml"
    params:
        spec=lambda wildcards: canonical(PLAN.encode_spec(wildcards.model)),
        source=source_flag,
        version=lambda wildcards: model_version("import-tokenizer", wildcards.model),
    shell:
        "python -m mclr --log {log} import-tokenizer --spec {params.spec:q}"
        " --manifest {input.manifest} {params.source} --output {output}"


# Which networks a model has: its base, and a guide of its own if it names one.
NETWORKS = [("base", model) for model in TIER.models]
NETWORKS += [("guide", m) for m, s in TIER.models.items() if getattr(s, "guide", None)]


# One rule per network, because the name of a checkpoint holds its step.
for role, model in NETWORKS:
    if released_of(model, role):
        continue

    rule:
        name:
            f"{role}_{model.replace('-', '_')}"
        input:
            **data_of(model),
            tokenizer=tokenizer_of(model),
            encoded=encoded_of(model),
        output:
            checkpoint=network_checkpoint(role, model),
            config=f"{RESULTS}/runs/{model}-{role}/config.yaml",
            provenance=f"{RESULTS}/runs/{model}-{role}/provenance.json",
        log:
            f"{RESULTS}/logs/{role}/{model}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{role}/{model}.tsv"
        priority: 100
        conda:
            "../../environment.yml"
        threads: SITE.train.cpus
        resources:
            **SITE.resources("train"),
            micro_batch=0,
            processes=SITE.train.size,
        params:
            spec=canonical(network_spec(role, model)),
            data=subpath(input.manifest, parent=True),
            tokenizer=tokenizer_flag,
            encoded=encoded_flag,
            run=subpath(output.config, parent=True),
            state=f"{RESULTS}/state/{model}-{role}",
            version=model_version("base", model),
        shell:
            "workflow/launch {resources.nodes} {resources.processes} --log {log} base"
            " --spec {params.spec:q} --data {params.data}"
            " {params.tokenizer} {params.encoded} --run {params.run} --state {params.state}"
            " --micro-batch {resources.micro_batch}"
            " --result-version {params.version:q}"


for role, model in NETWORKS:
    if not released_of(model, role):
        continue

    rule:
        name:
            f"import_{role}_{model.replace('-', '_')}"
        input:
            manifest=manifest_of(model),
            source=released_of(model, role),
            tokenizer=tokenizer_of(model),
        output:
            checkpoint=network_checkpoint(role, model),
            config=f"{RESULTS}/runs/{model}-{role}/config.yaml",
            provenance=f"{RESULTS}/runs/{model}-{role}/provenance.json",
        log:
            f"{RESULTS}/logs/{role}/{model}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{role}/{model}.tsv"
        conda:
            "../../environment.yml"
        resources:
            **SITE.resources("evaluate"),
        params:
            spec=canonical(network_spec(role, model)),
            source=source_flag,
            tokenizer=tokenizer_flag,
            run=subpath(output.config, parent=True),
            version=model_version("import-base", model),
        shell:
            "python -m mclr --log {log} import-base --spec {params.spec:q}"
            " --manifest {input.manifest} {params.source} {params.tokenizer}"
            " --run {params.run}"
            " --result-version {params.version:q}"
