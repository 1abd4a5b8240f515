# A tier of the user's own images: an index of them, and their pixels for models of pixels.

from mclr.data.images.source import current_listing

# Looked at once a run, and not by its jobs: a large folder takes seconds.
LISTING = ""
if workflow.is_main_process:
    LISTING = current_listing(TIER.data, Path(FILES.prepared(None)["manifest"]))


ruleorder: prepare_images > prepare
ruleorder: prepare_images_smaller > prepare_smaller


localrules:
    prepare_images_smaller,


# The images are no input, since they may be elsewhere tomorrow. Their names are compared instead;
# that the bytes are still the same is checked when an image is read.
rule prepare_images:
    output:
        **FILES.prepared(None),
    log:
        f"{RESULTS}/logs/prepare.log",
    conda:
        "../../environment.yml"
    threads: SITE.evaluate.cpus
    resources:
        **SITE.resources("evaluate"),
    params:
        spec=as_it_is(canonical(TIER.data)),
        listing=LISTING,
        folder=subpath(output.manifest, parent=True),
        version=VERSIONS.of("prepare-images"),
    shell:
        "python -m mclr --threads {threads} --log {log} prepare-images"
        " --spec {params.spec:q} --output {params.folder}"


# The same splits for models of another resolution.
rule prepare_images_smaller:
    input:
        **FILES.prepared(None),
    output:
        **FILES.prepared("{resolution}"),
    log:
        f"{RESULTS}/logs/prepare-{{resolution}}px.log",
    conda:
        "../../environment.yml"
    params:
        spec=as_it_is(canonical(TIER.data)),
        prepared=subpath(input.manifest, parent=True),
        folder=subpath(output.manifest, parent=True),
        version=VERSIONS.of("prepare-images"),
    shell:
        "python -m mclr --log {log} prepare-images --spec {params.spec:q}"
        " --prepared {params.prepared} --resolution {wildcards.resolution}"
        " --output {params.folder}"


# Decoded once, for every model of pixels of this resolution.
use rule encode as encode_pixels with:
    input:
        unpack(inputs_of(JOBS.encode_pixels, "resolution")),
    output:
        FILES.pixels("{resolution}"),
    log:
        f"{RESULTS}/logs/encode/pixels-{{resolution}}px.log",
    benchmark:
        f"{RESULTS}/benchmarks/encode/pixels-{{resolution}}px.tsv"
    params:
        spec=spec_of(JOBS.encode_pixels, "resolution"),
        data=subpath(input.manifest, parent=True),
        tokenizer="",
        state=f"{RESULTS}/state/encode-pixels-{{resolution}}px",
        version=version_of(JOBS.encode_pixels, "resolution"),
