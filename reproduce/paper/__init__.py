"""The numbers that the paper published."""

from reproduce.paper.published import published

__all__ = ["published"]
