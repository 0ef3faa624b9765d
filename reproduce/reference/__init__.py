"""Reference results: finished runs of somebody that serve as one's own; no torch."""

from reproduce.reference.adopt import adopt
from reproduce.reference.find import Reference, Taken, find_reference, is_ours

__all__ = ["Reference", "Taken", "adopt", "find_reference", "is_ours"]
