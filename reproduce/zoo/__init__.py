"""RobustBench's model zoo: published checkpoints, loaded by RobustBench's own code."""

from reproduce.zoo.checkpoint import ZooCheckpoint, is_published, wide_resnet
from reproduce.zoo.package import robustbench

__all__ = ["ZooCheckpoint", "is_published", "robustbench", "wide_resnet"]
