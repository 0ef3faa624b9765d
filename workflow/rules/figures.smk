# From traces, epochs and records to figures.
rule figure:
    input:
        lambda w: HARNESS.drawn_from(w.figure),
    output:
        report(
            HARNESS.figure("{figure}")[0],
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        HARNESS.figure("{figure}")[1:],
    log:
        LOGS / "figures" / "{figure}.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        preset=PRESET,
        digest=lambda w: protocol_digest(CONFIG, w.figure),
    message:
        "Drawing {wildcards.figure}"
    shell:
        "python -m reproduce figure {wildcards.figure} --preset {params.preset} > {log:q} 2>&1"


# Lemma 4.2 needs no runs, and no GPU; update() as in train.
rule examine_lemma:
    output:
        update(paths.lemma_file(CONFIG)),
    log:
        LOGS / "lemma.log",
    conda:
        ENVIRONMENT
    threads: lambda w: HARNESS.job(w).threads
    resources:
        runtime=RESOURCES["runtime"],
        mem_mb=RESOURCES["mem_mb"],
    params:
        preset=PRESET,
        digest=lemma_digest(CONFIG),
    message:
        "Testing Lemma 4.2 on random networks"
    shell:
        "python -m reproduce lemma --preset {params.preset} > {log:q} 2>&1"
