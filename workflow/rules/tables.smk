# From records to tables, to a comparison with the paper's, and to one table of every number.
rule table:
    input:
        lambda w: HARNESS.records(w.table),
    output:
        report(
            HARNESS.table("{table}")[0],
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        HARNESS.table("{table}")[1:],
    log:
        LOGS / "tables" / "{table}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        preset=PRESET,
        digest=lambda w: protocol_digest(CONFIG, w.table),
    message:
        "Writing {wildcards.table}"
    shell:
        "python -m reproduce table {wildcards.table} --preset {params.preset} > {log:q} 2>&1"


rule compare:
    input:
        lambda w: HARNESS.records(w.table),
    output:
        report(
            paths.diff_file(CONFIG, "{table}"),
            caption="../report/comparison.rst",
            category="Comparison with the paper",
            labels={"table": "{table}"},
        ),
    log:
        LOGS / "diff" / "{table}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        preset=PRESET,
        digest=lambda w: protocol_digest(CONFIG, w.table),
        runs=lambda w: HARNESS.compared_runs(w.table),
    message:
        "Comparing {wildcards.table} with the paper"
    shell:
        "python -m reproduce diff {wildcards.table} --preset {params.preset} > {log:q} 2>&1"


rule checkpoints:
    input:
        lambda _: [paths.epochs_file(CELLS / cell.id) for cell in planned_runs(CONFIG)],
        lambda _: [paths.run_file(CELLS / cell.id) for cell in planned_runs(CONFIG)],
    output:
        HARNESS.table("checkpoints"),
    log:
        LOGS / "tables" / "checkpoints.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        preset=PRESET,
        digest=protocol_digest(CONFIG, "checkpoints"),
    message:
        "Writing the table of checkpoints"
    shell:
        "python -m reproduce table checkpoints --preset {params.preset} > {log:q} 2>&1"


# also of records that no experiment asks for; `reproduce results` takes in what came by hand
rule results:
    input:
        lambda _: HARNESS.records(),
    output:
        paths.results_file(CONFIG),
    log:
        LOGS / "results.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        preset=PRESET,
        # the settings of every attack and training, as those of a table are
        digest=protocol_digest(CONFIG, "results"),
    message:
        "Writing results.parquet"
    shell:
        "python -m reproduce results --preset {params.preset} > {log:q} 2>&1"
