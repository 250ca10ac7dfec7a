"""On a cluster: names of actors, counts, metrics, rows, logs and the state of limits tell no secret."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import ray

from bitstore import HTTPRaw, Retry, Sha1Store
from ray_integration import ClusterLimit, FetchBlobs, NodePool
from ray_integration._node import metrics
from ray_integration._node.metrics import TierMetrics
from tests.ray_cluster import local_ray
from tests.ray_stores import CarelessAPI
from tests.servers import Answer, CountedAPI
from tests.stores import composed

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(150)]

SECRET = "PLANTEDsecret0123456789"
ASKED = [hashlib.sha1(f"{number}".encode()).hexdigest() for number in range(8)]


@pytest.fixture(scope="module")
def session() -> Iterator[Path]:
    """A Ray of one node; the folder of its logs and other files."""
    with local_ray(cpus=1, megabytes=100) as started:
        yield Path(started.address_info["session_dir"])


class Noted:
    """Stands for a metric of Ray, and remembers its tags."""

    def __init__(self, tags: list[dict[str, str]]) -> None:
        self._tags = tags

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self._tags.append(tags)

    def set(self, value: float, tags: dict[str, str]) -> None:
        self._tags.append(tags)

    observe = inc


def test_no_name_count_row_log_or_state_on_a_cluster_shows_a_secret(
    session: Path, api: CountedAPI, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    api.rules.add(Answer(403))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    web = HTTPRaw(headers={"Authorization": f"Bearer {SECRET}", "X-Api-Key": SECRET}, retry=Retry(attempts=1))
    limit = ClusterLimit("account", per_day=3, state=tmp_path / "limits.sqlite", wait=0)
    store = composed(Sha1Store(web, f"{api.url}/blob/{{digest}}?sig={SECRET}"), call_when_uncertain=True)
    named = Sha1Store(web, f"{api.url}/x/")
    named.prefix = f"{api.url.replace('//', f'//me:{SECRET}@')}/x/"  # the constructor refuses it
    store.append_source(named)
    store.append_source(CarelessAPI(SECRET, limit))
    texts: dict[str, str] = {"limit": repr(limit)}
    with NodePool(store) as pool:
        list_actors: Callable[..., Any] = ray.util.list_named_actors
        table = pyarrow.table({"sha1": pyarrow.array(ASKED, pyarrow.string())})
        rows = [row for piece in FetchBlobs(store, pool=pool, patience=0)(table) for row in piece.to_pylist()]
        texts["rows"] = str(rows)
        texts["pool"] = f"{pool!r} {pool} {pool.address!r} {pool.fingerprint} {pool.nodes()}"
        texts["stats"] = pool.stats().to_string() + repr(pool.stats().attrs)
        texts["actors"] = str(list_actors(all_namespaces=True))
        pool.shutdown()
    assert "bitstore-" in texts["actors"] and "account" in texts["actors"]
    tags: list[dict[str, str]] = []
    for name in ("_counter", "_gauge", "_histogram"):
        monkeypatch.setattr(metrics, name, lambda *_: Noted(tags))
    told = TierMetrics(store)
    assert [blob.failed for blob in store.get_many(ASKED, patience=0)] == [True] * len(ASKED)
    told.report()
    assert {each["tier"] for each in tags} == set(store.stats())
    texts["metrics"] = str(tags)
    texts["log"] = caplog.text
    limit.shutdown()
    assert all(row["error"] is not None for row in rows) and "limit 'account'" in texts["rows"]
    assert "CarelessAPI" in texts["rows"] and (tmp_path / "limits.sqlite").exists()
    # What workers and actors write goes to files of the session, and from there to whatever collects logs.
    for path in [*tmp_path.rglob("*"), *(session / "logs").rglob("*")]:
        if path.is_file() and not path.is_symlink():
            texts[str(path)] = path.read_bytes().decode("latin-1")
    assert [name for name, text in texts.items() if SECRET in text] == []
