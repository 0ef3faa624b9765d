# One attack on one checkpoint.


def choice_of(wildcards):
    return wildcards.choice.removeprefix("-") or "best-test"


rule evaluate:
    input:
        images=lambda wildcards: ancient(prepared_images(wildcards)),
        manifest=prepared_manifest,
        model=CELLS / "{cell}" / "model{choice}.safetensors",
        run=CELLS / "{cell}" / "run.json",
    output:
        CELLS / "{cell}" / "records{choice}" / "{attack}-seed{seed}.npz",
        CELLS / "{cell}" / "records{choice}" / "{attack}-seed{seed}.json",
    params:
        choice=choice_of,
        digest=lambda wildcards: evaluation_spec(
            CONFIG,
            parse_cell(wildcards.cell),
            wildcards.attack,
            int(wildcards.seed),
            choice_of(wildcards),
        ).digest,
    log:
        LOGS / "evaluate{choice}" / "{cell}" / "{attack}-seed{seed}.log",
    threads: CONFIG.machine.threads
    resources:
        gpu=GPUS,
    shell:
        "{COMMAND} evaluate {wildcards.cell} --attack {wildcards.attack} --seed {wildcards.seed}"
        " --checkpoint {params.choice} {SETTINGS} > {log} 2>&1"
