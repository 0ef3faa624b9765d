# From traces, epochs and records to verdicts on the paper's claims.
rule claims:
    input:
        lambda _: HARNESS.run_files(planned_runs(CONFIG)),
        lambda _: HARNESS.records(),
    output:
        paths.claims_file(CONFIG),
    log:
        LOGS / "claims.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        preset=PRESET,
        digest=[protocol_digest(CONFIG, name) for name in experiment_names(CONFIG)],
    message:
        "Testing the claims of the paper"
    shell:
        "python -m reproduce claims --preset {params.preset} > {log:q} 2>&1"
