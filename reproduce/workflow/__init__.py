"""What the Snakefile asks of the package: files, digests, and how its jobs are started."""

from reproduce.workflow.cluster import Cluster
from reproduce.workflow.configured import CELL, workflow_settings
from reproduce.workflow.products import Products

__all__ = ["CELL", "Harness", "workflow_settings"]


class Harness(Cluster, Products):
    """The rules' view of one configuration."""
