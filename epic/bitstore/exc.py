"""Old imports keep working: what was defined in this module."""

from bitstore import InvalidURI, NotFoundInStore, StoreNotAvailable

__all__ = ["InvalidURI", "NotFoundInStore", "StoreNotAvailable"]
