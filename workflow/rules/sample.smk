# Sampling: features of every image, and a small grid of images, per point and shard.


rule sample:
    input:
        unpack(inputs_of(JOBS.sample, "point", "shard")),
    output:
        features=FILES.features("{point}", "{shard}"),
        grid=FILES.grid("{point}", "{shard}"),
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
        spec=spec_of(JOBS.sample, "point", "shard"),
        tokenizer=flag_of("tokenizer"),
        guide=flag_of("guide", "base"),
        selection=flag_of("selection"),
        nets=lambda wildcards: net_flags(model_of(wildcards.point)),
        version=version_of(JOBS.sample, "point", "shard"),
    shell:
        "workflow/launch {resources.nodes} {resources.processes}"
        " --threads {resources.threads_each} --log {log} sample"
        " --spec {params.spec:q} --shard {wildcards.shard}"
        " --manifest {input.manifest} --weights {input.weights} {params.tokenizer}"
        " {params.guide} {params.selection}"
        " {params.nets} --output {output.features} --grid {output.grid}"
