# From records to tables, to a comparison with the paper's, and to one table of every number.
rule table:
    input:
        lambda wildcards: HARNESS.records(wildcards.table),
    output:
        report(
            HARNESS.table("{table}")[0],
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        HARNESS.table("{table}")[1:],
    log:
        HARNESS.logs / "tables" / "{table}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        preset=PRESET,
        digest=lambda wildcards: protocol_digest(HARNESS.config, wildcards.table),
    message:
        "Writing {wildcards.table}"
    shell:
        "python -m reproduce table {wildcards.table} --preset {params.preset} > {log:q} 2>&1"


rule compare:
    input:
        lambda wildcards: HARNESS.records(wildcards.table),
    output:
        report(
            HARNESS.diff("{table}"),
            caption="../report/comparison.rst",
            category="Comparison with the paper",
            labels={"table": "{table}"},
        ),
    log:
        HARNESS.logs / "diff" / "{table}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        preset=PRESET,
        digest=lambda wildcards: protocol_digest(HARNESS.config, wildcards.table),
        runs=lambda wildcards: HARNESS.compared_runs(wildcards.table),
    message:
        "Comparing {wildcards.table} with the paper"
    shell:
        "python -m reproduce diff {wildcards.table} --preset {params.preset} > {log:q} 2>&1"


rule checkpoints:
    input:
        lambda _: HARNESS.epochs(),
    output:
        HARNESS.table("checkpoints"),
    log:
        HARNESS.logs / "tables" / "checkpoints.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        preset=PRESET,
        digest=protocol_digest(HARNESS.config, "checkpoints"),
    message:
        "Writing the table of checkpoints"
    shell:
        "python -m reproduce table checkpoints --preset {params.preset} > {log:q} 2>&1"


# also of records that no experiment asks for; `reproduce results` takes in what came by hand
rule results:
    input:
        lambda _: HARNESS.all_records(),
    output:
        HARNESS.results,
    log:
        HARNESS.logs / "results.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        preset=PRESET,
        # the settings of every attack and training, as those of a table are
        digest=lambda _: protocol_digest(HARNESS.config, "results"),
    message:
        "Writing results.parquet"
    shell:
        "python -m reproduce results --preset {params.preset} > {log:q} 2>&1"
