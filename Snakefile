from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/report.smk"


localrules:
    all,
    lemma,
    diff,


rule all:
    default_target: True
    input:
        [HARNESS.outputs(name) for name in HARNESS.tables],
        [HARNESS.figure(name) for name in HARNESS.figures],
        HARNESS.table("checkpoints"),
        HARNESS.examples,
        HARNESS.lemma,
        HARNESS.results,
        HARNESS.claims,
        HARNESS.report,
    message:
        "All is complete"


# table1 to table6, figure1 to figure9 and figure_war: also those that the configuration leaves out
for number in range(1, 7):

    rule:
        name:
            f"table{number}"
        input:
            lambda _, name=f"table{number}": HARNESS.outputs(name),
        localrule: True
        message:
            f"table{number} is complete"


for target in (*(f"figure{number}" for number in range(1, 10)), "figure_war"):

    rule:
        name:
            target
        input:
            lambda _, name=target.removeprefix("figure_"): HARNESS.picture(name),
        localrule: True
        message:
            f"{target} is complete"


rule lemma:
    input:
        HARNESS.lemma,
        HARNESS.figure("lemma"),
    message:
        "Lemma 4.2 is complete"


rule diff:
    input:
        [HARNESS.diff(name) for name in HARNESS.tables],
    message:
        "Every comparison is complete"
