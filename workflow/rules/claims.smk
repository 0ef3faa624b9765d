# From traces, epochs and records to verdicts on the paper's claims.
rule claims:
    input:
        lambda _: HARNESS.judged_from(),
    output:
        HARNESS.claims,
    log:
        HARNESS.logs / "claims.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        preset=PRESET,
        digest=lambda _: HARNESS.claims_digest(),
    message:
        "Testing the claims of the paper"
    shell:
        "python -m reproduce claims --preset {params.preset} > {log:q} 2>&1"
