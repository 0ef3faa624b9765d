# The configuration, checked once, and what every rule shares.
from reproduce import paths
from reproduce.workflow import Harness

HARNESS = Harness(config, remote=workflow.remote_exec)
# used only with --sdm conda, else jobs run in the environment of Snakemake itself
ENVIRONMENT = "../../envs/gpu.yaml"


wildcard_constraints:
    dataset="[a-z0-9]+",
    # a data set, or the extra images of one
    source="[a-z0-9]+(-extra)?",
    cell=r"[^/]+/[^/]+/[^/]+/lam-[0-9.]+/seed-[0-9]+",
    choice="|-last|-best-val",
    # ids of RobustBench's models
    zoo="[A-Za-z0-9][A-Za-z0-9_.-]*",
    attack="[a-z0-9-]+",
    seed="[0-9]+",
    table="table[0-9]+",
    figure="figure[0-9]|war|lemma",
