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
    table1,
    table2,
    table3,
    table4,
    table5,
    table6,
    figure1,
    figure2,
    figure3,
    figure4,
    figure5,
    figure6,
    figure7,
    figure8,
    figure9,
    figure_war,
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


rule table1:
    input:
        lambda _: HARNESS.outputs("table1"),


rule table2:
    input:
        lambda _: HARNESS.outputs("table2"),


rule table3:
    input:
        lambda _: HARNESS.outputs("table3"),


rule table4:
    input:
        lambda _: HARNESS.outputs("table4"),


rule table5:
    input:
        lambda _: HARNESS.outputs("table5"),


rule table6:
    input:
        lambda _: HARNESS.outputs("table6"),


rule figure1:
    input:
        lambda _: HARNESS.picture("figure1"),


rule figure2:
    input:
        lambda _: HARNESS.picture("figure2"),


rule figure3:
    input:
        lambda _: HARNESS.picture("figure3"),


rule figure4:
    input:
        lambda _: HARNESS.picture("figure4"),


rule figure5:
    input:
        lambda _: HARNESS.picture("figure5"),


rule figure6:
    input:
        lambda _: HARNESS.picture("figure6"),


rule figure7:
    input:
        lambda _: HARNESS.picture("figure7"),


rule figure8:
    input:
        lambda _: HARNESS.picture("figure8"),


rule figure9:
    input:
        lambda _: HARNESS.picture("figure9"),


rule figure_war:
    input:
        lambda _: HARNESS.picture("war"),


rule lemma:
    input:
        HARNESS.lemma,
        HARNESS.figure("lemma"),


rule diff:
    input:
        [HARNESS.diff(name) for name in HARNESS.tables],
