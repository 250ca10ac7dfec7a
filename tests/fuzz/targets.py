"""What is fuzzed: each target takes bytes, and raises for whatever should not be.

The property is always the same: only the documented errors come out, in bounded time, and what one function
writes another reads back.
"""

# ruff: noqa: PT017 (these are no tests that a runner sees: the fuzzer does)
from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from bitstore import FileRaw, GSRaw, HTTPRaw, InvalidURI, NotFoundInStore, Retry, S3Raw, StoreNotAvailable
from bitstore._caches.address import target as target_of
from bitstore._caches.draft import is_abandoned
from bitstore._caches.folder import DRAFT, Folder
from bitstore._caches.ledger import Ledger
from bitstore._caches.records import COUNT, DELTA, END, SIZE, START, View, pack
from bitstore._digests.compression import CODECS, BadCompression, TooLarge, codec
from bitstore._digests.hash_list import HashList, ListError
from bitstore._digests.template import KeyTemplate
from bitstore._lookup.partial import Partial
from bitstore._raw.asked import Asked
from bitstore._raw.meanings import gcs_problem, plain_problem, s3_problem
from bitstore._raw.parts import _extent
from bitstore._raw.problems import Problem, without
from bitstore._raw.s3_routes import Route
from bitstore._support.digests import ALGORITHMS, algorithm
from bitstore._support.sizes import format_size, parse_size
from bitstore._transport.libcurl.heads import fields
from bitstore.config import ConfigError, loads
from bitstore.steps import Response, Steps
from tests.fuzz.conversation import Talk
from tests.fuzz.reader import Reader, as_text

__all__ = ["TARGETS"]

QUICK = Retry(attempts=3, first_delay=0.0, longest_delay=0.0)
S3 = S3Raw("anonymous", endpoint_url="http://127.0.0.1:9", region="us-east-1", retry=QUICK)
GS = GSRaw("anonymous", endpoint_url="http://127.0.0.1:9", retry=QUICK)
HTTP = HTTPRaw(retry=QUICK)
FILE = FileRaw(root="/a root/of files")
SECRET = "PLANTEDsecret0123456789"

_STATUSES = (200, 301, 400, 401, 403, 404, 409, 410, 412, 416, 429, 500, 503)


def urls(data: bytes) -> None:
    """URLs of raw stores: what is let in means one place only, and gets into no header and no other host."""
    text = as_text(data)
    for store in (S3, GS, HTTP, FILE):
        try:
            store._check_valid(text)
        except InvalidURI as error:
            assert str(pickle.loads(pickle.dumps(error))) == str(error)
            continue
        if isinstance(store, HTTPRaw):
            parts = urlsplit(text)
            assert parts.scheme in ("http", "https") and "@" not in parts.netloc and not parts.fragment
        elif isinstance(store, FileRaw):
            path = store._named(text)
            assert path is not None and b"\0" not in path
            assert os.path.normpath(path).startswith(b"/a root/of files")
        else:
            bucket, key = store._place(text)
            scheme = "gs" if store is GS else "s3"
            assert f"{scheme}://{bucket}/{key}" == text
            assert re.fullmatch("[A-Za-z0-9._:-]+", bucket), bucket
            if store is S3:
                routed, _ = S3._state().choose(bucket)
                assert isinstance(routed, Route)
                url = routed.url(key)
            else:
                url = GS._path(Asked((bucket, key)))
            assert re.fullmatch("[!-~]+", url), url
            assert unquote_to_bytes(url.partition("?")[0]).endswith(key.encode())
            assert url.count("?") == (store is GS) and "#" not in url
        Talk(Reader(b"")).hold(_swallow(store, text))


def _swallow(store: S3Raw | GSRaw | HTTPRaw | FileRaw, text: str) -> Steps[None]:
    with contextlib.suppress(StoreNotAvailable, NotFoundInStore, InvalidURI):
        yield from store.get_steps(text)


def template(data: bytes) -> None:
    """Key templates: two digests never share a key."""
    text = as_text(data)
    try:
        made = KeyTemplate(text)
    except ValueError as error:
        assert "key template" in str(error)
        return
    first = "0123456789abcdef" * 4
    for kind in ALGORITHMS.values():
        digest = first[: kind.length]
        assert made.url(digest) == made.url(digest) == KeyTemplate(text).url(digest)
        for place in (0, 1, kind.length // 2, kind.length - 1):
            other = digest[:place] + ("f" if digest[place] != "f" else "0") + digest[place + 1 :]
            assert made.url(other) != made.url(digest), text


def digest(data: bytes) -> None:
    """Digests: exactly so many hexadecimal digits, with or without the scheme."""
    text = as_text(data)
    for kind in ALGORITHMS.values():
        found = kind.parse(text)
        if found is None:
            assert not re.fullmatch(f"[0-9a-f]{{{kind.length}}}", text)
            continue
        assert re.fullmatch(f"[0-9a-f]{{{kind.length}}}", found), text
        assert text.removeprefix(f"{kind.name}://").lower() == found
        assert kind.parse(found) == kind.parse(f"{kind.name}://{found}") == found
        assert kind.is_digest(found)
        with contextlib.suppress(ValueError):
            assert algorithm(text).name == text


def sizes(data: bytes) -> None:
    """Sizes: a number that fits 63 bits, which is written so that it is read back."""
    try:
        count = parse_size(as_text(data))
    except ValueError as error:
        assert "size" in str(error)
        return
    assert 0 <= count < 2**63
    assert parse_size(format_size(count)) == count
    number = int.from_bytes(data[:8], "little") >> 1
    assert parse_size(format_size(number)) == number


def hashlist(data: bytes) -> None:
    """Lists of digests: each line becomes a digest or an invalid entry, and no line is lost."""
    with tempfile.NamedTemporaryFile(prefix="bitstore-fuzz-") as file:
        file.write(data)
        file.flush()
        for wanted in (None, "sha1"):
            try:
                entries = list(HashList(file.name, algorithm=wanted))
            except ListError as error:
                assert file.name in str(error), str(error)
                continue
            numbers = [entry.number for entry in entries]
            assert numbers == sorted(set(numbers)) and all(number > 0 for number in numbers)
            assert all(entry.digest is None or entry.digest in entry.text.lower() for entry in entries)
            if data[:2] != b"\x1f\x8b" and data[:4] != b"PAR1" and b"\0" not in data and len(data) < 60_000:
                lines = [line.strip() for line in io.BytesIO(data.removeprefix(b"\xef\xbb\xbf"))]
                plain = [line for line in lines if re.fullmatch(rb"[0-9a-fA-F]{40}", line)]
                if wanted == "sha1":
                    assert len([entry for entry in entries if entry.digest]) >= len(plain)


def parquet(data: bytes) -> None:
    """Parquet files that are none, or broken ones: an error of ours, whatever the reader makes of them."""
    hashlist(b"PAR1" + data + (b"PAR1" if data[-1:] != b"1" else b""))


def answers(data: bytes) -> None:
    """Error answers of S3, GCS and web servers: short texts, no secret, and missing only where it was said."""
    reader = Reader(data)
    status = _STATUSES[reader.byte() % len(_STATUSES)]
    body = reader.rest().replace(b"\xff", SECRET.encode())
    response = Response(status, body, {}, 0.0)
    for read in (s3_problem, gcs_problem, plain_problem):
        problem: Problem = read(response)
        assert len(problem.message) <= 400 and len(problem.region or "") <= len(body)
        if problem.missing:
            assert status in (404, 410) or problem.code in ("NoSuchKey", "NoSuchBucket", "InvalidObjectState")
        if read is s3_problem and problem.missing:
            assert problem.code.encode() in body
        assert not (problem.missing and problem.forbidden)
        assert SECRET not in without(problem.message, (SECRET, None, ""))
        assert "\n" not in str(problem) or read is not s3_problem


def headers(data: bytes) -> None:
    """Header lines, and what is read from them: ranges, versions, lengths."""
    lines = data.split(b"\n")
    parsed = fields([line + b"\n" for line in lines])
    assert all(name.encode("latin-1") == name.encode("latin-1").lower() for name in parsed)
    for value in (*parsed.values(), *(line.decode("latin-1").strip() for line in lines)):
        extent = _extent(Response(206, b"", {"content-range": value}, 0.0))
        assert extent is None or 0 <= extent[0] < extent[1] <= extent[2]
        _partial(value)


def _partial(value: str) -> None:
    partial = Partial(Path(tempfile.gettempdir(), f"bitstore-fuzz-{os.getpid()}"))
    with partial.open():
        partial.expect("https://host/blob")
        named = {"etag": value, "content-length": value, "content-range": value}
        partial.begin(200, named)
        partial.write(b"abc")
        if partial.begin(206, named):
            assert value.startswith("bytes 3-")
        assert all(not set(line) & set("\r\n\0") for line in partial.headers())
        partial.discard()


def conversation(data: bytes) -> None:
    """A whole lookup against a server of any answers: bytes that it sent, or an honest error, after a bounded talk."""
    for store, uri in ((S3, "s3://bucket/key"), (GS, "gs://bucket/key"), (HTTP, "https://host/key")):
        for operation in (store.get_steps, store.exists_steps, store.version_steps):
            talk = Talk(Reader(data))
            if isinstance(store, S3Raw):
                store._options_changed()  # what one talk has taught of regions and clocks must not change the next
            try:
                found = talk.hold(operation(uri))
            except NotFoundInStore:
                assert {404, 410, 403} & set(talk.said), talk.said
            except StoreNotAvailable as error:
                assert len(str(error)) < 5000
                pickle.loads(pickle.dumps(error))
            else:
                if operation == store.get_steps:
                    assert 200 in talk.said or 206 in talk.said
                    assert (
                        len(found.data)
                        <= sum(map(len, talk.bodies)) + sum(1 for status in talk.said if not status) * 80_000
                    )
                elif found is False:
                    assert {404, 410, 403, 200} & set(talk.said), talk.said


def ledger(data: bytes) -> None:
    """A ledger of any records and any junk: all readers agree on it, wherever they stopped in between."""
    reader = Reader(data)
    content = pack(START, abs(reader.number(6)), 0, 7)
    cuts = [SIZE]
    while reader and len(content) < 100_000:
        what = reader.byte()
        if what < 200:
            kind = (DELTA, DELTA, COUNT, END)[what % 4] if what > 20 else reader.number(4) & 0xFFFFFFFF
            content += pack(kind, reader.number(5), reader.number(4), reader.number(1) + 7)
        else:
            content += reader.take(what - 199)
        cuts.append(SIZE + reader.number(2) % (len(content) - SIZE + 1))
    with tempfile.TemporaryDirectory(prefix="bitstore-fuzz-") as folder:
        place = Path(folder, "ledger")
        place.mkdir()
        file = place / f"{3:016d}"
        file.write_bytes(content)
        whole, pieces = View(3, content[:SIZE]), View(3, content[:SIZE])
        fd = os.open(file, os.O_RDONLY)
        try:
            whole.advance(fd, len(content), own=0)
            for cut in [*sorted(cuts), len(content)]:
                pieces.advance(fd, max(cut, pieces.offset), own=0)
        finally:
            os.close(fd)
        for attribute in ("total", "grown", "epoch", "ended"):
            assert getattr(whole, attribute) == getattr(pieces, attribute), attribute
        for number in range(2):
            book = Ledger(str(place), lambda: 12)
            with contextlib.suppress(OverflowError):
                total = book.total()
                assert total is None or isinstance(total, int)
                assert book.reserve(5) is not None, number


def names(data: bytes) -> None:
    """Names of files in a cache folder: those of others are left alone, and every key stays inside."""
    text = as_text(data)
    for kind in (None, *ALGORITHMS):
        if text:
            target = target_of(text, kind, data)
            assert all(re.fullmatch(r"[a-z0-9]+(\.d)?", part) for part in (*target.folders, target.name)), target
    if not data or b"/" in data or b"\0" in data or len(data) > 200 or data in (b".", b".."):
        return
    with tempfile.TemporaryDirectory(prefix="bitstore-fuzz-") as root:
        folder = Folder(root)
        for top in ("tmp", "sha1", "sha1/abc", "ledger", "quarantine"):
            with contextlib.suppress(OSError):
                Path(root, top).mkdir(parents=True, exist_ok=True)
                Path(os.fsdecode(b"/".join((os.fsencode(root), top.encode(), data)))).write_bytes(b"x")
        folder.measure()
        for place, size in folder.drafts():
            assert DRAFT.fullmatch(place.name) and size >= 0
            found = folder.stat(place)
            assert found is None or is_abandoned(place, found) is not None
        book = Ledger(f"{root}/ledger", lambda: 12)
        assert book.reserve(5) >= 5


def config(data: bytes) -> None:
    """Configuration files: a composite that can be shown and pickled, or an error that names the file."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    if "python" in text:
        return  # which imports, and calls, whatever it names
    try:
        composite = loads(text, name="the file")
    except ConfigError as error:
        assert "the file" in str(error)
        return
    assert repr(pickle.loads(pickle.dumps(composite))) == repr(composite)


def compressed(data: bytes) -> None:
    """Compressed blobs: never more than the limit, and what we write we read."""
    for name in CODECS:
        packer = codec(name)
        assert packer is not None
        with contextlib.suppress(BadCompression, TooLarge):
            assert len(packer.expand(data, 10_000)) <= 10_000
        assert packer.expand(packer.compress(data), len(data)) == data


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        urls, template, digest, sizes, hashlist, parquet, answers, headers, conversation, ledger, names, config,
        compressed,
    )
}  # fmt: skip
