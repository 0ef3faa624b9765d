# One attack on one checkpoint; update() as in train.
rule evaluate:
    input:
        images=lambda wildcards: ancient(HARNESS.images(wildcards.cell)),
        manifest=lambda wildcards: HARNESS.manifest(wildcards.cell),
        model=HARNESS.cells / "{cell}" / "model{choice}.safetensors",
        run=HARNESS.cells / "{cell}" / "run.json",
    output:
        update(HARNESS.cells / "{cell}" / "records{choice}" / "{attack}-seed{seed}.npz"),
        update(
            HARNESS.cells / "{cell}" / "records{choice}" / "{attack}-seed{seed}.json"
        ),
    log:
        HARNESS.logs / "evaluate{choice}" / "{cell}" / "{attack}-seed{seed}.log",
    conda:
        ENVIRONMENT
    threads: HARNESS.config.machine.threads * HARNESS.config.machine.processes
    resources:
        gpu=HARNESS.gpus,
    params:
        preset=HARNESS.config.preset,
        checkpoint=lambda wildcards: paths.checkpoint_of(wildcards.choice),
        attack=lambda wildcards: HARNESS.attack(wildcards.attack),
        digest=lambda wildcards: HARNESS.evaluation_digest(**wildcards),
    shell:
        "python -m reproduce evaluate {wildcards.cell} --attack {params.attack}"
        " --seed {wildcards.seed} --checkpoint {params.checkpoint} --preset {params.preset}"
        " > {log} 2>&1 && touch -c {output}"
