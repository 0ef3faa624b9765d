# One training run.  update() keeps results when Snakemake starts the job again, for whatever
# reason (files moved, the rule's text changed): the job itself knows whether they are of these
# settings and images, and leaves them then.  Its saved state, from which an unfinished run
# continues, is no declared output at all.
rule train:
    input:
        images=lambda w: ancient(HARNESS.images(w.cell)),
        manifests=lambda w: HARNESS.manifests(w.cell),
        # the digest covers its settings; trained again with the same, it is the same
        trained_first=lambda w: ancient(HARNESS.trained_first(w.cell)),
    output:
        update(paths.run_files(CELLS / "{cell}", checkpoints(CONFIG.train))),
    log:
        LOGS / "train" / "{cell}.log",
    wildcard_constraints:
        cell=HARNESS.trained,
    conda:
        ENVIRONMENT
    threads: lambda w: HARNESS.job(w).threads
    resources:
        **RESOURCES,
        # no parameter: another number of GPUs is no reason to run a job again
        launcher=lambda w: HARNESS.job(w).launcher,
    params:
        preset=PRESET,
        # a changed hyper-parameter changes the digest of exactly the cells it touches
        digest=lambda w: HARNESS.job(w).digest,
        # derived from resources, so that another one is no reason to run a job again
        limit=lambda w, resources: HARNESS.limit(w, resources.runtime),
    message:
        "Training {wildcards.cell}"
    shell:
        "{resources.launcher} train {wildcards.cell} --preset {params.preset}"
        " {params.limit} > {log:q} 2>&1"
