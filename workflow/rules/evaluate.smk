# One attack on one checkpoint; update() as in train.  Other weights always come with another
# run.json, which is small, so that Snakemake compares its content.
rule evaluate:
    input:
        images=lambda wildcards: ancient(HARNESS.images(wildcards.cell)[0]),
        manifest=lambda wildcards: HARNESS.manifests(wildcards.cell)[0],
        model=lambda wildcards: ancient(
            HARNESS.attacked_weights(wildcards.cell, wildcards.choice)
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
    conda:
        ENVIRONMENT
    threads: lambda wildcards: HARNESS.evaluation_threads(wildcards.cell.split("/")[0])
    resources:
        gpu=HARNESS.gpus,
        runtime=lambda wildcards, attempt: HARNESS.evaluation_request(
            **wildcards
        ).runtime(attempt),
        mem_mb=lambda wildcards, attempt: HARNESS.evaluation_request(
            **wildcards
        ).mem_mb(attempt),
    params:
        preset=PRESET,
        checkpoint=lambda wildcards: paths.checkpoint_of(wildcards.choice),
        attack=lambda wildcards: HARNESS.attack(wildcards.attack),
        digest=lambda wildcards: HARNESS.evaluation_spec(**wildcards).digest,
        limit=lambda wildcards, resources: HARNESS.limit(
            HARNESS.evaluation_request(**wildcards), resources.runtime
        ),
    message:
        "Attacking {wildcards.cell}{wildcards.choice} with {wildcards.attack}, seed {wildcards.seed}"
    shell:
        "python -m reproduce evaluate {wildcards.cell} --attack {params.attack}"
        " --seed {wildcards.seed} --checkpoint {params.checkpoint} --preset {params.preset}"
        " {params.limit} > {log:q} 2>&1"


# One attack on a published checkpoint.  The job succeeds also where the checkpoint cannot be
# had: its output says whether it could, and why not, and the table says it too.  So neither
# records nor checkpoints are declared: to try again delete the output.
rule evaluate_published:
    input:
        images=ancient(HARNESS.prepared / "{dataset}.npz"),
        manifest=HARNESS.prepared / "{dataset}.json",
    output:
        HARNESS.models / "{dataset}" / "{zoo}" / "{attack}-seed{seed}.json",
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
        runtime=lambda wildcards, attempt: HARNESS.published_request(
            **wildcards
        ).runtime(attempt),
        mem_mb=lambda wildcards, attempt: HARNESS.published_request(
            **wildcards
        ).mem_mb(attempt),
    params:
        preset=PRESET,
        attack=lambda wildcards: HARNESS.attack(wildcards.attack),
        digest=lambda wildcards: HARNESS.published_attack(**wildcards).spec.digest,
        limit=lambda wildcards, resources: HARNESS.limit(
            HARNESS.published_request(**wildcards), resources.runtime
        ),
    message:
        "Attacking published network {wildcards.zoo} with {wildcards.attack}, seed {wildcards.seed}"
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
        runtime=lambda wildcards, attempt: HARNESS.small_request.runtime(attempt),
        mem_mb=lambda wildcards, attempt: HARNESS.small_request.mem_mb(attempt),
    params:
        preset=PRESET,
        digest=HARNESS.examples_digest(),
    message:
        "Making adversarial examples"
    shell:
        "python -m reproduce examples --preset {params.preset} > {log:q} 2>&1"
