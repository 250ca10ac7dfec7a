"""Each answer of a service comes to what `docs/answers.md` says, for each way of asking."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bitstore import AccessDenied, FileRaw, GSRaw, HTTPRaw, NotFoundInStore, Retry, S3Raw, Sha1Store, StoreNotAvailable
from tests.answers_table import DOCUMENT, FILES, ROWS, FileRow, Row, Verdict, document
from tests.scripted_server import Asked, Reply, ScriptedServer

ONCE = Retry(attempts=1)
DIGEST = "ab" * 20


def test_the_page_is_the_table() -> None:
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


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}: {row.words}")
def test_answer_comes_to_what_the_table_says(row: Row, tmp_path: Path) -> None:
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
            asked["download"] = lambda uri, store=store: store.download(uri, tmp_path / "file")
            for name, operation in asked.items():
                seen, text = verdict(operation, uri)
                if name in ("exists", "download") and row.head is not None:
                    continue  # HEAD says nothing of it, and a download may take parts
                assert seen == expected, (name, options, text)
                if seen in ("failed", "refused") and not options:
                    assert row.says in text, name


@pytest.mark.parametrize("row", FILES, ids=lambda row: row.words)
def test_state_of_files_comes_to_what_the_table_says(row: FileRow, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    path = folder / DIGEST[:2] / DIGEST
    state = row.state
    if state == "not a folder":
        folder.write_bytes(b"")
    elif state == "fan-out":
        folder.mkdir()
    elif state != "no folder":
        path.parent.mkdir(parents=True)
    if state in ("file", "no right"):
        path.write_bytes(b"blob")
    if state == "dangling":
        path.symlink_to(folder / "gone")
    if state == "folder":
        path.mkdir()
    if state == "no right":
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
        path.chmod(0)
    for option in ("failure", "missing"):
        for root in (None, folder):
            raw: Any = FileRaw(root=root, missing_folder=option)
            store = Sha1Store(raw, f"file://{folder}/{{digest[:2]}}/{{digest}}")
            expected = (row.lenient if option == "missing" else None) or row.verdict
            for operation in (store.get, store.exists, one_of_batch(store)):
                seen, text = verdict(operation, DIGEST)
                assert seen == expected, (option, root, text)
