"""Old imports keep working: what was defined in this module."""

from bitstore import ANONYMOUS, S3Raw

__all__ = ["ANONYMOUS", "S3Raw"]
