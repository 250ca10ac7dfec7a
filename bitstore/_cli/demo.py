"""`bitstore demo`: the library's main job on made-up data, in a folder of its own, with claims that are checked."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitstore._cli.lines import Claim, Line, Pass
from bitstore._cli.pretend import API_CACHE, CACHE, PAID, World
from bitstore._digests.named import Sha1Composite

__all__ = ["demo"]

Say = Callable[[str], object]
Put = Callable[[Line], object]

_RAY_BLOCK = 8 * 1024**2  # bytes: small, so that the first rows arrive long before the last
_ENVIRONMENT = {
    # Nothing of the demo looks at the network: neither for credentials of a cloud nor to report the use of Ray.
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_GCE_CHECK": "true",
    "GCE_METADATA_HOST": "127.0.0.1:9",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its notes on its own business would stand between our lines
}


@dataclass
class _Pass:
    """What one pass over all digests brought."""

    hits: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    wrong: int = 0
    size: int = 0  # bytes
    seconds: float = 0.0
    first: float = 0.0  # seconds until the first blobs were there
    seen: Counter[str] = field(default_factory=Counter)

    def take(self, digest: str, data: Any, source: str | None, error: object) -> None:
        self.seen[digest] += 1
        if data is None or source is None:
            self.errors.append(f"{digest}: {error}")
            return
        self.hits[source] += 1
        self.size += len(data)
        self.wrong += hashlib.sha1(data).hexdigest() != digest

    def line(self, name: str) -> Pass:
        count = sum(self.hits.values())
        return Pass(name=name, blobs=count, bytes=self.size, seconds=self.seconds, by_tier=dict(self.hits))

    def told(self) -> str:
        count = sum(self.hits.values())
        rates = f"{count / self.seconds:,.0f} blobs/s, {self.size / 1e6 / self.seconds:,.0f} MB/s"
        start = f", of which Ray took {self.first:.1f} s to the first ones" if self.first else ""
        return f"{count:,} blobs in {self.seconds:.1f} s ({rates}){start}"


class _Claims:
    """What the demo says is true, and whether it is."""

    def __init__(self, say: Say, put: Put) -> None:
        self._say = say
        self._put = put
        self.all_hold = True

    def claim(self, holds: bool, text: str) -> None:
        self.all_hold &= holds
        self._say(f"  [{'ok' if holds else 'FALSE'}] {text}")
        self._put(Claim(text=text, holds=holds))


def demo(*, blobs: int = 3000, keep: bool = False, ray: bool = True, say: Say, put: Put = lambda line: None) -> bool:
    """Run the demo. Returns whether everything that it claimed was true.

    Parameters
    ----------
    blobs
        How many to make.
    keep
        Leave the folder.
    ray
        Run it on a local Ray too, where Ray is installed.
    say
        Shows a line.
    put
        Takes each pass and each claim as an object.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    root = Path(tempfile.mkdtemp(prefix="bitstore-demo-")).resolve()
    try:
        return _show(World(root), blobs, ray=ray, say=say, put=put)
    finally:
        if keep:
            say(f"kept: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)


def _show(world: World, blobs: int, *, ray: bool, say: Say, put: Put) -> bool:
    claims = _Claims(say, put)
    world.fill(blobs)
    say(f"{blobs:,} blobs, {world.size / 1e6:,.0f} MB, each named by its SHA-1. They are in")
    for name, kind in (
        ("bucket 1", "<sha1>"),
        ("bucket 2", "<sha1[:2]>/<sha1>.gz, gzip-compressed"),
        ("bucket 3", "<sha1[:3]>/<sha1>"),
        (PAID, "each call costs; a cache stands above it"),
    ):
        say(f"  {name:10} {world.homes[name]:>6,}   {kind}")
    say("")
    passes = [_here(world, say, put)]
    passes.append(_here(world, say, put, again=True))
    if ray and importlib.util.find_spec("ray") is None:
        say("Ray is not installed, so this was all (pip install 'epic-bitstore[ray]').")
        say("")
    elif ray:
        passes += _on_ray(world, say, put)
    _check(world, passes, claims)
    return claims.all_hold


def _here(world: World, say: Say, put: Put, *, again: bool = False) -> _Pass:
    # A copy that went through pickle: what it knows of the first pass can only be on the disk.
    store: Sha1Composite = pickle.loads(pickle.dumps(world.store("disk")))
    result = _Pass()
    started = time.monotonic()
    for blob in store.get_many(world.digests):
        result.take(blob.uri, blob.data, blob.source, blob.error)
    result.seconds = time.monotonic() - started
    name = f"store.get_many(hashes){', again' if again else ''}"
    say(name)
    _tell(result, store.stats(), say)
    put(result.line(name))
    return result


def _on_ray(world: World, say: Say, put: Put) -> list[_Pass]:
    import pyarrow
    import ray
    import ray.data

    from ray_integration import fetch_blobs

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = _RAY_BLOCK
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with _quiet():
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=256 * 1024**2,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        passes = []
        for again in (False, True):
            # A disk cache of its own, as a machine that joins has: empty at first.
            store = world.store("disk-of-ray")
            result = _Pass()
            started = time.monotonic()
            hashes = ray.data.from_arrow(pyarrow.table({"sha1": world.digests}))
            rows = fetch_blobs(hashes, store, column="sha1", batch_size=256)
            for batch in rows.iter_batches(batch_format="pyarrow", batch_size=None):
                result.first = result.first or time.monotonic() - started
                _take_batch(result, batch)
            result.seconds = time.monotonic() - started
            name = f"ray.data.map_batches, {'again' if again else 'on a local Ray, with a disk cache of its own'}"
            say(name)
            _tell(result, (), say)
            put(result.line(name))
            passes.append(result)
    finally:
        ray.shutdown()
    return passes


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what Ray's native code writes to standard error; show it if the body fails."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        before = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(before, held.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)


def _take_batch(result: _Pass, batch: Any) -> None:
    columns = [batch.column(name).to_pylist() for name in ("sha1", "data", "source", "error")]
    for row in zip(*columns, strict=True):
        result.take(*row)


def _tell(result: _Pass, tiers: Iterable[str], say: Say) -> None:
    order = [*tiers, *sorted(set(result.hits).difference(tiers))]
    say(f"  {result.told()}")
    say("  hits: " + ", ".join(f"{name} {result.hits[name]:,}" for name in order if result.hits[name]))
    say("")


def _check(world: World, passes: list[_Pass], claims: _Claims) -> None:
    blobs = len(world.digests)
    everything = Counter(world.digests)
    for result in passes:
        for error in result.errors[:3]:
            claims.claim(False, error)
    whole = all(result.seen == everything and not (result.errors or result.wrong) for result in passes)
    claims.claim(
        whole, f"every pass brought every blob once, and each byte was right ({len(passes)} x {blobs:,} blobs)"
    )
    claims.claim(passes[0].hits == world.homes, "the first pass found each blob in the store that holds it")
    claims.claim(
        all(result.hits == Counter({CACHE: blobs}) for result in passes[1::2]),
        "a second pass hits nothing but the disk cache",
    )
    if len(passes) > 2:
        expected = Counter({name if name != PAID else API_CACHE: count for name, count in world.homes.items()})
        claims.claim(passes[2].hits == expected, "on Ray, what the API once returned came from the cache above it")
    asked = world.api.counted()
    calls = sum(asked.values())
    paid = world.homes[PAID]
    claims.claim(
        len(asked) == paid and set(asked.values()) == {1},
        f"the paid API was asked once per hash: {calls:,} calls for {paid:,} hashes, in {len(passes)} passes",
    )
