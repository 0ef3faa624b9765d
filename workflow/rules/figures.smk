# From traces to figures.
localrules:
    figure_war,


rule figure_war:
    input:
        lambda _: HARNESS.traces_of_war(),
    output:
        HARNESS.figure("war"),
    log:
        HARNESS.logs / "figures" / "war.log",
    conda:
        ENVIRONMENT
    params:
        preset=HARNESS.config.preset,
    shell:
        "python -m reproduce figure war --preset {params.preset} > {log} 2>&1"
