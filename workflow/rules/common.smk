# The configuration, checked once, and what every rule shares.
import json
import sys

from snakemake.exceptions import WorkflowError

from reproduce import paths
from reproduce.catalogue import DATASETS
from reproduce.cells import parse_cell
from reproduce.errors import HarnessError
from reproduce.experiments import experiment_names, find_experiment
from reproduce.settings import build_config
from reproduce.specs import checkpoints, evaluation_spec, protocol_digest, training_spec

try:
    CONFIG = build_config(config)
except HarnessError as error:
    raise WorkflowError(str(error)) from None

# Jobs get the configuration as it was planned, whatever happens to config.yaml meanwhile.
# Printed with -p, a job's command can be repeated by hand.
COMMAND = f"{sys.executable} -m reproduce"
SETTINGS = f"--config '{json.dumps(config)}'"
ROOT = paths.root(CONFIG)
CELLS = ROOT / "cells"
LOGS = ROOT / "logs"
PREPARED = CONFIG.data.folder / "prepared"
GPUS = 0 if CONFIG.machine.device == "cpu" else 1


wildcard_constraints:
    dataset="|".join(DATASETS),
    cell=r"[^/]+/[^/]+/[^/]+/lam-[0-9.]+/seed-[0-9]+",
    choice="|-last|-best-val",
    attack=r"[a-z0-9]+",
    seed=r"[0-9]+",
    table=r"table[0-9]+",
