# The configuration, checked once, and what every rule shares.
from pathlib import Path
from shlex import quote

from reproduce import paths
from reproduce.catalogue import ZOO_ID
from reproduce.workflow import CELL, Harness

HARNESS = Harness(config, remote=workflow.remote_exec)
# used only with --sdm conda, else jobs run in the environment of Snakemake itself
ENVIRONMENT = "../../envs/gpu.yaml"


# The end of jobs whose outputs are update(): they may find them whole, and leave them.  A parameter
# that is derived from files is no reason to run a job again.
def freshened(wildcards, input, output):
    script = Path(workflow.basedir) / "workflow" / "scripts" / "freshen.sh"
    return f"sh {quote(str(script))} {output} -- {input}"


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
