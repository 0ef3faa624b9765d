# From traces, epochs and records to figures.
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
    localrule: True
    conda:
        ENVIRONMENT
    params:
        preset=PRESET,
        digest=lambda wildcards: protocol_digest(HARNESS.config, wildcards.figure),
    message:
        "Drawing {wildcards.figure}"
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
        runtime=lambda wildcards, attempt: HARNESS.small_request.runtime(attempt),
        mem_mb=lambda wildcards, attempt: HARNESS.small_request.mem_mb(attempt),
    params:
        preset=PRESET,
        digest=HARNESS.lemma_digest,
    message:
        "Testing Lemma 4.2 on random networks"
    shell:
        "python -m reproduce lemma --preset {params.preset} > {log:q} 2>&1"
