"""Content codings of the transport: what matches the digest, expanded or not, is the blob."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Any

import pytest

from bitstore import GSRaw, HTTPRaw, InvalidDataFound, S3Raw, Sha1Store
from tests.scripted_server import ScriptedServer

BLOB = b"a blob that is worth compressing " * 100
DIGEST = hashlib.sha1(BLOB).hexdigest()
PACKED = gzip.compress(BLOB, mtime=0)


def stores(server: ScriptedServer, **options: Any) -> list[Sha1Store]:
    return [
        Sha1Store(S3Raw("anonymous", endpoint_url=server.url), "s3://b/", **options),
        Sha1Store(GSRaw("anonymous", endpoint_url=server.url), "gs://b/", **options),
        Sha1Store(HTTPRaw(), f"{server.url}/", **options),
    ]


CASES = [
    ("stored compressed", PACKED, None, "gzip"),
    ("deflate", zlib.compress(BLOB), None, "deflate"),
    ("compressed twice", gzip.compress(PACKED), None, "gzip"),
    ("as configured", PACKED, "gzip", ""),
    ("expanded on the way", BLOB, "gzip", ""),
    ("the transport's coding over the blob's", gzip.compress(PACKED), "gzip", "gzip"),
]


@pytest.mark.parametrize(("name", "body", "compression", "coding"), CASES, ids=[case[0] for case in CASES])
def test_the_form_that_matches_the_digest_is_the_blob(
    name: str, body: bytes, compression: str | None, coding: str, tmp_path: Path
) -> None:
    headers = {"Content-Encoding": coding} if coding else {}
    with ScriptedServer(lambda asked: (200, {"ETag": '"e"', **headers}, body)) as server:
        for store in stores(server, verify=True, compression=compression):
            assert store.get(DIGEST) == BLOB
            (row,) = store.get_many([DIGEST])
            assert row.data == BLOB
            if coding != "deflate":
                store.download(DIGEST, tmp_path / "file")
                assert (tmp_path / "file").read_bytes() == BLOB


@pytest.mark.parametrize(("body", "compression"), [(PACKED, None), (BLOB, "gzip"), (PACKED, "gzip")])
def test_a_coded_answer_is_expanded_also_without_verification(body: bytes, compression: str | None) -> None:
    with ScriptedServer(lambda asked: (200, {}, body)) as server:
        for store in stores(server, compression=compression):
            assert store.get(DIGEST) == BLOB


def test_a_blob_that_is_compressed_itself_stays_as_it_is(tmp_path: Path) -> None:
    digest = hashlib.sha1(PACKED).hexdigest()
    with ScriptedServer(lambda asked: (200, {}, PACKED)) as server:
        for verify in (False, True):
            for store in stores(server, verify=verify):
                assert store.get(digest) == PACKED
                store.download(digest, tmp_path / "file")
                assert (tmp_path / "file").read_bytes() == PACKED


def test_bytes_that_match_in_no_form_are_never_returned(tmp_path: Path) -> None:
    for body in (gzip.compress(b"another"), PACKED[:-9], b"\x1f\x8bnonsense", b""):
        with ScriptedServer(lambda asked, body=body: (200, {}, body)) as server:  # type: ignore[misc]
            for store in (*stores(server, verify=True), *stores(server, verify=True, compression="gzip")):
                with pytest.raises(InvalidDataFound):
                    store.get(DIGEST)
                with pytest.raises(InvalidDataFound):
                    store.download(DIGEST, tmp_path / "file")
