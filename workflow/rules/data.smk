# From the configured source to the prepared images.  A local rule: it may need the network.
localrules:
    prepare,


rule prepare:
    output:
        images=PREPARED / "{dataset}.npz",
        # small, so that Snakemake compares its content: the same images again change nothing
        manifest=PREPARED / "{dataset}.json",
    params:
        source=lambda wildcards: getattr(CONFIG.data, wildcards.dataset, "embedded"),
    log:
        LOGS / "prepare" / "{dataset}.log",
    shell:
        "{COMMAND} prepare {wildcards.dataset} {SETTINGS} > {log} 2>&1"
