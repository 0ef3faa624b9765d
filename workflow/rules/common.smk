# The configuration, checked once, and what every rule shares.
from snakemake.exceptions import WorkflowError

from reproduce.config.load import resolved
from reproduce.core.errors import HarnessError
from reproduce.core.files import digest
from reproduce.experiments import paths
from reproduce.experiments.grids import TABLES, experiment_names, planned_runs
from reproduce.experiments.spec import checkpoints, lemma_digest, protocol_digest
from reproduce.figures import FIGURES
from reproduce.registry import DATASETS, EXTRA, ZOO_ID
from reproduce.workflow.harness import CELL, Harness, workflow_settings

try:
    HARNESS = Harness(workflow_settings(workflow), remote=workflow.remote_exec)
except HarnessError as error:
    # Snakemake shows it without a traceback
    raise WorkflowError(str(error)) from None
CONFIG, PRESET = HARNESS.config, HARNESS.config.preset
ROOT = paths.root(CONFIG)
CELLS, LOGS, PREPARED = ROOT / "cells", ROOT / "logs", CONFIG.data.folder / "prepared"
# of what computes; on one machine time and memory have no meaning
RESOURCES = {
    "gpu": lambda w: HARNESS.job(w).gpus,
    "runtime": lambda w, attempt: HARNESS.job(w).runtime(attempt),
    "mem_mb": lambda w, attempt: HARNESS.job(w).mem_mb(attempt),
}
# used only with --sdm conda, else jobs run in the environment of Snakemake itself
ENVIRONMENT = "../../envs/gpu.yaml"


wildcard_constraints:
    dataset="|".join(DATASETS),
    # a data set, or the extra images of one
    source="|".join([*DATASETS, *EXTRA]),
    cell=CELL,
    choice="|-last|-best-val",
    zoo=ZOO_ID,
    attack="[a-z0-9-]+",
    seed="[0-9]+",
    table="table[0-9]+",
    figure="figure[0-9]|war|lemma",
