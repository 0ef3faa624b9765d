"""The configuration: one validated model, filled from a preset and config.yaml."""
