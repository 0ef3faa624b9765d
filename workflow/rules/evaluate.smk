# One attack on one checkpoint; update() as in train.
rule evaluate:
    input:
        images=lambda wildcards: ancient(HARNESS.images(wildcards.cell)),
        manifest=lambda wildcards: HARNESS.manifest(wildcards.cell),
        model=lambda wildcards: HARNESS.attacked_weights(
            wildcards.cell, wildcards.choice
        ),
        run=HARNESS.cells / "{cell}" / "run.json",
    output:
        update(HARNESS.cells / "{cell}" / "records{choice}" / "{attack}-seed{seed}.npz"),
        update(
            HARNESS.cells / "{cell}" / "records{choice}" / "{attack}-seed{seed}.json"
        ),
    log:
        HARNESS.logs / "evaluate{choice}" / "{cell}" / "{attack}-seed{seed}.log",
    wildcard_constraints:
        cell=HARNESS.attacked,
    group:
        attacks_together
    conda:
        ENVIRONMENT
    threads: lambda wildcards: HARNESS.evaluation_threads(wildcards.cell.split("/")[0])
    resources:
        gpu=HARNESS.gpus,
        # a limit of one lets the attacks of a group take turns, on one GPU
        turn=1,
        runtime=lambda wildcards, attempt: HARNESS.evaluation_work(
            **wildcards
        ).runtime(attempt),
        mem_mb=lambda wildcards, attempt: HARNESS.evaluation_work(
            **wildcards
        ).megabytes(attempt),
    params:
        preset=HARNESS.config.preset,
        checkpoint=lambda wildcards: paths.checkpoint_of(wildcards.choice),
        attack=lambda wildcards: HARNESS.attack(wildcards.attack),
        digest=lambda wildcards: HARNESS.evaluation_digest(**wildcards),
        freshened=freshened,
        limit=lambda wildcards, resources: HARNESS.time_limit(
            HARNESS.evaluation_work(**wildcards), resources.runtime
        ),
    shell:
        "python -m reproduce evaluate {wildcards.cell} --attack {params.attack}"
        " --seed {wildcards.seed} --checkpoint {params.checkpoint} --preset {params.preset}"
        " {params.limit} > {log:q} 2>&1 && {params.freshened}"


# One attack on a published checkpoint.  The job succeeds also where the checkpoint cannot be
# had: its output says whether it could, and why not, and the table says it too.  Records are no
# declared outputs for that reason, and checkpoints no inputs: to try again delete the output.
rule evaluate_published:
    input:
        images=ancient(HARNESS.prepared / "{dataset}.npz"),
        manifest=HARNESS.prepared / "{dataset}.json",
    output:
        update(HARNESS.models / "{dataset}" / "{zoo}" / "{attack}-seed{seed}.json"),
    log:
        HARNESS.logs
        / "evaluate-published"
        / "{dataset}"
        / "{zoo}"
        / "{attack}-seed{seed}.log",
    conda:
        ENVIRONMENT
    threads: lambda wildcards: HARNESS.evaluation_threads(wildcards.dataset)
    resources:
        gpu=HARNESS.gpus,
        runtime=lambda wildcards, attempt: HARNESS.published_work(**wildcards).runtime(
            attempt
        ),
        mem_mb=lambda wildcards, attempt: HARNESS.published_work(
            **wildcards
        ).megabytes(attempt),
    params:
        preset=HARNESS.config.preset,
        attack=lambda wildcards: HARNESS.attack(wildcards.attack),
        digest=lambda wildcards: HARNESS.published_digest(**wildcards),
        limit=lambda wildcards, resources: HARNESS.time_limit(
            HARNESS.published_work(**wildcards), resources.runtime
        ),
    shell:
        "python -m reproduce evaluate --zoo {wildcards.zoo} --dataset {wildcards.dataset}"
        " --optional --attack {params.attack} --seed {wildcards.seed} --preset {params.preset}"
        " {params.limit} > {log:q} 2>&1"


# The adversarial images themselves, of a few test images and two networks; update() as in train.
rule examples:
    input:
        lambda _: HARNESS.attacked_examples(),
    output:
        update(HARNESS.examples),
    log:
        HARNESS.logs / "examples.log",
    conda:
        ENVIRONMENT
    threads: HARNESS.config.machine.threads
    resources:
        gpu=HARNESS.gpus,
        runtime=lambda wildcards, attempt: HARNESS.small_work.runtime(attempt),
        mem_mb=lambda wildcards, attempt: HARNESS.small_work.megabytes(attempt),
    params:
        preset=HARNESS.config.preset,
        digest=HARNESS.examples_digest(),
    shell:
        "python -m reproduce examples --preset {params.preset} > {log:q} 2>&1 && touch -c -- {output:q}"
