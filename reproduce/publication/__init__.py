"""Publishing finished runs so that others can take them: small files, and what is made of them."""

from reproduce.publication.publish import publish

__all__ = ["publish"]
