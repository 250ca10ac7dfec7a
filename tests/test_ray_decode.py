"""Decode functions run where the blobs are; what they return fills the data column, and what they raise its row."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest

# Imported here and not in the fixture: it adds warning filters, which must not come after those of the tests.
import ray
import ray.data
from ray.data.block import BlockAccessor

from bitstore import DecodeFailed, DiskCache, NotFoundInStore, Sha1Composite
from ray_integration import DecodeNotLoaded, FetchBlobs, NodePool, VersionMismatch, fetch_blobs
from ray_integration._node.decoding import Decode, Decoders
from ray_integration._node.forms import form_of
from tests.ray_cluster import leave_nothing
from tests.ray_stores import NUMBERED, NumberedAPI, OddStore

DIGESTS = list(NUMBERED)
SHAPE = (2, 3)
ARRAYS = numpy.arange(60, dtype="f4").reshape(10, *SHAPE)


def digest_of(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def array_store() -> OddStore:
    return OddStore({f"{number:040x}": array.tobytes() for number, array in enumerate(ARRAYS)})


def rows(digests: list[Any]) -> pyarrow.Table:
    return pyarrow.table({"sha1": pyarrow.array(digests, pyarrow.string())})


def piece_of(store: Any, digests: list[Any], **options: Any) -> pyarrow.Table:
    (piece,) = FetchBlobs(store, **options)(rows(digests))
    return piece


def length(data: bytes) -> int:
    return len(data)


def process_and_blob(data: bytes) -> bytes:
    return b"%d %s" % (os.getpid(), data)


def odd(data: bytes) -> Any:
    """Fails in the ways in which functions fail."""
    number = int(data.split()[1])
    if number == 0:
        raise NotFoundInStore("a store", "0" * 40)
    if number == 1:
        raise StopIteration
    if number == 2:
        return None
    if number == 3:
        return "text"
    return data.upper()


FORMS: dict[str, tuple[Callable[[bytes], Any], Any, pyarrow.DataType, Any]] = {
    "bytes": (bytes.upper, None, pyarrow.large_binary(), b"BLOB 7"),
    "a view": (memoryview, None, pyarrow.large_binary(), b"blob 7"),
    "a number": (length, pyarrow.int32(), pyarrow.int32(), 6),
    "text": (bytes.decode, pyarrow.string(), pyarrow.string(), "blob 7"),
    "a scalar of Arrow": (lambda data: pyarrow.scalar(1.5), pyarrow.float32(), pyarrow.float32(), 1.5),
    "a struct": (
        lambda data: {"size": len(data), "words": data.decode().split()},
        pyarrow.struct({"size": pyarrow.int64(), "words": pyarrow.list_(pyarrow.string())}),
        pyarrow.struct({"size": pyarrow.int64(), "words": pyarrow.list_(pyarrow.string())}),
        {"size": 6, "words": ["blob", "7"]},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_result_of_each_form_fills_the_column_of_its_type(form: str) -> None:
    decode, given, expected, value = FORMS[form]
    store = OddStore({DIGESTS[7]: NUMBERED[DIGESTS[7]]})
    piece = piece_of(store, [DIGESTS[7], None, DIGESTS[7]], decode=decode, decoded_type=given)
    piece.column("data").validate(full=True)
    assert piece.schema.field("data").type == expected
    assert piece.column("data").to_pylist() == [value, None, value]
    nothing = piece_of(store, [None], decode=decode, decoded_type=given)
    assert nothing.schema == piece.schema
    assert FetchBlobs(store, decode=decode, decoded_type=given).without_lookups(rows([])).schema == piece.schema


@pytest.mark.parametrize("kind", ["f4", "f2", "u1", "?", "i8"])
def test_arrays_fill_a_column_of_tensors_in_which_missing_ones_are_null(kind: str) -> None:
    arrays = (ARRAYS % 2).astype(kind)

    def decode(data: bytes) -> Any:
        return (numpy.frombuffer(data, "f4").reshape(SHAPE) % 2).astype(kind)

    digests = [f"{number:040x}" for number in (3, 12, 4, 4, 9)]
    piece = piece_of(array_store(), digests, decode=decode, decoded_type=(kind, SHAPE), block_bytes="1MB")
    column = piece.column("data")
    column.validate(full=True)
    assert [value is None for value in column.to_pylist()] == [False, True, False, False, False]
    for part in (column, column.slice(2), column.slice(3, 1)):
        (chunk,) = part.chunks
        found = chunk.to_numpy(zero_copy_only=False)
        assert (found.dtype, found.shape) == (numpy.dtype(kind), (len(part), *SHAPE))
    whole = column.chunk(0).to_numpy(zero_copy_only=False)
    assert numpy.array_equal(whole[[0, 2, 3, 4]], arrays[[3, 4, 4, 9]])
    assert (numpy.isnan(whole[1]) if whole.dtype.kind == "f" else whole[1] == 0).all()


def test_blobs_of_equal_size_are_tensors_in_the_memory_of_their_column() -> None:
    digests = [f"{number:040x}" for number in range(10)]
    store = array_store()
    store.answers["short"] = b"1234"
    piece = piece_of(store, digests, decoded_type=("f4", SHAPE))
    (chunk,) = piece.column("data").chunks
    shown = chunk.to_numpy()
    assert numpy.array_equal(shown, ARRAYS)
    assert numpy.shares_memory(shown, numpy.frombuffer(chunk.buffers()[-1], "u1"))
    # The column is made in the memory in which the blobs were collected.
    blobs = ARRAYS.tobytes()
    made = form_of(("f4", SHAPE)).array([True] * 10, array("q", range(0, len(blobs) + 1, 24)), blobs)
    assert numpy.shares_memory(made.to_numpy(), numpy.frombuffer(blobs, "u1"))
    wrong = piece_of(store, ["short"], decoded_type=("f4", SHAPE)).column("error")[0].as_py()
    assert wrong == "failed: short cannot be decoded: ValueError: it has 4 bytes, and (float32, (2, 3)) has 24"


def test_an_error_of_a_decode_function_is_a_failure_of_its_row() -> None:
    store = OddStore(dict(list(NUMBERED.items())[:5]))
    piece = piece_of(store, [*DIGESTS[:5], "0" * 40], decode=odd, kind_column="kind")
    assert piece.column("data").to_pylist() == [*[None] * 4, b"BLOB 4", None]
    assert piece.column("kind").to_pylist() == [*["failed"] * 4, None, "invalid"]
    errors = piece.column("error").to_pylist()
    assert errors[0].startswith(f"failed: {DIGESTS[0]} cannot be decoded: ")
    assert [error.rpartition("decoded: ")[2] for error in errors[1:4]] == [
        "StopIteration: ",
        "TypeError: decode returned NoneType, not bytes: say what it returns by decoded_type=...",
        "TypeError: decode returned str, not bytes: say what it returns by decoded_type=...",
    ]
    with pytest.raises(DecodeFailed, match=f"{DIGESTS[0]} cannot be decoded") as caught:
        piece_of(store, DIGESTS[:5], decode=odd, errors="raise")
    assert isinstance(caught.value.__cause__, NotFoundInStore)  # with its traceback
    wrong = piece_of(store, [DIGESTS[4]], decode=lambda data: ARRAYS, decoded_type=("u1", SHAPE)).column("error")[0]
    assert "decode returned ndarray (float32, (10, 2, 3)), and decoded_type is (uint8, (2, 3))" in wrong.as_py()
    wrong = piece_of(store, [DIGESTS[4]], decode=odd, decoded_type=pyarrow.int8()).column("error")[0]
    assert wrong.as_py().startswith(f"failed: {DIGESTS[4]} cannot be decoded: Arrow")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"decode": "PIL"}, "decode='PIL': give a function that takes bytes"),
        ({"decoded_type": pyarrow.int64()}, "without it, only .dtype, shape. makes sense"),
        ({"decoded_type": "uint8"}, "decoded_type='uint8': give an Arrow type"),
        ({"decoded_type": ("uint8", 4)}, "decoded_type=.*: give an Arrow type"),
        ({"decoded_type": ("uint9", (4,))}, "decoded_type=.*: give a dtype and a shape"),
        ({"decoded_type": ("uint8", (4, 1.5))}, "decoded_type=.*: give a dtype and a shape"),
        ({"decoded_type": ("uint8", ())}, "for numbers give an Arrow type"),
        ({"decoded_type": ("uint8", (4, 0))}, "each dimension at least 1"),
        ({"decoded_type": (">f4", (4,))}, "native byte order"),
        ({"decoded_type": ("U3", (4,))}, "arrays hold numbers"),
        ({"decode": len, "decoded_type": pyarrow.fixed_shape_tensor(pyarrow.int8(), (1,))}, "plain Arrow type, or"),
    ],
)
def test_options_of_decoding_that_make_no_sense_are_errors(options: dict[str, Any], named: str) -> None:
    with pytest.raises((TypeError, ValueError), match=named):
        FetchBlobs(array_store(), **options)


def test_rows_in_each_format_of_batches_keep_the_type_of_results() -> None:
    digests = [f"{number:040x}" for number in (3, 12)]
    for batch in (rows(digests).to_pandas(), {"sha1": numpy.array(digests)}):
        for options, expected in (({"decoded_type": ("f4", SHAPE)}, ARRAYS[3].tolist()), ({"decode": bytes}, b"")):
            fetch = FetchBlobs(array_store(), **options)
            if isinstance(batch, dict) and not isinstance(expected, bytes):
                with pytest.raises(ValueError, match="needs batch_format='pyarrow'"):
                    list(fetch(batch))
                continue
            (piece,) = fetch(batch)
            block = BlockAccessor.for_block(BlockAccessor.batch_to_block(piece)).to_arrow()
            assert block.schema.field("data").type == fetch.without_lookups(rows([])).schema.field("data").type
            found, missing = block.column("data").to_pylist()
            assert missing is None
            assert isinstance(found, bytes) or found.tolist() == expected


@pytest.mark.ray
def test_a_decode_function_that_cannot_travel_is_an_error_in_the_driver(shared_ray: Any) -> None:
    lock = threading.Lock()
    listed = ray.data.from_items([{"sha1": DIGESTS[0]}])
    with pytest.raises(TypeError, match=r"the decode function cannot be .* variable 'lock' \(_thread.lock\)"):
        fetch_blobs(listed, array_store(), decode=lambda data: bool(lock) and data)
    large = bytes(9 << 20)
    with pytest.raises(ValueError, match=r"needs batch_format='pyarrow'"):
        fetch_blobs(listed, array_store(), decoded_type=("f4", SHAPE), batch_format="numpy")
    with pytest.raises(ValueError, match=r"pickles to 9 MiB, and may have 8"):
        fetch_blobs(listed, array_store(), decode=lambda data: large)


@pytest.fixture
def pool(shared_ray: Any, tmp_path: Path) -> Iterator[NodePool]:
    store = Sha1Composite()
    store.append_cache(DiskCache(tmp_path / "cache", "1GB"), name="disk")
    store.append_source(NumberedAPI(tmp_path / "calls"), name="api")
    with NodePool(store, private=True) as pool:
        pool.store = store  # type: ignore[attr-defined]
        yield pool
    leave_nothing()


@pytest.mark.ray
@pytest.mark.parametrize("routing", ["local", "owner"])
def test_blobs_are_decoded_where_they_are_and_kept_as_they_came(pool: Any, tmp_path: Path, routing: Any) -> None:
    (node,) = pool.nodes()
    digests = DIGESTS[:200]
    fetch = FetchBlobs(pool.store, pool=pool, routing=routing, decode=process_and_blob)
    for pid in (node.pid, os.getpid()):  # from the source by the node store, then from the node's disk by this process
        (piece,) = fetch(rows(digests))
        assert piece.column("data").to_pylist() == [b"%d %s" % (pid, NUMBERED[digest]) for digest in digests]
    cache = pool.store.tiers[0].store
    assert [cache.get(digest) for digest in digests] == [NUMBERED[digest] for digest in digests]
    assert sorted((tmp_path / "calls").read_text().split()) == sorted(digests)
    # What cannot be decoded is paid for once, and no other process is asked for it.
    (piece,) = FetchBlobs(pool.store, pool=pool, routing=routing, decode=odd, kind_column="kind")(rows(DIGESTS[:5]))
    assert piece.column("kind").to_pylist() == [*["failed"] * 4, None]
    with pytest.raises(DecodeFailed, match="cannot be decoded: ValueError: no 200"):
        list(FetchBlobs(pool.store, pool=pool, decode=refuse, errors="raise")(rows(DIGESTS[200:201])))
    assert len((tmp_path / "calls").read_text().split()) == 201


def refuse(data: bytes) -> bytes:
    raise ValueError(f"no {int(data.split()[1])}")


CODE = "import own_digits\ndef decode(data):\n    return own_digits.WORD + data\n"


def write_code(folder: Path, word: str) -> None:
    (folder / "own_decode.py").write_text(CODE)
    (folder / "own_digits.py").write_text(f"WORD = b'{word} '\n")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Writes the modules of a decode function, and imports it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(word: str) -> Any:
        write_code(tmp_path, word)
        forget()
        import own_decode  # type: ignore[import-not-found]

        return own_decode.decode

    def forget() -> None:
        for name in ("own_decode", "own_digits"):
            sys.modules.pop(name, None)

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield write
    forget()


def sent(decode: Decode) -> Decode:
    """As it arrives in another process."""
    made: Decode = ray.cloudpickle.loads(ray.cloudpickle.dumps(decode))  # type: ignore[no-untyped-call]
    return made


def test_a_process_never_decodes_with_two_versions_of_the_users_code(own: Any, tmp_path: Path) -> None:
    old = sent(Decode(own("old"), None))
    assert sorted(old.code) == ["own_decode", "own_digits"]
    shared, other = (Decoders(name, {}) for name in ("the node store", "another"))
    assert shared.load(old)(b"1") == b"old 1"  # type: ignore[misc]
    new = sent(Decode(own("new"), None))
    assert new.key != old.key
    with pytest.raises(
        VersionMismatch, match=r"the node store has another source of module own_digits .* than the dec"
    ):
        shared.load(new)  # Python has the old module there
    with pytest.raises(VersionMismatch, match="the store's has another source of module own_digits"):
        Decoders("the store's", old.code).load(new)
    with pytest.raises(VersionMismatch, match="another has another source of module own_digits"):
        other.load(old)  # the file is another
    assert other.load(new)(b"1") == b"new 1"  # type: ignore[misc]
    assert shared.load(old)(b"1") == b"old 1"  # type: ignore[misc]
    for name in ("own_decode", "own_digits"):
        (tmp_path / f"{name}.py").unlink()
        sys.modules.pop(name)
    with pytest.raises(DecodeNotLoaded, match="a third cannot load the decode function: ModuleNotFoundError"):
        Decoders("a third", {}).load(sent(new))


@pytest.mark.ray
def test_a_job_whose_decode_function_a_node_store_cannot_use_ends_with_its_error(pool: Any, own: Any) -> None:
    digests = DIGESTS[300:310]
    # The processes of this Ray have no such module.
    fetch = FetchBlobs(pool.store, pool=pool, routing="owner", decode=own("old"))
    with pytest.raises(DecodeNotLoaded, match=r"the node store of node .* No module named 'own_decode'"):
        list(fetch(rows(digests)))


def picture(data: bytes) -> Any:
    import PIL.Image

    return numpy.asarray(PIL.Image.open(io.BytesIO(data)))


@pytest.mark.ray
def test_pictures_become_batches_of_arrays_and_looks_stay_free(shared_ray: Any, tmp_path: Path) -> None:
    import PIL.Image

    pictures = numpy.arange(50 * 8 * 8 * 3, dtype="u1").reshape(50, 8, 8, 3)
    store = Sha1Composite()
    store.append_cache(DiskCache(tmp_path / "cache"), name="disk")
    digests = []
    for pixels in pictures:
        file = io.BytesIO()
        PIL.Image.fromarray(pixels).save(file, "png")
        digests.append(digest_of(file.getvalue()))
        store.tiers[0].store.put(digests[-1], file.getvalue())
    marks = tmp_path / "marks"

    def decode(data: bytes) -> Any:
        with marks.open("a") as file:
            file.write("x")
        return picture(data)

    listed = ray.data.from_items([{"sha1": digest} for digest in digests])
    shown = fetch_blobs(listed, store, decode=decode, decoded_type=("uint8", (8, 8, 3)), errors="raise")
    assert shown.count() == 50
    assert "shape=(8, 8, 3), dtype=uint8" in str(shown.schema())
    assert not marks.exists()
    assert numpy.array_equal(shown.take(1)[0]["data"], pictures[0])
    assert marks.read_text() == "x"
    (batch,) = shown.select_columns(["sha1", "data"]).iter_batches(batch_size=None, batch_format="numpy")
    assert batch["data"].shape == pictures.shape
    order = [digests.index(digest) for digest in batch["sha1"]]
    assert numpy.array_equal(batch["data"], pictures[order])
    assert not batch["data"].flags.writeable  # it is the memory of the block
