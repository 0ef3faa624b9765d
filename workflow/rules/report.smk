# One page with everything.  It is computed from the runs and records themselves, as the tables and
# figures are; these are declared as its inputs because whatever changes a table, a figure or the
# claims changes the page, so they trigger the job, and nothing reads them.
rule report:
    input:
        HARNESS.report_inputs(),
    output:
        report(HARNESS.report, caption="../report/page.rst", category="Report"),
    log:
        HARNESS.logs / "report.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        preset=PRESET,
        digest=HARNESS.report_digest(),
    message:
        "Writing the report"
    shell:
        "python -m reproduce report --preset {params.preset} > {log:q} 2>&1"
