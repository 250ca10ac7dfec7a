"""What `import bitstore` costs and needs: tried in fresh processes."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bitstore
from tests.servers import SeaweedS3

ROOT = Path(bitstore.__file__).parent.parent
HEAVY = [
    "ray", "boto3", "botocore", "google", "pandas", "pyarrow", "numpy", "requests", "typer", "tqdm", "fsspec", "ultima",
]  # fmt: skip
LIGHT = [*HEAVY, "pycurl", "zstandard", "cachetools", "tenacity", "msgspec"]

# Stands in for an installation with the core's own dependencies only.
WITHOUT_EXTRAS = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(code: str, unwanted: list[str]) -> list[str]:
    told = run(f"import sys\nbefore = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))")
    return sorted({name.partition(".")[0] for name in told.split()} & set(unwanted))


def test_import_loads_nothing_heavy() -> None:
    assert loaded("import bitstore", LIGHT) == []


def test_no_name_loads_anything_heavy() -> None:
    assert loaded("from bitstore import *", HEAVY) == []
    assert loaded("from epic.bitstore import *", HEAVY) == []
    assert loaded("import bitstore.testing", HEAVY) == []


@pytest.mark.parametrize("module", ["bitstore._cli", "bitstore.config", "bitstore._raw.s3", "bitstore._raw.gs"])
def test_no_module_of_the_library_loads_ray_or_a_cloud(module: str) -> None:
    assert loaded(f"import {module}", ["ray", "boto3", "botocore", "google", "pandas", "pyarrow", "numpy"]) == []


def test_making_stores_loads_nothing_heavy() -> None:
    code = """
from bitstore import *
store = Sha1Composite()
store.append_cache(MemoryCache())
store.append_source(Sha1Store(S3Raw(), "s3://bucket/"))
store.append_source(Sha1Store(GSRaw(), "gs://bucket/"))
store.append_source(Sha1Store(HTTPRaw(), "https://127.0.0.1/"))
import pickle
repr(pickle.loads(pickle.dumps(store)))
"""
    assert loaded(code, HEAVY) == []


def test_it_works_with_the_core_alone(s3: SeaweedS3, public_bucket: str, tmp_path: Path) -> None:
    digest = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"
    s3.put(public_bucket, f"files/{digest}", b"hello")
    code = f"""{WITHOUT_EXTRAS}
from bitstore import *
store = Sha1Composite()
store.append_cache(MemoryCache())
store.append_cache(DiskCache({str(tmp_path / "cache")!r}, "1MB"))
store.append_source(Sha1Store(FileRaw(), "file://{tmp_path}/files/", verify=True, compression="zstd"))
store.append_source(Sha1Store(S3Raw.anonymous(), "s3://{public_bucket}/files/", verify=True))
assert store.get("{digest}") == b"hello"
assert [(blob.data, blob.source) for blob in store.get_many(["{digest}"])] == [(b"hello", "memory")]
Sha1Store(FileRaw(), "file://{tmp_path}/files/", compression="zstd").put("{digest}", b"hello")
assert store.sources[2].get("{digest}") == b"hello"
try:
    store.get("0" * 40)
except NotFoundInStore:
    pass
assert not any(name in sys.modules for name in {HEAVY!r})
"""
    run(code, AWS_ENDPOINT_URL_S3=s3.endpoint_url, AWS_REGION="us-east-1")


@pytest.mark.parametrize(
    ("store", "uri", "advice"),
    [
        ("S3Raw()", "s3://bucket/key", "pip install bitstore[aws]"),
        ("S3Raw({'profile_name': 'p'})", "s3://bucket/key", "pip install bitstore[aws]"),
        ("GSRaw()", "gs://bucket/key", "pip install bitstore[gcp]"),
    ],
)
@pytest.mark.parametrize("ask", ["store.get(uri)", "store.put(uri, b'x')", "store.exists(uri)"])
def test_what_is_not_installed_is_named(store: str, uri: str, advice: str, ask: str) -> None:
    code = f"""{WITHOUT_EXTRAS}
from bitstore import *
store, uri = {store}, {uri!r}
try:
    {ask}
except NotFoundInStore:
    raise
except StoreNotAvailable as error:
    assert {advice!r} in str(error), error
else:
    raise AssertionError("no error")
(blob,) = store.get_many([uri])
assert blob.failed and {advice!r} in str(blob.error), blob
"""
    run(code)


def test_every_public_name_is_there() -> None:
    assert bitstore.__all__ == sorted(set(bitstore.__all__))
    for name in bitstore.__all__:
        found = getattr(bitstore, name)
        if name != "ANONYMOUS":
            assert found.__name__ == name
            assert found.__doc__
    assert set(bitstore.__all__) <= set(dir(bitstore))
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = bitstore.Nonsense


def test_type_checkers_see_every_public_name() -> None:
    tree = ast.parse(Path(bitstore.__file__).read_text())
    (block,) = [
        node for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]  # fmt: skip
    seen = {
        alias.asname or alias.name: node.module
        for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }  # fmt: skip
    assert sorted(seen) == bitstore.__all__
    for name, module in seen.items():
        assert module is not None
        assert getattr(importlib.import_module(module), name) is getattr(bitstore, name)
    # Under `mypy --strict` a user may import only what type checkers can read to be exported.
    (listed,) = [
        node.value for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
    ]  # fmt: skip
    assert ast.literal_eval(listed) == bitstore.__all__


@pytest.mark.parametrize("module", ["bitstore", "epic.bitstore"])
def test_star_import(module: str) -> None:
    names: dict[str, object] = {}
    exec(f"from {module} import *", names)
    assert set(bitstore.__all__) <= set(names)


def test_it_is_typed() -> None:
    assert (Path(bitstore.__file__).parent / "py.typed").is_file()


def test_epic_stays_a_namespace() -> None:
    """Other distributions install their own parts of it."""
    assert not (ROOT / "epic" / "__init__.py").exists()
