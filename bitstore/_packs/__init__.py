"""Blobs that are parts of larger objects: read by a table of references, and kept in packs."""
