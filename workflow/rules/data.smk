# From the configured source to the prepared images.  A local rule: it may need the network.
rule prepare:
    output:
        images=PREPARED / "{source}.npz",
        # small, so that Snakemake compares its content: the same images again change nothing
        manifest=PREPARED / "{source}.json",
    log:
        LOGS / "prepare" / "{source}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        source=lambda w: HARNESS.source(w.source),
    message:
        "Preparing the images of {wildcards.source}"
    shell:
        "python -m reproduce prepare {wildcards.source} > {log:q} 2>&1"
