# One training run.  Its saved state is no declared output, so a job run again continues.


def prepared_images(wildcards):
    return PREPARED / f"{parse_cell(wildcards.cell).dataset}.npz"


def prepared_manifest(wildcards):
    return PREPARED / f"{parse_cell(wildcards.cell).dataset}.json"


def run_files(folder):
    return paths.run_files(folder, checkpoints(CONFIG.train))


rule train:
    input:
        images=lambda wildcards: ancient(prepared_images(wildcards)),
        manifest=prepared_manifest,
    output:
        run_files(CELLS / "{cell}"),
    params:
        # a changed hyper-parameter changes the digest of exactly the cells it touches
        digest=lambda wildcards: training_spec(CONFIG, parse_cell(wildcards.cell)).digest,
    log:
        LOGS / "train" / "{cell}.log",
    threads: CONFIG.machine.threads
    resources:
        gpu=GPUS,
    shell:
        "{COMMAND} train {wildcards.cell} {SETTINGS} > {log} 2>&1"
