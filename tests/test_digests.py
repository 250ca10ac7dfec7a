"""Values that name a digest: text and bytes of every kind, in every call; anything else is refused by name."""

from __future__ import annotations

import array
import base64
import copy
import enum
import hashlib
import mmap
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow as pa
import pytest

from bitstore import FileRaw, InvalidURI, MemoryCache, Sha1APISource, Sha1Store, Sha256Store
from bitstore._frames.digest_column import column_values, holds_digests
from bitstore._support.digests import ALGORITHMS, algorithm, as_text, is_null
from tests.stores import as_cache, composed

DATA = b"some bytes"
RAW = {name: hashlib.new(name, DATA).digest() for name in ALGORITHMS}
SHA1 = RAW["sha1"].hex()
NO_DIGEST = "not a digest: a sha1 has 40 hexadecimal characters"
BAD_UTF8 = pa.array([b"\xff" * 40], pa.binary()).view(pa.string())[0]


def mapped(raw: bytes) -> mmap.mmap:
    memory = mmap.mmap(-1, len(raw))
    memory.write(raw)
    return memory


RELEASED = memoryview(RAW["sha1"])
RELEASED.release()

FORMS: dict[str, Callable[[bytes], Any]] = {
    "str": lambda raw: raw.hex(),
    "upper": lambda raw: raw.hex().upper(),
    "numpy.str_": lambda raw: numpy.str_(raw.hex()),
    "raw bytes": lambda raw: raw,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "strided memoryview": lambda raw: memoryview(bytes(byte for each in raw for byte in (each, 0)))[::2],
    "numpy.bytes_": lambda raw: numpy.bytes_(raw.hex()),
    "numpy.void": lambda raw: numpy.void(raw),
    "array of bytes": lambda raw: numpy.frombuffer(raw, numpy.uint8),
    "bytes of the text": lambda raw: raw.hex().encode(),
    "arrow string": lambda raw: pa.scalar(raw.hex()),
    "arrow large_string": lambda raw: pa.scalar(raw.hex(), pa.large_string()),
    "arrow binary": pa.scalar,
    "arrow fixed-size binary": lambda raw: pa.scalar(raw, pa.binary(len(raw))),
    "arrow dictionary": lambda raw: pa.array([raw.hex()]).dictionary_encode()[0],
    "arrow buffer": pa.py_buffer,
    "arrow string_view": lambda raw: pa.scalar(raw.hex(), pa.string_view()),
    "arrow binary_view": lambda raw: pa.scalar(raw, pa.binary_view()),
    "arrow run-end encoded": lambda raw: pa.RunEndEncodedArray.from_arrays([1], pa.array([raw]))[0],
    "mapped memory": lambda raw: mapped(raw),
    "enum": lambda raw: enum.Enum("Known", {"ONE": raw.hex()}, type=str).ONE,  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_form_of_a_digest_is_parsed(name: str, form: str) -> None:
    value = FORMS[form](RAW[name])
    assert algorithm(name).parse(value) == RAW[name].hex()
    assert algorithm(name).read(value) == (RAW[name].hex(), "")


@pytest.mark.parametrize(
    "null", [None, float("nan"), numpy.nan, numpy.float32("nan"), pandas.NA, pandas.NaT, pa.scalar(None, pa.string())]
)
def test_a_cell_without_a_value_is_null(null: Any) -> None:
    assert is_null(null)
    assert algorithm("sha1").read(null) == (None, "null")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (5, "expected a sha1 digest as bytes or str, got int 5"),
        (numpy.int64(5), "got int64"),
        (numpy.complex128(5), "got complex128"),  # a buffer of 16 bytes, as an md5 is
        (pa.scalar(5), "got Int64Scalar"),
        ([SHA1], "got list"),
        (object(), "got object"),
        (numpy.array([SHA1, SHA1]), "got ndarray"),
        ("nonsense", NO_DIGEST),
        (b"\xff" * 40, NO_DIGEST),
        (BAD_UTF8, NO_DIGEST),
        ("\ud800" * 40, NO_DIGEST),
        (SHA1 + "\n", NO_DIGEST),
        (f" {SHA1}", NO_DIGEST),
        (f"0x{SHA1}", NO_DIGEST),
        (f"sha1:{SHA1}", NO_DIGEST),
        (base64.b32encode(RAW["sha1"]).decode(), NO_DIGEST),
        (f"sha1-{base64.b64encode(RAW['sha1']).decode()}", NO_DIGEST),
        (RAW["sha1"][:-1], NO_DIGEST),
        (array.array("H", RAW["sha1"]), "got array"),
        (RELEASED, "released memoryview object"),
        (RAW["md5"], "the length is that of md5, not of sha1"),
        (RAW["sha256"].hex(), "the length is that of sha256, not of sha1"),
    ],
)
def test_a_value_that_is_no_digest_gets_a_reason(value: Any, reason: str) -> None:
    digest, why = algorithm("sha1").read(value)
    assert digest is None
    assert why.endswith(reason)


def test_32_bytes_are_a_raw_sha256_or_the_text_of_an_md5() -> None:
    text = RAW["md5"].hex().encode()
    assert len(text) == len(RAW["sha256"]) == 32
    assert algorithm("md5").parse(text) == text.decode()
    assert algorithm("sha256").parse(text) is None
    assert algorithm("sha256").parse(RAW["sha256"]) == RAW["sha256"].hex()


def test_bytes_that_are_not_utf_8_can_be_shown() -> None:
    assert as_text(b"a\xff") == r"a\xff"
    assert as_text(BAD_UTF8) == r"\xff" * 40
    assert as_text(5) is None


def test_an_algorithm_travels_as_its_name() -> None:
    for kind in ALGORITHMS.values():
        assert pickle.loads(pickle.dumps(kind)) is kind
        assert copy.deepcopy(kind) is kind
    with pytest.raises(ValueError, match="unknown digest algorithm 'sha3': choose one of sha1, sha256, md5"):
        algorithm("sha3")


class Api(Sha1APISource):
    def __init__(self) -> None:
        super().__init__(verify=True, remember_missing=60)
        self.asked: list[Any] = []

    def api_get(self, digest: str, /) -> bytes | None:
        self.asked.append(digest)
        return DATA if digest == SHA1 else None


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("str", "upper")])
def test_every_call_of_a_digest_store_takes_every_form(form: str, tmp_path: Path) -> None:
    value = FORMS[form](RAW["sha1"])
    store = Sha1Store(FileRaw(), f"file://{tmp_path}/", verify=True)
    assert not store.exists(value)
    store.put(value, DATA)
    assert (tmp_path / SHA1).read_bytes() == DATA
    composite = composed(as_cache(MemoryCache("1MB")), store)
    api = Api()
    stores: tuple[Any, ...] = (store, composite, api)
    for each in stores:
        assert each.is_valid(value)
        assert each.canonical(value) == SHA1
        assert each.get(value) == DATA
        (blob,) = each.get_many([value])
        assert (blob.data, blob.uri is value) == (DATA, True)
        assert each.exists(value) is True
    assert set(api.asked) == {SHA1}
    for number, each in enumerate(stores[:2]):
        each.download(value, tmp_path / f"out{number}")
        assert (tmp_path / f"out{number}").read_bytes() == DATA
    assert store.url(value) == f"file://{tmp_path}/{SHA1}"


def test_one_lookup_answers_all_forms_of_a_digest() -> None:
    api = Api()
    composite = composed(as_cache(MemoryCache("1MB")), api)
    values = [make(RAW["sha1"]) for make in FORMS.values()]
    answers = list(composite.get_many(values, ordered=True))
    assert [blob.data for blob in answers] == [DATA] * len(values)
    assert api.asked == [SHA1]


@pytest.mark.parametrize("value", [b"short", b"\xff" * 40, RAW["md5"], bytearray(), BAD_UTF8])
def test_bytes_that_are_no_digest_are_invalid(value: Any, tmp_path: Path) -> None:
    store = Sha1Store(FileRaw(), f"file://{tmp_path}/")
    composite = composed(store)
    for each in (store, composite, Api()):
        assert not each.is_valid(value)
        with pytest.raises(InvalidURI, match="sha1"):
            each.get(value)
        assert [type(blob.error) for blob in each.get_many([value])] == [InvalidURI]


@pytest.mark.parametrize("value", [None, 5, float("nan"), numpy.complex128(5), pandas.NA, [SHA1], pa.scalar(5)])
def test_a_value_that_is_neither_text_nor_bytes_is_a_type_error(value: Any, tmp_path: Path) -> None:
    store = Sha256Store(FileRaw(), f"file://{tmp_path}/")
    with pytest.raises(TypeError, match="expected a sha256 digest as bytes or str, got"):
        store.get(value)
    (blob,) = store.get_many([value])
    assert isinstance(blob.error, TypeError)


BAD = pa.array([SHA1.encode(), b"\xff" * 40, None], pa.binary())


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (BAD.view(pa.string()), [SHA1, b"\xff" * 40, None]),
        (BAD.cast(pa.large_binary()).view(pa.large_string()), [SHA1, b"\xff" * 40, None]),
        (BAD.view(pa.string()).cast(pa.string_view(), safe=False), [SHA1, b"\xff" * 40, None]),
        (pa.DictionaryArray.from_arrays([1, 0, None], BAD.view(pa.string())), [b"\xff" * 40, SHA1, None]),
        (pa.array([RAW["sha1"], None], pa.binary(20)), [RAW["sha1"], None]),
        (pa.chunked_array([[SHA1], [None]], pa.string()), [SHA1, None]),
        (pa.array([SHA1.encode()], pa.binary_view()), [SHA1.encode()]),
        (pa.array([RAW["sha1"], None]).dictionary_encode(), [RAW["sha1"], None]),
        (pa.RunEndEncodedArray.from_arrays([2], [SHA1]), [SHA1, SHA1]),
        (pa.nulls(2), [None, None]),
    ],
    ids=lambda value: str(value.type).replace("<", " ").split(",")[0] if hasattr(value, "type") else "",
)
def test_columns_of_text_and_bytes_have_their_values(column: Any, values: list[Any]) -> None:
    assert holds_digests(column.type)
    assert column_values(column) == values
    assert column_values(pa.chunked_array([column]) if isinstance(column, pa.Array) else column) == values


@pytest.mark.parametrize("dtype", [pa.int8(), pa.float64(), pa.list_(pa.string()), pa.dictionary(pa.int8(), pa.int8())])
def test_columns_of_numbers_and_lists_hold_no_digests(dtype: Any) -> None:
    assert not holds_digests(dtype)
