# One page with everything.  It is computed from the runs and records themselves, as the tables and
# figures are; these are declared as its inputs because whatever changes a table, a figure or the
# claims changes the page, so they trigger the job, and nothing reads them.
rule report:
    input:
        HARNESS.shown(),
    output:
        report(
            paths.report_file(CONFIG), caption="../report/page.rst", category="Report"
        ),
    log:
        LOGS / "report.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        preset=PRESET,
        # it is printed whole
        digest=digest(resolved(CONFIG)),
    message:
        "Writing the report"
    shell:
        "python -m reproduce report --preset {params.preset} > {log:q} 2>&1"
