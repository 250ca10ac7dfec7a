"""Old imports keep working: what was defined in this module."""

from bitstore import Store

__all__ = ["Store"]
