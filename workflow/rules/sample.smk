# Sampling: features of every image, and a small grid of images, per point and shard.


rule sample:
    input:
        manifest=lambda wildcards: manifest_of(model_of(wildcards.point)),
        weights=weights_of,
        tokenizer=lambda wildcards: tokenizer_of(model_of(wildcards.point)),
        guide=guide_of,
        selection=selection_of_point,
        nets=lambda wildcards: net_files(model_of(wildcards.point), "net.safetensors"),
    output:
        features=f"{RESULTS}/features/{{point}}/shard-{{shard}}.parquet",
        grid=f"{RESULTS}/grids/{{point}}/shard-{{shard}}.png",
    log:
        f"{RESULTS}/logs/sample/{{point}}/shard-{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sample/{{point}}/shard-{{shard}}.tsv"
    conda:
        "../../environment.yml"
    threads: SITE.sample.cpus
    resources:
        **SITE.resources("sample"),
        processes=SITE.sample.size,
        threads_each=threads_each,
        # Of those that share a Slurm job one runs at a time (workflow/profiles/slurm).
        turn=1,
    params:
        spec=lambda wildcards: canonical(PLAN.sample_spec(POINTS[wildcards.point])),
        tokenizer=tokenizer_flag,
        guide=guide_flag,
        selection=selection_flag,
        nets=lambda wildcards: net_flags(model_of(wildcards.point)),
        version=lambda wildcards: model_version("sample", model_of(wildcards.point)),
    shell:
        "workflow/launch {resources.nodes} {resources.processes}"
        " --threads {resources.threads_each} --log {log} sample"
        " --spec {params.spec:q} --shard {wildcards.shard}"
        " --manifest {input.manifest} --weights {input.weights} {params.tokenizer}"
        " {params.guide} {params.selection}"
        " {params.nets} --output {output.features} --grid {output.grid}"
