# From records to tables, and from tables to a comparison with the paper's.
localrules:
    table,
    compare,


rule table:
    input:
        lambda wildcards: HARNESS.records(wildcards.table),
    output:
        HARNESS.table("{table}"),
    log:
        HARNESS.logs / "tables" / "{table}.log",
    conda:
        ENVIRONMENT
    params:
        preset=HARNESS.config.preset,
        digest=lambda wildcards: HARNESS.table_digest(wildcards.table),
    shell:
        "python -m reproduce table {wildcards.table} --preset {params.preset} > {log} 2>&1"


rule compare:
    input:
        lambda wildcards: HARNESS.records(wildcards.table),
    output:
        HARNESS.diff("{table}"),
    log:
        HARNESS.logs / "diff" / "{table}.log",
    conda:
        ENVIRONMENT
    params:
        preset=HARNESS.config.preset,
        digest=lambda wildcards: HARNESS.table_digest(wildcards.table),
    shell:
        "python -m reproduce diff {wildcards.table} --preset {params.preset} > {log} 2>&1"
