# From traces, epochs and records to figures.
localrules:
    figure,


rule figure:
    input:
        lambda wildcards: HARNESS.drawn_from(wildcards.figure),
    output:
        HARNESS.figure("{figure}"),
    log:
        HARNESS.logs / "figures" / "{figure}.log",
    conda:
        ENVIRONMENT
    params:
        preset=HARNESS.config.preset,
        digest=lambda wildcards: HARNESS.table_digest(wildcards.figure),
    shell:
        "python -m reproduce figure {wildcards.figure} --preset {params.preset} > {log} 2>&1"
