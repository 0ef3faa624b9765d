# From traces to figures.
localrules:
    figure_war,


rule figure_war:
    input:
        lambda _: HARNESS.outputs("table3"),
    output:
        HARNESS.figure("war"),
    log:
        HARNESS.logs / "figures" / "war.log",
    conda:
        ENVIRONMENT
    params:
        preset=HARNESS.config.preset,
        digest=lambda _: HARNESS.table_digest("table3"),
    shell:
        "python -m reproduce figure war --preset {params.preset} > {log} 2>&1"
