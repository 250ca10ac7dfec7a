"""Old imports keep working: what was defined in this module."""

from bitstore import Composite

__all__ = ["Composite"]
