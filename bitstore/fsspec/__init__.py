"""Blobs for whatever reads by fsspec: pandas, pyarrow, zarr, Dask. Importing this makes the protocols known to fsspec.

    pandas.read_parquet("sha256://<digest>", storage_options={"store": composite})
    pandas.read_csv("bitstorecache::s3://bucket/table.csv", storage_options={"bitstorecache": {"max_size": "50GB"}})

An installed bitstore need not be imported: its entry points tell fsspec of the protocols.
"""

from __future__ import annotations

try:
    import fsspec
except ModuleNotFoundError as error:
    if error.name != "fsspec":
        raise
    raise ModuleNotFoundError(
        "bitstore.fsspec needs fsspec: pip install 'epic-bitstore[fsspec]'", name="fsspec"
    ) from error

from bitstore.fsspec._cache import BlobCacheFileSystem
from bitstore.fsspec._digests import DigestFileSystem, Md5FileSystem, Sha1FileSystem, Sha256FileSystem

__all__ = ["BlobCacheFileSystem", "DigestFileSystem", "Md5FileSystem", "Sha1FileSystem", "Sha256FileSystem"]

for _kind in (Sha1FileSystem, Sha256FileSystem, Md5FileSystem, BlobCacheFileSystem):
    # By name and not as a class: so an entry point that says the same is no conflict.
    fsspec.register_implementation(_kind.protocol, f"bitstore.fsspec.{_kind.__name__}", clobber=True)
