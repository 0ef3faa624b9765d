"""What the user sets when the workflow is run: files and Snakemake's command line, merged."""

import json
import re
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.config.fields import merge
from reproduce.config.load import from_snakefile, read_settings

if TYPE_CHECKING:
    from snakemake.workflow import Workflow

_FILE = "config.yaml"


def workflow_settings(workflow: "Workflow") -> dict[str, Any]:
    """Read config.yaml, what ``--configfile`` names, and ``--config``, each over those before it.

    Snakemake's own reader of such files takes the last of two values of a key without a word.
    """
    if workflow.remote_exec and from_snakefile():
        return {}  # config.yaml may have changed since, and its job does what was planned
    given = workflow.config_settings
    if not given.replace_workflow_config and (Path(_FILE).exists() or not given.configfiles):
        # for Snakemake's report, and for jobs that get a copy of the sources
        workflow.configfiles.insert(0, _FILE)
    files = [read_settings(Path(file)) for file in workflow.configfiles]
    return reduce(merge, [*files, _typed(given.config)])


def _typed(value: Any) -> Any:
    """Turn what ``--config`` leaves as text inside a mapping into numbers, booleans and null."""
    if isinstance(value, Mapping):
        return {key: _typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}|true|false|null", value):
        return json.loads(value)
    return value
