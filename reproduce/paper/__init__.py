"""The numbers that the paper published, how it made them, and those of what it compares with."""

from reproduce.paper.protocol import protocol
from reproduce.paper.published import published
from reproduce.paper.zoo import PublishedModel, network_of, parse_radius, published_models

__all__ = [
    "PublishedModel",
    "network_of",
    "parse_radius",
    "protocol",
    "published",
    "published_models",
]
