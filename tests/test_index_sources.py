"""Indexes of inventory reports of Google Cloud Storage, and of lists of keys."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from bitstore import FileRaw, NotFoundInStore, Sha1Store
from bitstore.config import loads
from tests.cli_scene import Scene
from tests.servers import FakeGCS
from tests.test_cli_index import HELD, OTHERS, assert_holds, objects
from tests.test_cli_verify import fill as fill

UUID = "1ac0a4ea-0000-4c7d-8e2b-5c4f2d3b5a11_2026-11-27T00:00"
FIELDS = ["project", "bucket", "name", "size", "timeDeleted"]


def report(folder: Path, kind: str, *, told: dict[str, Any] | None = None, camel: bool = False) -> Path:
    """An inventory report of the bucket `data`, as Storage Insights writes it; returns the path of its manifest."""
    rows: list[tuple[Any, ...]] = [("1", "data", f"a b/{digest}", 5, None) for digest in HELD]
    rows += [
        ("1", "data", f"a b/{OTHERS[0]}", 5, datetime(2026, 1, 1, tzinfo=timezone.utc)),
        ("1", "data", 'a b/"é,\n?', 5, None),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, part in enumerate((rows[:100], rows[100:])):
        names.append(f"{UUID}_{number}.{'parquet' if kind == 'Parquet' else 'csv'}")
        if kind == "Parquet":
            columns = [pyarrow.array(list(column)) for column in zip(*part, strict=True)]
            pyarrow.parquet.write_table(pyarrow.table(columns, names=FIELDS), folder / names[-1])
            continue
        mark = ";" if "semicolon" in kind else ","
        lines = [mark.join(FIELDS)] if "header" in kind else []
        for project, bucket, name, size, deleted in part:
            quoted = '"' + name.replace('"', '""') + '"'
            lines.append(
                mark.join([project, bucket, quoted, str(size), "" if deleted is None else deleted.isoformat()])
            )
        (folder / names[-1]).write_text("\n".join(lines) + "\n")
    csv = {
        "delimiter": ";" if "semicolon" in kind else ",",
        "header_required": "header" in kind,
        "record_separator": "\n",
    }
    options = {
        "metadata_fields": FIELDS,
        "storage_filters": {"bucket": "data"},
        "storage_destination_options": {"bucket": "reports", "destination_path": "in"},
    }
    manifest = {
        "report_config": {
            **({"parquet_options": {}} if kind == "Parquet" else {"csv_options": csv}),
            "object_metadata_report_options": options,
        },
        "records_processed": len(rows),
        "snapshot_time": "2026-11-27T00:05:00Z",
        "shard_count": 2,
        "report_shards_file_names": names,
        **(told or {}),
    }
    path = folder / f"{UUID}_manifest.json"
    path.write_text(json.dumps(_camel(manifest) if camel else manifest))
    return path


def _camel(value: Any) -> Any:
    def name(text: str) -> str:
        first, *more = text.split("_")
        return first + "".join(map(str.title, more))

    return {name(key): _camel(each) for key, each in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("kind", ["CSV", "CSV header", "CSV header semicolon", "Parquet", "camel"])
def test_an_index_of_an_inventory_report_of_google_holds_all_live_objects(
    scene: Scene, gcs_env: FakeGCS, gcs_bucket: str, kind: str
) -> None:
    manifest = report(scene.root / "in", kind, camel=kind == "camel")
    words = ["index", "build", str(manifest), "-o", "x.idx", "--template", "gs://data/a b/"]
    code, out, err = scene(*words, "--json")
    assert code == 0, err
    told = objects(out)
    assert told["index"]["covers_up_to"] == "2026-11-27T00:05:00+00:00"
    assert told["index-build"]["others"] == 1
    assert_holds(scene.root / "x.idx", HELD)
    for path in (scene.root / "in").iterdir():
        gcs_env.put(gcs_bucket, f"in/{path.name}", path.read_bytes())
    words[2] = f"gs://{gcs_bucket}/in/{manifest.name}"
    code, out, err = scene(*words, "--layout", "fuse")
    assert code == 0, err
    assert_holds(scene.root / "x.idx", HELD)


def test_an_inventory_report_that_is_not_whole_is_an_error(scene: Scene) -> None:
    folder = scene.root / "in"

    def refused(code: int, says: str, template: str = "gs://data/a b/", **told: Any) -> None:
        manifest = report(folder, "CSV", told=told)
        returned, _, err = scene("index", "build", str(manifest), "-o", "x.idx", "--template", template)
        assert returned == code and says in err, err
        assert not (scene.root / "x.idx").exists()

    config = {"csv_options": {}, "object_metadata_report_options": {"metadata_fields": ["name"]}}
    refused(2, "have 302 rows, and should have 303", records_processed=303)
    refused(3, "it names 2 files, and should name 3", shard_count=3)
    refused(3, "is not as Storage Insights has it", snapshot_time="never")
    refused(3, "lacks 'metadatafields'", report_config={"object_metadata_report_options": {}})
    refused(3, "which bucket it is of", report_config=config)
    refused(3, "has no column Name", report_config={"object_metadata_report_options": {"metadata_fields": ["size"]}})
    refused(3, "is of keys below gs://data/", "s3://data/")
    refused(3, "is of keys below gs://data/", "gs://other/")
    manifest = report(folder, "Parquet")
    file = folder / f"{UUID}_0.parquet"
    table = pyarrow.parquet.read_table(file)
    for column in ("name", "bucket"):
        hollow = table.set_column(
            table.schema.get_field_index(column), column, [[None, *table[column].to_pylist()[1:]]]
        )
        pyarrow.parquet.write_table(hollow, file)
        words = ["index", "build", str(manifest), "-o", "x.idx", "--template", "gs://data/a b/", "--algorithm", "sha1"]
        code, _, err = scene(*words)
        # What the manifest says of the bucket serves for rows that do not.
        assert (code, "says no key" in err) == ((2, True) if column == "name" else (0, False)), err
    (scene.root / "x.idx").unlink()
    names = [f"{UUID}_0.csv", f"{UUID}_9.csv"]
    refused(2, f"names {UUID}_9.csv, which is not there", report_shards_file_names=names)


@pytest.mark.parametrize("kind", ["text", "urls", "parquet", "csv"])
def test_an_index_of_a_list_of_keys_holds_the_digest_of_each_key(scene: Scene, kind: str) -> None:
    template = "s3://bucket/f/{digest[:2]}/{digest}.gz"
    keys = [f"f/{digest[:2]}/{digest}.gz" for digest in HELD]
    keys = [*(f"s3://bucket/{key}" if kind == "urls" else key for key in keys), "f/README", f"g/{OTHERS[0]}", "f/00/x"]
    column: list[str] = []
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table({"a": [*range(len(keys))], "key": keys}), scene.root / "keys")
        column = ["--column", "key"]
    elif kind == "csv":
        (scene.root / "keys").write_text("key,sha1\n" + "".join(f"{key},{OTHERS[1]}\n" for key in keys))
        column = ["--column", "key"]
    else:
        (scene.root / "keys").write_text("".join(f"{key}\r\n" for key in keys))
    code, out, err = scene("index", "build", "keys", "-o", "x.idx", "--template", template, *column, "--json")
    assert code == 0, err
    told = objects(out)
    assert (told["index"]["source"], told["index-build"]["others"]) == (f"{template} (keys keys)", 3)
    assert_holds(scene.root / "x.idx", HELD)


@pytest.mark.parametrize("kind", ["file", "s3", "gs"])
@pytest.mark.parametrize("template", ["p q/", "p/{digest[:2]}/{digest}.gz"])
def test_an_index_of_a_listing_proves_absences_in_the_store_that_was_listed(
    fill: Any, scene: Scene, kind: str, template: str
) -> None:
    put, url = fill(kind)
    name = template if "{" in template else template + "{digest}"
    for digest in HELD[:9]:
        put(name.replace("{digest}", digest).replace("{digest[:2]}", digest[:2]), b"x")
    code, _, err = scene("index", "build", url + template, "-o", "x.idx", "--algorithm", "sha1")
    assert code == 0, err
    config = f'algorithm = "sha1"\n[[tier]]\nname = "t"\nurl = "{url + template}"\n'
    store: Any = loads(config + f'verify = false\nindex = "{scene.root}/x.idx"\nrecheck = false\n').sources[0]
    assert all(map(store.get, HELD[:9]))
    with pytest.raises(NotFoundInStore, match="not in the index of"):
        store.get(OTHERS[0])
    plain: Any = loads(config + "verify = false\n").sources[0]
    assert plain.index is None and plain.exists(OTHERS[0]) is False
    store.put(OTHERS[0], b"x")
    assert store.get(OTHERS[0]) == b"x"


def test_an_index_of_a_folder_fits_its_store_however_its_url_is_written(scene: Scene) -> None:
    (scene.root / "a b").mkdir()
    (scene.root / "a b" / HELD[0]).write_bytes(b"")
    assert scene("index", "build", "a b", "-o", "x.idx", "--algorithm", "sha1")[0] == 0
    for url in (f"file://{scene.root}/a b/", f"file://localhost{scene.root}/a%20b/"):
        store = Sha1Store(FileRaw(), url, index=scene.root / "x.idx", recheck=False)
        assert [store.exists(HELD[0]), store.denial(OTHERS[0]).is_proof] == [True, True]  # type: ignore[union-attr]


def test_an_index_of_paths_is_that_of_the_store_with_these_files(scene: Scene) -> None:
    url = (scene.root / "shelf").as_uri() + "/{digest}"
    (scene.root / "keys").write_text("\n".join(f"{scene.root}/shelf/{digest}" for digest in HELD))
    code, _, err = scene("index", "build", "keys", "-o", "x.idx", "--template", url)
    assert code == 0, err
    store = Sha1Store(FileRaw(), url, index=scene.root / "x.idx")
    assert store.denial(HELD[0]) is None and store.denial(OTHERS[0]) is not None
    with pytest.raises(ValueError, match="and the store of"):
        Sha1Store(FileRaw(), url.replace("shelf", "other"), index=scene.root / "x.idx")
