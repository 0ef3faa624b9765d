from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"


localrules:
    all,
    table1,
    table2,
    table3,
    table4,
    table5,
    table6,
    diff,


rule all:
    default_target: True
    input:
        [HARNESS.outputs(name) for name in HARNESS.experiments],
        [HARNESS.figure(name) for name in HARNESS.figures],


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


rule diff:
    input:
        [HARNESS.diff(name) for name in HARNESS.experiments],
