# From traces, epochs and records to figures.
localrules:
    figure,


rule figure:
    input:
        lambda wildcards: HARNESS.drawn_from(wildcards.figure),
    output:
        report(
            HARNESS.figure("{figure}")[0],
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        HARNESS.figure("{figure}")[1:],
    log:
        HARNESS.logs / "figures" / "{figure}.log",
    conda:
        ENVIRONMENT
    params:
        preset=HARNESS.config.preset,
        digest=lambda wildcards: HARNESS.table_digest(wildcards.figure),
    shell:
        "python -m reproduce figure {wildcards.figure} --preset {params.preset} > {log:q} 2>&1"


# Lemma 4.2 needs no runs, and no GPU; update() as in train.
rule examine_lemma:
    output:
        update(HARNESS.lemma),
    log:
        HARNESS.logs / "lemma.log",
    conda:
        ENVIRONMENT
    threads: HARNESS.config.machine.threads
    resources:
        runtime=lambda wildcards, attempt: HARNESS.small_work.runtime(attempt),
        mem_mb=lambda wildcards, attempt: HARNESS.small_work.megabytes(attempt),
    params:
        preset=HARNESS.config.preset,
        digest=HARNESS.lemma_digest,
    shell:
        "python -m reproduce lemma --preset {params.preset} > {log:q} 2>&1 && touch -c -- {output:q}"
