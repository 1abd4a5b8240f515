# Sampling: features of every image, and a small grid of images, per point and shard.


rule sample:
    input:
        manifest=rules.prepare.output.manifest,
        weights=weights_of,
        tokenizer=lambda wildcards: tokenizer_of(POINTS[wildcards.point].run.model),
        nets=[f"{folder}/net.safetensors" for folder in NETS.values()],
    output:
        features=f"{RESULTS}/features/{{point}}/shard-{{shard}}.parquet",
        grid=f"{RESULTS}/grids/{{point}}/shard-{{shard}}.png",
    log:
        f"{RESULTS}/logs/sample/{{point}}/shard-{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sample/{{point}}/shard-{{shard}}.tsv"
    wildcard_constraints:
        point=r"[^/]+/[^/]+/step-\d+/guidance-[^/]+/seed-\d+",
    conda:
        "../../environment.yml"
    threads: SITE.sample.cpus
    resources:
        **SITE.resources("sample"),
    params:
        spec=lambda wildcards: canonical(PLAN.sample_spec(POINTS[wildcards.point])),
        tokenizer=tokenizer_flag,
        nets=" ".join(f"--features {name}={folder}" for name, folder in NETS.items()),
        code=code_digest("mclr.jobs.sampling"),
    shell:
        "python -m mclr --threads {threads} --log {log} sample"
        " --spec {params.spec:q} --shard {wildcards.shard}"
        " --manifest {input.manifest} --weights {input.weights} {params.tokenizer}"
        " {params.nets} --output {output.features} --grid {output.grid}"
