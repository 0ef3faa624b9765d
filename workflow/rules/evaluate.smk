# One attack on one checkpoint; update() as in train.  Other weights always come with another
# run.json, which is small, so that Snakemake compares its content.
rule evaluate:
    input:
        images=lambda w: ancient(HARNESS.images(w.cell)[0]),
        manifest=lambda w: HARNESS.manifests(w.cell)[0],
        model=lambda w: ancient(HARNESS.weights(w.cell, w.choice)),
        run=CELLS / "{cell}" / "run.json",
    output:
        update(CELLS / "{cell}" / "records{choice}" / "{attack}-seed{seed}.npz"),
        update(CELLS / "{cell}" / "records{choice}" / "{attack}-seed{seed}.json"),
    log:
        LOGS / "evaluate{choice}" / "{cell}" / "{attack}-seed{seed}.log",
    wildcard_constraints:
        cell=HARNESS.attacked,
    conda:
        ENVIRONMENT
    threads: lambda w: HARNESS.job(w).threads
    resources:
        **RESOURCES,
    params:
        preset=PRESET,
        checkpoint=lambda w: paths.checkpoint_of(w.choice),
        attack=lambda w: HARNESS.attack(w.attack),
        digest=lambda w: HARNESS.job(w).digest,
        limit=lambda w, resources: HARNESS.limit(w, resources.runtime),
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
        images=ancient(PREPARED / "{dataset}.npz"),
        manifest=PREPARED / "{dataset}.json",
    output:
        ROOT / "models" / "{dataset}" / "{zoo}" / "{attack}-seed{seed}.json",
    log:
        LOGS / "evaluate-published" / "{dataset}" / "{zoo}" / "{attack}-seed{seed}.log",
    conda:
        ENVIRONMENT
    threads: lambda w: HARNESS.job(w).threads
    resources:
        **RESOURCES,
    params:
        preset=PRESET,
        attack=lambda w: HARNESS.attack(w.attack),
        digest=lambda w: HARNESS.job(w).digest,
        limit=lambda w, resources: HARNESS.limit(w, resources.runtime),
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
        LOGS / "examples.log",
    conda:
        ENVIRONMENT
    threads: lambda w: HARNESS.job(w).threads
    resources:
        **RESOURCES,
    params:
        preset=PRESET,
        digest=HARNESS.examples_digest(),
    message:
        "Making adversarial examples"
    shell:
        "python -m reproduce examples --preset {params.preset} > {log:q} 2>&1"
