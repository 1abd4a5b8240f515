# Base models, trained in the run.


def tokenizer_of(model):
    """The tokenizer a model's jobs need: a list that is empty for models of pixels."""
    has_tokenizer = hasattr(TIER.models[model], "tokenizer")
    return [f"{RESULTS}/tokenizers/{model}.safetensors"] if has_tokenizer else []


def base_checkpoint(model):
    run = PLAN.runs[f"{model}-base"]
    return checkpoint_path(NAME, run.run_id, run.checkpoints[-1])


def tokenizer_flag(wildcards, input):
    return f"--tokenizer {input.tokenizer}" if input.tokenizer else ""


rule tokenizer:
    input:
        rules.prepare.output,
    output:
        f"{RESULTS}/tokenizers/{{model}}.safetensors",
    params:
        spec=lambda wildcards: canonical(PLAN.tokenizer_spec(wildcards.model)),
        data=PREPARED,
        state=f"{RESULTS}/state/tokenizer-{{model}}",
        code=code_digest("mclr.jobs.training"),
    log:
        f"{RESULTS}/logs/tokenizer/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/tokenizer/{{model}}.tsv"
    shell:
        "mclr --log {log} tokenizer --spec {params.spec:q} --data {params.data}"
        " --output {output} --state {params.state}"


# One rule per model, because the name of a checkpoint holds its step.
for model in TIER.models:

    rule:
        name:
            f"base_{model.replace('-', '_')}"
        input:
            data=rules.prepare.output,
            tokenizer=tokenizer_of(model),
        output:
            checkpoint=base_checkpoint(model),
            config=f"{RESULTS}/runs/{model}-base/config.yaml",
            provenance=f"{RESULTS}/runs/{model}-base/provenance.json",
        params:
            spec=canonical(PLAN.base_spec(model)),
            data=PREPARED,
            tokenizer=tokenizer_flag,
            run=subpath(output.config, parent=True),
            state=f"{RESULTS}/state/{model}-base",
            code=code_digest("mclr.jobs.training"),
        log:
            f"{RESULTS}/logs/base/{model}.log",
        benchmark:
            f"{RESULTS}/benchmarks/base/{model}.tsv"
        priority: 100
        shell:
            "mclr --log {log} base --spec {params.spec:q} --data {params.data}"
            " {params.tokenizer} --run {params.run} --state {params.state}"
