"""What an installation with some extras must do: run by its own Python, in an empty folder, beside no checkout.

`python -I tryout.py aws,cli '{"endpoint": ..., ...}'`: the extras, and the places of real servers.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXTRAS = frozenset(sys.argv[1].split(",")) - {""}
PLACES: dict[str, Any] = json.loads(sys.argv[2])
DATA = b"a blob"
DIGEST = hashlib.sha1(DATA).hexdigest()
BIN = Path(sys.executable).parent


def refused(act: Callable[[], object], advice: str) -> None:
    """Check that `act` fails and that its error says what to install."""
    try:
        act()
    except Exception as error:
        told = str(error)
    else:
        told = "no error"
    assert advice in told, told


def files_are_those_of_the_distribution() -> None:
    import bitstore

    site = Path(bitstore.__file__).parent.parent
    assert site.name == "site-packages" and not any((Path(entry) / "pyproject.toml").exists() for entry in sys.path)
    assert importlib.metadata.version("epic-bitstore") == bitstore.__version__
    owned = {Path(str(file)) for file in importlib.metadata.files("epic-bitstore") or []}
    assert {path.parts[0] for path in owned} - {".."} == {
        "bitstore", "epic", "ray_integration", f"epic_bitstore-{bitstore.__version__}.dist-info",
    }  # fmt: skip
    there = {
        path.relative_to(site)
        for package in ("bitstore", "ray_integration", "epic/bitstore")
        for path in (site / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert there <= owned, f"files of no distribution: {sorted(map(str, there - owned))}"
    assert {Path(package, "py.typed") for package in ("bitstore", "ray_integration", "epic/bitstore")} <= there
    assert not (site / "epic" / "__init__.py").exists()
    assert len(list(site.glob("epic_bitstore-*"))) == 1 and not list(site.glob("bitstore-*"))


def the_native_transport_is_used_where_it_was_built() -> None:
    from bitstore._transport.native.choice import choice
    from bitstore._transport.transports import kinds

    native = choice()
    assert native.state == ("used" if PLACES["native"] else "absent"), native
    assert (kinds()[0].__name__ == "Native") == PLACES["native"], kinds()


def links_of_the_description_lead_somewhere_from_the_index() -> None:
    text = importlib.metadata.metadata("epic-bitstore").json["description"]
    links = re.findall(r"\]\(([^)]+)\)", str(text))
    assert len(links) > 20 and [link for link in links if not link.startswith(("https://", "#"))] == [], links


def every_public_name_is_there() -> None:
    modules = ["bitstore", "bitstore.config", "bitstore.index", "bitstore.steps", "bitstore.testing", "ray_integration"]
    if "fsspec" in EXTRAS:
        modules.append("bitstore.fsspec")
    for module in modules:
        for name in importlib.import_module(module).__all__:
            getattr(importlib.import_module(module), name)
    for module in ("", ".aws", ".composite", ".exc", ".gcp", ".sha1", ".store"):
        importlib.import_module(f"epic.bitstore{module}")


def stores_on_this_machine() -> None:
    from bitstore import DiskCache, FileRaw, MemoryCache, NotFoundInStore, Sha1Composite, Sha1Store
    from bitstore.testing import check_store

    folder = Path.cwd().as_uri()
    for compression in (None, "gzip", "zstd"):
        Sha1Store(FileRaw(), f"{folder}/{compression}/", compression=compression).put(DIGEST, DATA)
    check_store(lambda: Sha1Store(FileRaw(), f"{folder}/checked/", verify=True), "sha1", processes=False)
    store = Sha1Composite()
    store.append_cache(MemoryCache())
    store.append_cache(DiskCache("cache", "1MB"))
    store.append_source(Sha1Store(FileRaw(), f"{folder}/zstd/", verify=True, compression="zstd"))
    assert store.get(DIGEST) == DATA
    found, missing = store.get_many([DIGEST, "0" * 40], ordered=True)
    assert found.data == DATA and isinstance(missing.error, NotFoundInStore)


def in_folder() -> Any:
    """A composite of the folder that `stores_on_this_machine` has filled."""
    from bitstore import FileRaw, Sha1Composite, Sha1Store

    store = Sha1Composite()
    store.append_source(Sha1Store(FileRaw(), f"{Path.cwd().as_uri()}/None/", verify=True))
    return store


def frames() -> None:
    if "frames" not in EXTRAS:
        return
    import pandas
    import polars
    import pyarrow

    store, rows = in_folder(), {"sha1": [DIGEST, "0" * 40]}
    kinds = [None, "missing"]
    assert (
        store.get_frame(pandas.DataFrame(rows))["kind"].astype(object).where(lambda kind: kind.notna(), None).tolist()
        == kinds
    )
    assert store.get_frame(polars.DataFrame(rows))["kind"].to_list() == kinds
    assert store.get_table(pyarrow.table(rows)).column("kind").to_pylist() == kinds


def files_by_digest() -> None:
    if importlib.util.find_spec("fsspec") is None:  # Ray brings it as well
        refused(lambda: importlib.import_module("bitstore.fsspec"), "pip install 'epic-bitstore[fsspec]'")
        return
    import fsspec

    with fsspec.open(f"sha1://{DIGEST}", store=in_folder()) as file:
        assert file.read() == DATA


def other_libraries_as_stores() -> None:
    from bitstore import FsspecRaw, ObstoreRaw, Sha1Store

    if "fsspec" in EXTRAS:
        import fsspec

        store = Sha1Store(FsspecRaw(fsspec.filesystem("memory")), "memory://files/", verify=True)
        store.put(DIGEST, DATA)
        assert store.get(DIGEST) == DATA
    if "obstore" in EXTRAS:
        from obstore.store import MemoryStore

        store = Sha1Store(ObstoreRaw(MemoryStore()), "memory://files/", verify=True)
        store.put(DIGEST, DATA)
        assert store.get(DIGEST) == DATA


def membership() -> None:
    from bitstore.index import Index, IndexBuilder

    if importlib.util.find_spec("numpy") is None:
        refused(lambda: IndexBuilder("sha1"), "pip install 'epic-bitstore[index]'")
        return
    with IndexBuilder("sha1") as builder:
        builder.add([DIGEST])
        builder.write("files.idx")
    assert DIGEST in Index("files.idx") and "0" * 40 not in Index("files.idx")


def observed() -> None:
    from bitstore.observe import otel

    store = in_folder()
    if "otel" in EXTRAS or importlib.util.find_spec("opentelemetry") is not None:
        otel(store)
        assert store.get(DIGEST) == DATA
    else:
        refused(lambda: otel(store), "pip install 'epic-bitstore[otel]'")


def s3() -> None:
    from bitstore import S3Raw, Sha1Store

    keys = {"aws_access_key_id": PLACES["key"], "aws_secret_access_key": PLACES["secret"]}
    place = {"endpoint_url": PLACES["s3"], "region": "us-east-1"}
    store = Sha1Store(S3Raw(keys, **place), f"s3://{PLACES['bucket']}/files/", verify=True)
    store.put(DIGEST, DATA)
    assert store.get(DIGEST) == DATA
    Path("credentials").write_text("[mine]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items()))
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(Path("credentials").resolve())
    by_profile = Sha1Store(S3Raw({"profile_name": "mine"}, **place), f"s3://{PLACES['bucket']}/files/")
    if "aws" in EXTRAS:
        assert by_profile.get(DIGEST) == DATA
        import boto3

        client = boto3.client("s3", endpoint_url=PLACES["s3"], region_name="us-east-1", **keys)
        assert S3Raw(client=client).get(f"s3://{PLACES['bucket']}/files/{DIGEST}") == DATA
    else:
        refused(lambda: by_profile.get(DIGEST), "pip install 'epic-bitstore[aws]'")


def gcs() -> None:
    from bitstore import GSRaw

    uri = f"gs://{PLACES['gcs_bucket']}/a blob"
    mine = GSRaw({"type": "service_account"}, endpoint_url=PLACES["gcs"])
    if "gcp" in EXTRAS:
        from google.api_core.client_options import ClientOptions
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        refused(lambda: mine.get(uri), "Service account info")
        nobody: Any = AnonymousCredentials()  # type: ignore[no-untyped-call]
        options = ClientOptions(api_endpoint=PLACES["gcs"])
        client = storage.Client(project="p", credentials=nobody, client_options=options)
        raw = GSRaw(client=client)
    else:
        refused(lambda: mine.get(uri), "pip install 'epic-bitstore[gcp]'")
        raw = GSRaw("anonymous", endpoint_url=PLACES["gcs"])
    raw.put(uri, DATA)
    assert raw.get(uri) == DATA


def command_line() -> None:
    def command(*arguments: str) -> tuple[int, str]:
        done = subprocess.run([BIN / "bitstore", *arguments], capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout + done.stderr

    if "cli" not in EXTRAS and importlib.util.find_spec("typer") is None:
        code, told = command("--version")
        assert code == 3 and "pip install 'epic-bitstore[cli]'" in told, told
        return
    code, told = command("--version")
    first, second = told.splitlines()
    assert code == 0 and first == importlib.metadata.version("epic-bitstore"), told
    assert second.startswith("native transport: "), told
    assert command("--help")[0] == 0
    code, told = command("get")
    assert code == 3 and "Missing argument" in told, told
    Path("list.txt").write_text(f"{DIGEST}\n")
    code, told = command("fetch", "list.txt", "-o", "out.parquet", "--store", f"{Path.cwd().as_uri()}/None/")
    assert code == 0, told
    code, told = command("fetch", "out.parquet", "-o", "out", "--store", f"{Path.cwd().as_uri()}/None/")
    assert code == 0 and any(path.read_bytes() == DATA for path in Path("out").rglob(DIGEST)), told


def on_ray() -> None:
    if "ray" not in EXTRAS:
        return
    import ray

    from bitstore import FileRaw, Sha1Composite, Sha1Store
    from ray_integration import fetch_blobs

    store = Sha1Composite()
    store.append_source(Sha1Store(FileRaw(), f"{Path.cwd().as_uri()}/None/", verify=True))
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    digests = [DIGEST, "0" * 40]
    table = fetch_blobs(ray.data.from_items([{"sha1": digest} for digest in digests]), store).to_pandas()
    rows = {row.sha1: row for row in table.itertuples()}
    assert rows[DIGEST].data == DATA and rows["0" * 40].error.startswith("missing: "), table
    ray.shutdown()


if __name__ == "__main__":
    for check in (
        files_are_those_of_the_distribution, the_native_transport_is_used_where_it_was_built,
        links_of_the_description_lead_somewhere_from_the_index,
        every_public_name_is_there, stores_on_this_machine, frames,
        files_by_digest, other_libraries_as_stores, membership, observed, s3, gcs, command_line, on_ray,
    ):  # fmt: skip
        check()
