"""The numbers that the paper published, and those of the models it compares with."""

from reproduce.paper.published import published
from reproduce.paper.zoo import PublishedModel, network_of, parse_radius, published_models

__all__ = ["PublishedModel", "network_of", "parse_radius", "published", "published_models"]
