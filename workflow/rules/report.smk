# One page with everything, from what the tables and figures are made of.
localrules:
    report,


rule report:
    input:
        HARNESS.report_inputs(),
    output:
        report(HARNESS.report, caption="../report/page.rst", category="Report"),
    log:
        HARNESS.logs / "report.log",
    conda:
        ENVIRONMENT
    params:
        preset=HARNESS.config.preset,
        digest=HARNESS.report_digest(),
    shell:
        "python -m reproduce report --preset {params.preset} > {log} 2>&1"
