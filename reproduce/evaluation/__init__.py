"""Attacks over all images, and the records they leave."""
