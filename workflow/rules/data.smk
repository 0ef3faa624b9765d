# From the configured source to the prepared images.  A local rule: it may need the network.
rule prepare:
    output:
        images=HARNESS.prepared / "{source}.npz",
        # small, so that Snakemake compares its content: the same images again change nothing
        manifest=HARNESS.prepared / "{source}.json",
    log:
        HARNESS.logs / "prepare" / "{source}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        source=lambda wildcards: HARNESS.source(wildcards.source),
    message:
        "Preparing the images of {wildcards.source}"
    shell:
        "python -m reproduce prepare {wildcards.source} > {log:q} 2>&1"
