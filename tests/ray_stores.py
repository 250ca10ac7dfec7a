"""Stores as users write them, in a module that Ray's workers can import."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

from bitstore import NotFoundInStore, Sha1APISource, Store
from ray_integration._node.node_store import NodeStore
from ray_integration._peers import asker
from ray_integration._peers.hand_out import HandOut

__all__ = [
    "NUMBERED",
    "CarelessAPI",
    "FolderStore",
    "FullCache",
    "GatedAPI",
    "HastyNodeStore",
    "LockedStore",
    "LyingNodeStore",
    "MadeStore",
    "NotedAPI",
    "NumberedAPI",
    "OddStore",
    "SilentNodeStore",
    "UnbornStore",
]  # fmt: skip

NUMBERED = {hashlib.sha1(data).hexdigest(): data for data in (b"blob %d" % number for number in range(400))}


class FolderStore:
    """Files named by digest. The least that a store can be: `is_valid` and `get`, and no base class."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def is_valid(self, uri: str) -> bool:
        return len(uri) == 40

    def get(self, uri: str) -> bytes:
        if uri.startswith("dead"):
            raise OSError(5, "the disk is tired")
        try:
            return (self.folder / uri).read_bytes()
        except FileNotFoundError:
            raise NotFoundInStore(self, uri) from None


class MadeStore(Store):
    """Makes each blob from its digest, and notes each call as a line of a file if it is given one."""

    def __init__(self, size: int, log: Path | None = None) -> None:
        self.size = size
        self.log = log

    def is_valid(self, uri: Any) -> bool:
        return isinstance(uri, str)

    def canonical(self, uri: str) -> str:
        return uri.lower()

    def get(self, uri: str) -> bytes:
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{uri}\n")
        return self.blob(uri)

    def blob(self, uri: str) -> bytes:
        head = uri.lower().encode()
        return head + bytes(self.size - len(head))

    def calls(self) -> list[str]:
        assert self.log is not None
        return self.log.read_text().split() if self.log.exists() else []


class NotedAPI(Sha1APISource):
    """A paid API that notes its calls, across processes."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log

    def api_get(self, digest: str) -> bytes:
        with self.log.open("a") as file:
            file.write(f"{digest}\n")
        return digest.encode()


class NumberedAPI(NotedAPI):
    """A paid API of blobs that match their digests: those of `NUMBERED`."""

    def api_get(self, digest: str) -> bytes:
        super().api_get(digest)
        return NUMBERED[digest]


class OddStore(Store):
    """Returns what it was given: anything but bytes, mostly."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    def is_valid(self, uri: Any) -> bool:
        return uri in self.answers

    def get(self, uri: str) -> Any:
        return self.answers[uri]


class LockedStore(OddStore):
    """Has a client that does not pickle, as clients do not."""

    def __init__(self) -> None:
        super().__init__({})
        self.settings = {"client": threading.Lock()}


class UnbornStore(OddStore):
    """Pickles, but cannot be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return UnbornStore, ()


class CarelessAPI(Sha1APISource):
    """A paid API whose errors tell the key with which it was called."""

    def __init__(self, key: str, limit: Any) -> None:
        super().__init__(limit=limit)
        self.api_key = key

    def api_get(self, digest: str) -> bytes:
        raise ConnectionError(
            f"GET https://api.example/{digest}?api_key={self.api_key} (Bearer {self.api_key}): no route"
        )


class FullCache(Store):
    """A cache with nothing in it, and no room."""

    def is_valid(self, uri: Any) -> bool:
        return True

    def get(self, uri: str) -> bytes:
        raise NotFoundInStore(self, uri)

    def put(self, uri: str, data: bytes) -> None:
        raise OSError(28, "no space left")


class GatedAPI(NumberedAPI):
    """Answers once a file is there, in which the test says so."""

    def __init__(self, log: Path, gate: Path) -> None:
        super().__init__(log)
        self.gate = gate

    def api_get(self, digest: str) -> bytes:
        data = super().api_get(digest)
        while not self.gate.exists():
            threading.Event().wait(0.02)  # another process opens it
        return data


class LyingNodeStore(NodeStore):
    """Gives other node stores what they did not ask for."""

    def hand_out(self, digests: Any, **_: Any) -> HandOut:
        return HandOut(dict.fromkeys(digests, b"other bytes"), [], {}, [])


class BabblingNodeStore(NodeStore):
    """Gives other node stores what is no answer."""

    def hand_out(self, digests: Any, **_: Any) -> Any:
        return "no answer"


class SilentNodeStore(NodeStore):
    """Gives other node stores no answer."""

    def hand_out(self, digests: Any, **_: Any) -> HandOut:
        threading.Event().wait()
        raise AssertionError


class HastyNodeStore(NodeStore):
    """Waits for other node stores for a second."""

    def __init__(self, *args: Any) -> None:
        asker._PATIENCE = 1.0
        super().__init__(*args)
