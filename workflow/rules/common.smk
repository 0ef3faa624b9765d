# The configuration, checked once, and what every rule shares.
from shlex import quote

from reproduce.experiments import paths
from reproduce.registry import ZOO_ID
from reproduce.workflow.harness import CELL, Harness, workflow_settings

HARNESS = Harness(workflow_settings(workflow), remote=workflow.remote_exec)
# used only with --sdm conda, else jobs run in the environment of Snakemake itself
ENVIRONMENT = "../../envs/gpu.yaml"


# The end of jobs whose outputs are update(): they may find them whole, and leave them.  Outputs are
# then as new as the job.  Inputs from the future, after a clock was set back, get that time too; or
# Snakemake would remove the outputs as older than what they are made from.  A parameter that is
# derived from files is no reason to run a job again.
def freshened(wildcards, input, output):
    outputs, inputs = (" ".join(map(quote, files)) for files in (output, input))
    return (
        f'set -- {outputs} && touch -c -- "$@" && for file in {inputs}; do'
        ' if [ "$file" -nt "$1" ]; then touch -c -r "$1" -- "$file"; fi; done'
    )


# Short attacks on the checkpoints of one run share a job of a cluster: they can begin at the same
# moment, and fail for the same reasons.  `--group-components attacks=N` says how many, and without
# it each is by itself; Snakemake looks that up by the pattern that a group's name is made from,
# which a function has to name.
def attacks_together(wildcards):
    if "attacks" not in workflow.group_settings.group_components:
        return None
    name = HARNESS.attacks_together(**wildcards)
    if name is not None:
        workflow.parent_groupids[name] = "attacks"
    return name


wildcard_constraints:
    dataset="[a-z0-9]+",
    # a data set, or the extra images of one
    source="[a-z0-9]+(-extra)?",
    cell=CELL,
    choice="|-last|-best-val",
    zoo=ZOO_ID,
    attack="[a-z0-9-]+",
    seed="[0-9]+",
    table="table[0-9]+",
    figure="figure[0-9]|war|lemma",
