# From records to tables, and from tables to a comparison with the paper's.
localrules:
    table,
    compare,


def record_files(experiment):
    files = [
        paths.record_file(CELLS / e.cell.id, e.checkpoint, e.attack, e.seed)
        for e in experiment.evaluations
    ]
    return [*files, *(file.with_suffix(".json") for file in files)]


def records(wildcards):
    return record_files(find_experiment(CONFIG, wildcards.table))


def outputs(name):
    """Every file of an experiment, so that one that is lost is made again."""
    experiment = find_experiment(CONFIG, name)
    forms = [paths.table_file(CONFIG, name, suffix) for suffix in ("csv", "md", "tex")]
    runs = [file for cell in experiment.cells for file in run_files(CELLS / cell.id)]
    return [*forms, paths.diff_file(CONFIG, name), *record_files(experiment), *runs]


rule table:
    input:
        records,
    output:
        [paths.table_file(CONFIG, "{table}", suffix) for suffix in ("csv", "md", "tex")],
    params:
        digest=lambda wildcards: protocol_digest(CONFIG, wildcards.table),
    log:
        LOGS / "{table}.log",
    shell:
        "{COMMAND} table {wildcards.table} {SETTINGS} > {log} 2>&1"


rule compare:
    input:
        records,
    output:
        paths.diff_file(CONFIG, "{table}"),
    params:
        digest=lambda wildcards: protocol_digest(CONFIG, wildcards.table),
    log:
        LOGS / "diff" / "{table}.log",
    shell:
        "{COMMAND} diff {wildcards.table} {SETTINGS} > {log} 2>&1"
