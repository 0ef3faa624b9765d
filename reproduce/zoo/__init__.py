"""RobustBench's model zoo: published checkpoints, loaded by RobustBench's own code."""

from reproduce.zoo.checkpoint import ZooCheckpoint
from reproduce.zoo.package import robustbench

__all__ = ["ZooCheckpoint", "robustbench"]
