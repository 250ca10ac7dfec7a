"""Each answer of a service comes to what `docs/answers.md` says, for each way of asking."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bitstore import AccessDenied, FileRaw, GSRaw, HTTPRaw, NotFoundInStore, Retry, S3Raw, Sha1Store, StoreNotAvailable
from tests.answers_table import DOCUMENT, FILES, ROWS, FileRow, Row, Verdict, document
from tests.scripted_server import Asked, Reply, ScriptedServer

ONCE = Retry(attempts=1)
DIGEST = "ab" * 20
NOBODY = 65534


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_the_answers_page_equals_the_table() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document()


def verdict(operation: Any, uri: str) -> tuple[Verdict, str]:
    """What a lookup comes to, and the error's text."""
    try:
        found = operation(uri)
    except NotFoundInStore as error:
        return "missing", str(error)
    except AccessDenied as error:
        return "refused", str(error)
    except StoreNotAvailable as error:
        return "out" if error.unreachable else "failed", str(error)
    if hasattr(found, "error"):
        raise AssertionError(found)
    return ("missing" if found is False else "found"), ""


def one_of_batch(store: Any) -> Any:
    def get(uri: str) -> Any:
        (blob,) = store.get_many([uri])
        if blob.error is not None:
            raise blob.error
        return blob.data

    return get


def one_located(store: Any) -> Any:
    def locate(uri: str) -> Any:
        (location,) = store.locate(uri)
        if location.error is not None:
            raise location.error
        return location.state == "held"

    return locate


def one_of_those_that_exist(store: Any) -> Any:
    def exists(uri: str) -> Any:
        (blob,) = store.exists_many([uri])
        if blob.error is not None:
            raise blob.error
        return True

    return exists


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}: {row.words}")
def test_an_answer_means_what_the_table_says(row: Row, tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        return row.head if asked.method == "HEAD" and row.head is not None else row.reply

    with ScriptedServer(answer) as server:
        choices: list[dict[str, Any]] = [{}, {"forbidden_is_missing": True, "missing_bucket": "missing"}]
        for options in choices:
            expected = row.lenient or row.verdict if options else row.verdict
            store: Any
            if row.kind == "S3":
                keys = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"}
                store, uri = S3Raw(keys, endpoint_url=server.url, region="r", retry=ONCE, **options), "s3://b/k"
            elif row.kind == "GCS":
                store, uri = GSRaw("anonymous", endpoint_url=server.url, retry=ONCE, **options), "gs://b/k"
            else:
                store, uri = HTTPRaw(retry=ONCE, **options), f"{server.url}/k"
            asked = {"get": store.get, "batch": one_of_batch(store), "exists": store.exists}
            asked |= {"locate": one_located(store), "exists_many": one_of_those_that_exist(store)}
            asked["download"] = lambda uri, store=store: store.download(uri, tmp_path / "file")
            for name, operation in asked.items():
                seen, text = verdict(operation, uri)
                if name not in ("get", "batch") and row.head is not None:
                    continue  # HEAD says nothing of it, and a download may take parts
                assert seen == expected, (name, options, text)
                if seen in ("failed", "refused") and not options:
                    assert row.says in text, name


# Google's client asks again for minutes where a service is out, and hides a 401 behind an error of its own.
_CLIENT_ROWS = [
    row
    for row in ROWS
    if row.kind == "S3" or (row.kind == "GCS" and row.verdict != "out" and row.reply[0] not in (401, 500))
]


@pytest.mark.parametrize("row", _CLIENT_ROWS, ids=lambda row: f"{row.kind}: {row.words}")
def test_an_answer_means_the_same_through_a_client_of_the_caller(row: Row) -> None:
    def answer(asked: Asked) -> Reply:
        return row.head if asked.method == "HEAD" and row.head is not None else row.reply

    with ScriptedServer(answer) as server:
        client = s3_client(server.url) if row.kind == "S3" else gcs_client(server.url)
        choices: list[dict[str, Any]] = [{}, {"forbidden_is_missing": True, "missing_bucket": "missing"}]
        for options in choices:
            store: Any = (S3Raw if row.kind == "S3" else GSRaw)(client=client, **options)
            uri = "s3://b/k" if row.kind == "S3" else "gs://b/k"
            expected = row.lenient or row.verdict if options else row.verdict
            for operation in (
                store.get,
                one_of_batch(store),
                *(() if row.head else (store.exists, one_located(store))),
            ):
                seen, text = verdict(operation, uri)
                assert seen == expected, (options, text)


def s3_client(url: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    return boto3.client(
        "s3", endpoint_url=url, region_name="r", config=config, aws_access_key_id="A", aws_secret_access_key="s"
    )


def gcs_client(url: str) -> Any:
    import google.cloud.storage as storage
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials

    return storage.Client(
        project="p",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options=ClientOptions(api_endpoint=url),
    )


@pytest.mark.parametrize("row", FILES, ids=lambda row: row.words)
def test_a_state_of_a_file_means_what_the_table_says(row: FileRow, tmp_path: Path, stack: ExitStack) -> None:
    if row.state == "no right":  # other users cannot look into `tmp_path`
        tmp_path = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tmp_path.chmod(0o755)
    folder = tmp_path / "blobs"
    path = folder / DIGEST[:2] / DIGEST
    state = row.state
    if state == "not a folder":
        folder.write_bytes(b"")
    elif state == "dangling folder":
        folder.mkdir()
        path.parent.symlink_to(folder / "gone")
    elif state.startswith("fan-out"):
        folder.mkdir()
        if state == "fan-out is a file":
            path.parent.write_bytes(b"")
    elif state != "no folder":
        path.parent.mkdir(parents=True)
    if state in ("file", "no right"):
        path.write_bytes(b"blob")
    if state == "dangling":
        path.symlink_to(folder / "gone")
    if state == "folder":
        path.mkdir()
    if state == "no right":
        path.chmod(0)
        if os.geteuid() == 0:  # who may read everything
            stack.callback(os.seteuid, 0)
            os.seteuid(NOBODY)
    for option in ("failure", "missing"):
        for root in (None, folder):
            raw: Any = FileRaw(root=root, missing_folder=option)
            store = Sha1Store(raw, f"file://{folder}/{{digest[:2]}}/{{digest}}")
            expected = (row.lenient if option == "missing" else None) or row.verdict
            for operation in (store.get, store.exists, one_of_batch(store)):
                seen, text = verdict(operation, DIGEST)
                assert seen == expected, (option, root, text)
