# Runs and records that were published by somebody (`reference` in config.yaml), taken as they are.
# Which those are is known when this is read, and no other rule makes them.
if HARNESS.adopted:

    localrules:
        adopt,

    ruleorder: adopt > train
    ruleorder: adopt > evaluate

    rule adopt:
        input:
            # where others of these images are trained on or attacked, they are the same ones
            HARNESS.adopted_images,
        output:
            update(HARNESS.adopted),
        log:
            HARNESS.logs / "adopt.log",
        conda:
            ENVIRONMENT
        params:
            preset=HARNESS.config.preset,
            digest=HARNESS.adopted_digest,
            cells=[cell.id for cell in HARNESS.taken],
        shell:
            "python -m reproduce adopt {params.cells} --preset {params.preset} > {log} 2>&1"
