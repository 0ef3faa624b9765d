# One training run.  Its saved state is no declared output: Snakemake would delete it when
# the job runs again, and the job continues from it.
rule train:
    input:
        images=lambda wildcards: ancient(HARNESS.images(wildcards.cell)),
        manifest=lambda wildcards: HARNESS.manifest(wildcards.cell),
    output:
        HARNESS.run_files(HARNESS.cells / "{cell}"),
    log:
        HARNESS.logs / "train" / "{cell}.log",
    conda:
        ENVIRONMENT
    threads: HARNESS.config.machine.threads
    resources:
        gpu=HARNESS.gpus,
    params:
        preset=HARNESS.config.preset,
        # a changed hyper-parameter changes the digest of exactly the cells it touches
        digest=lambda wildcards: HARNESS.training_digest(wildcards.cell),
    shell:
        "python -m reproduce train {wildcards.cell} --preset {params.preset} > {log} 2>&1"
