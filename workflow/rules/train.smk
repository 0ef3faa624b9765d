# One training run.  update() keeps results when Snakemake starts the job again, for whatever
# reason (files moved, the rule's text changed): the job itself knows whether they are of these
# settings and images, and then only touches them.  Its saved state, from which an unfinished
# run continues, is no declared output at all.
rule train:
    input:
        images=lambda wildcards: ancient(HARNESS.images(wildcards.cell)),
        manifest=lambda wildcards: HARNESS.manifest(wildcards.cell),
        # of the methods that train with extra images
        extra=lambda wildcards: ancient(HARNESS.extra_images(wildcards.cell)),
        extra_manifest=lambda wildcards: HARNESS.extra_manifest(wildcards.cell),
        # the digest covers their settings; made again with the same, they are the same
        trained_first=lambda wildcards: ancient(HARNESS.trained_first(wildcards.cell)),
    output:
        update(HARNESS.run_files(HARNESS.cells / "{cell}")),
    log:
        HARNESS.logs / "train" / "{cell}.log",
    wildcard_constraints:
        cell=HARNESS.trained,
    conda:
        ENVIRONMENT
    threads: lambda wildcards: HARNESS.training_threads(wildcards.cell)
    resources:
        gpu=lambda wildcards: HARNESS.gpus_of(wildcards.cell),
        # no parameter: another number of GPUs is no reason to run a job again
        launcher=lambda wildcards: HARNESS.launcher(wildcards.cell),
        # of no meaning on one machine
        runtime=lambda wildcards, attempt: HARNESS.training_work(
            wildcards.cell
        ).runtime(attempt),
        mem_mb=lambda wildcards, attempt: HARNESS.training_work(
            wildcards.cell
        ).megabytes(attempt),
    params:
        preset=HARNESS.config.preset,
        # a changed hyper-parameter changes the digest of exactly the cells it touches
        digest=lambda wildcards: HARNESS.training_digest(wildcards.cell),
        # derived from resources, so that another one is no reason to run a job again
        freshened=freshened,
        limit=lambda wildcards, resources: HARNESS.time_limit(
            HARNESS.training_work(wildcards.cell), resources.runtime
        ),
    shell:
        "{resources.launcher} train {wildcards.cell} --preset {params.preset}"
        " {params.limit} > {log:q} 2>&1 && {params.freshened}"
