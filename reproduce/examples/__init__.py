"""Adversarial examples of two networks."""
