# One training run.  update() keeps results when Snakemake starts the job again, for whatever
# reason (files moved, the rule's text changed): the job itself knows whether they are of these
# settings and images, and leaves them then.  Its saved state, from which an unfinished run
# continues, is no declared output at all.
rule train:
    input:
        images=lambda wildcards: ancient(HARNESS.images(wildcards.cell)),
        manifests=lambda wildcards: HARNESS.manifests(wildcards.cell),
        # the digest covers its settings; trained again with the same, it is the same
        trained_first=lambda wildcards: ancient(HARNESS.trained_first(wildcards.cell)),
    output:
        update(HARNESS.run_files("{cell}")),
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
        runtime=lambda wildcards, attempt: HARNESS.training_request(
            wildcards.cell
        ).runtime(attempt),
        mem_mb=lambda wildcards, attempt: HARNESS.training_request(
            wildcards.cell
        ).mem_mb(attempt),
    params:
        preset=PRESET,
        # a changed hyper-parameter changes the digest of exactly the cells it touches
        digest=lambda wildcards: HARNESS.training_digest(wildcards.cell),
        # derived from resources, so that another one is no reason to run a job again
        limit=lambda wildcards, resources: HARNESS.limit(
            HARNESS.training_request(wildcards.cell), resources.runtime
        ),
    message:
        "Training {wildcards.cell}"
    shell:
        "{resources.launcher} train {wildcards.cell} --preset {params.preset}"
        " {params.limit} > {log:q} 2>&1"
