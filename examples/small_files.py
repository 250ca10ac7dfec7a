"""Many small blobs: bought from an API, kept in packs, and read again as a source by references.

    python examples/small_files.py

The bucket is a folder of this machine: `S3Raw()` and `s3://my-bucket/packs/` in its place are all that changes.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
from pathlib import Path

from bitstore import FileRaw, PackCache, Sha1APISource, Sha1Composite, Sha1References
from bitstore.references import ReferenceTable, archive_members, write_references

TEXTS = {hashlib.sha1(text).hexdigest(): text for text in (f"answer {n}".encode() for n in range(5000))}
OLD = dict(list(TEXTS.items())[:1000])  # what an archive of last year has


class API(Sha1APISource):
    """A service that bills each call."""

    calls = 0

    def api_get(self, digest: str) -> bytes | None:
        """The blob; None where there is none."""
        API.calls += 1
        return TEXTS.get(digest)


def main(folder: Path) -> None:
    """Fetch all blobs twice: of the archive, of the API, and then of the packs."""
    bucket = folder / "bucket"
    bucket.mkdir()
    with tarfile.open(bucket / "2025.tar", "w") as tar:  # made by another program
        for number, text in enumerate(OLD.values()):
            member = tarfile.TarInfo(f"2025/{number}.txt")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    write_references(folder / "2025.bitrefs", archive_members(bucket / "2025.tar", "sha1"), "sha1")

    def store(machine: str) -> tuple[Sha1Composite, PackCache]:
        composite = Sha1Composite()
        packs = PackCache(FileRaw(), f"file://{bucket}/packs/", folder=folder / machine)
        composite.append_source(Sha1References(folder / "2025.bitrefs", base_url=f"file://{bucket}/"), name="2025")
        composite.append_cache(packs, name="packs")
        composite.append_source(API(), name="api")
        return composite, packs

    first, packs = store("a machine")
    with packs:  # published when the block ends
        size = sum(len(blob.data or b"") for blob in first.get_many(TEXTS, errors="raise"))
    objects = sorted(path.suffix for path in (bucket / "packs").iterdir())
    print(f"{len(TEXTS)} blobs, {size} bytes, {API.calls} calls; objects: {', '.join(objects)}")

    second, _ = store("another machine")
    size = sum(len(blob.data or b"") for blob in second.get_many(TEXTS, errors="raise"))
    told = {name: tier.hits for name, tier in second.stats().items()}
    print(f"{size} bytes of {told}, {API.calls} calls")

    (table,) = (bucket / "packs").glob("*.bitrefs")
    print(f"{len(ReferenceTable(table))} members in {table.stem[:8]}..., which tar can read, too")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
