# From the configured source to the prepared images.  A local rule: it may need the network.
localrules:
    prepare,


rule prepare:
    output:
        images=HARNESS.prepared / "{dataset}.npz",
        # small, so that Snakemake compares its content: the same images again change nothing
        manifest=HARNESS.prepared / "{dataset}.json",
    log:
        HARNESS.logs / "prepare" / "{dataset}.log",
    conda:
        ENVIRONMENT
    params:
        source=lambda wildcards: HARNESS.source(wildcards.dataset),
    shell:
        "python -m reproduce prepare {wildcards.dataset} > {log} 2>&1"
