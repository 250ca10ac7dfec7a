"""What `import bitstore` costs and needs: tried in fresh processes."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import bitstore
import ray_integration
from tests.servers import FakeGCS, SeaweedS3

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(bitstore.__file__).parent.parent
HEAVY = [
    "ray", "boto3", "botocore", "google", "pandas", "pyarrow", "numpy", "polars", "requests", "typer", "tqdm", "fsspec",
    "obstore", "ultima",
]  # fmt: skip
LIGHT = [*HEAVY, "pycurl", "zstandard", "cachetools", "msgspec"]
PUBLIC: list[str] = vars(bitstore)["__all__"]  # which type checkers are not shown
VARIADIC = {"BitstoreError"}  # by its nature: the base of errors keeps whatever its subclasses were made with

# Stands in for an installation with the core's own dependencies only.
WITHOUT_EXTRAS = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run(code: str, folder: str | Path = ".", **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(code: str, unwanted: list[str]) -> list[str]:
    told = run(f"import sys\nbefore = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))")
    return sorted({name.partition(".")[0] for name in told.split()} & set(unwanted))


def test_importing_bitstore_loads_no_heavy_module() -> None:
    assert loaded("import bitstore", LIGHT) == []


def test_no_public_name_loads_a_heavy_module() -> None:
    assert loaded("from bitstore import *", HEAVY) == []
    assert loaded("from epic.bitstore import *", HEAVY) == []
    assert loaded("import bitstore.testing", HEAVY) == []


@pytest.mark.parametrize("module", ["bitstore._cli", "bitstore.config", "bitstore._raw.s3", "bitstore._raw.gs"])
def test_no_module_of_the_library_loads_ray_or_a_cloud(module: str) -> None:
    assert loaded(f"import {module}", ["ray", "boto3", "botocore", "google", "pandas", "pyarrow", "numpy"]) == []


def test_making_stores_loads_no_heavy_module() -> None:
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


def test_the_library_works_with_its_core_dependencies_alone(
    s3: SeaweedS3, public_bucket: str, gcs: FakeGCS, gcs_bucket: str, tmp_path: Path
) -> None:
    digest = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"
    s3.put(public_bucket, f"files/{digest}", b"hello")
    gcs.put(gcs_bucket, "k", b"hello")
    code = f"""{WITHOUT_EXTRAS}
from bitstore import *
store = Sha1Composite()
store.append_cache(MemoryCache())
store.append_cache(DiskCache({str(tmp_path / "cache")!r}, "1MB"))
store.append_source(Sha1Store(FileRaw(), "file://{tmp_path}/files/", verify=True, compression="zstd"))
store.append_source(Sha1Store(S3Raw.anonymous(), "s3://{public_bucket}/files/", verify=True))
assert store.get("{digest}") == b"hello"
assert S3Raw("anonymous", endpoint_url={s3.endpoint_url!r}).get("s3://{public_bucket}/files/{digest}") == b"hello"
assert GSRaw("anonymous", endpoint_url={gcs.url!r}).get("gs://{gcs_bucket}/k") == b"hello"
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
        ("S3Raw()", "s3://bucket/key", "pip install 'epic-bitstore[aws]'"),
        ("S3Raw({'profile_name': 'p'})", "s3://bucket/key", "pip install 'epic-bitstore[aws]'"),
        ("GSRaw()", "gs://bucket/key", "pip install 'epic-bitstore[gcp]'"),
    ],
)
@pytest.mark.parametrize("ask", ["store.get(uri)", "store.put(uri, b'x')", "store.exists(uri)"])
def test_a_missing_extra_is_named_with_its_install_command(store: str, uri: str, advice: str, ask: str) -> None:
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


def test_every_install_hint_names_this_distribution_and_one_of_its_extras() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    sources = [path for package in ("bitstore", "ray_integration") for path in (ROOT / package).rglob("*.py")]
    advice = [found for path in sources for found in re.findall(r"pip install .{0,40}", path.read_text())]
    assert len(advice) >= 8
    for text in advice:
        named = re.match(r"pip install '([a-z-]+)\[([a-z,]+)\]'", text)
        assert named is not None, text
        assert named[1] == project["name"]
        assert set(named[2].split(",")) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("kind", [bitstore.Sha1Store, bitstore.Md5Store, bitstore.Sha256APISource])
def test_help_of_a_named_class_tells_the_parameters_of_its_base(kind: type) -> None:
    text = inspect.getdoc(kind) or ""
    assert text.startswith("`Digest") and "\nParameters\n----" in text and "\nverify\n" in text
    assert run(f"import bitstore\nprint(bitstore.{kind.__name__}.__name__)", PYTHONOPTIMIZE="2") == f"{kind.__name__}\n"


def test_public_modules_are_attributes_of_the_package() -> None:
    code = "import bitstore\nprint(*(getattr(bitstore, name).__name__ for name in ('config', 'observe', 'testing')))"
    assert run(code) == "bitstore.config bitstore.observe bitstore.testing\n"
    assert run("import bitstore\nprint(hasattr(bitstore, 'nothing'), hasattr(bitstore, '_raw'))") == "False False\n"


def test_every_public_name_can_be_imported() -> None:
    assert sorted(set(PUBLIC)) == PUBLIC
    for name in PUBLIC:
        found = getattr(bitstore, name)
        if name != "ANONYMOUS":
            assert found.__name__ == name
            assert found.__doc__
    assert set(PUBLIC) <= set(dir(bitstore))
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = bitstore.Nonsense  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", [bitstore, ray_integration], ids=lambda module: module.__name__)
def test_signatures_of_public_classes_show_their_parameters(module: Any) -> None:
    for name in vars(module)["__all__"]:
        if inspect.isclass(kind := getattr(module, name)):
            kinds = {parameter.kind for parameter in inspect.signature(kind).parameters.values()}
            hidden = kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
            inherited = issubclass(kind, bitstore.BitstoreError) and "__init__" not in vars(kind)
            assert not hidden or inherited or name in VARIADIC, f"{name}{inspect.signature(kind)}"


def test_public_names_are_found_in_compiled_files_alone(tmp_path: Path) -> None:
    """An installation may hold no sources, or be a zip."""
    archive = tmp_path / "packages.zip"
    with zipfile.PyZipFile(str(archive), "w") as packed:
        packed.writepy(str(ROOT / "bitstore"))
    code = "import bitstore; print(bitstore.__file__, len(bitstore.__all__), bitstore.Store.__module__)"
    told = run(code, tmp_path, PYTHONPATH=str(archive))
    assert told.split() == [f"{archive}/bitstore/__init__.pyc", str(len(PUBLIC)), "bitstore.store"]


@pytest.mark.parametrize("module", ["bitstore", "epic.bitstore"])
def test_a_star_import_brings_every_public_name(module: str) -> None:
    names: dict[str, object] = {}
    exec(f"from {module} import *", names)
    assert set(PUBLIC) <= set(names)


def test_every_package_carries_the_marker_py_typed() -> None:
    for package in ("bitstore", "ray_integration", "epic/bitstore"):
        assert (ROOT / package / "py.typed").is_file()


def test_epic_stays_a_namespace_package() -> None:
    """Other distributions install their own parts of it."""
    assert not (ROOT / "epic" / "__init__.py").exists()
