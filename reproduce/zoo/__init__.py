"""RobustBench's checkpoints."""
