"""Old imports keep working: what was defined in this module."""

from bitstore import ANONYMOUS, GSRaw

__all__ = ["ANONYMOUS", "GSRaw"]
