"""The public contract of fast stores: what a store may offer, and that nothing private is read instead."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bitstore
from bitstore import (
    Composite,
    DiskCache,
    FileRaw,
    HTTPRaw,
    MemoryCache,
    NotFoundInStore,
    S3Raw,
    Sha1Cache,
    Sha1Composite,
    Sha1Store,
    Store,
)
from bitstore._lookup.asking import counts_of, methods_of, scope_of
from bitstore._warming.parts import check_target, filled
from bitstore.steps import (
    CountsRequests,
    DescribesInSteps,
    DownloadsInSteps,
    ExistsInSteps,
    Found,
    GetsByKey,
    GetsInSteps,
    HasVersions,
    OpensInSteps,
    PutsInSteps,
    Steps,
    Write,
)
from bitstore.testing import check_store
from tests.stores import API, Box, Shelf, as_cache, as_source, composed, sha1, with_tiers

ROOT = Path(__file__).parent.parent
PROTOCOLS = (
    GetsInSteps,
    ExistsInSteps,
    DescribesInSteps,
    PutsInSteps,
    HasVersions,
    DownloadsInSteps,
    OpensInSteps,
    CountsRequests,
)
# What other libraries keep private, and no public name tells.
FOREIGN = {"_asdict", "_expiry_time", "_replace", "_session"}


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for package in ("bitstore", "ray_integration"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def private(name: object) -> bool:
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__") and name != "_"


def test_no_private_attribute_is_read_across_packages() -> None:
    defined: dict[Path, set[str]] = {}
    read: list[tuple[Path, int, str]] = []
    for path, tree in modules():
        names = defined.setdefault(path.parent, set())
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
            elif isinstance(node, ast.Assign):
                names.update(target.id for target in node.targets if isinstance(target, ast.Name))
            elif isinstance(node, ast.Attribute) and private(node.attr):
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                own = own or (isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super")
                if own and isinstance(node.ctx, ast.Store):
                    names.add(node.attr)
                elif not own:
                    read.append((path, node.lineno, node.attr))
    foreign = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path, line, name in read
        if name not in defined[path.parent] | FOREIGN
    ]
    assert not foreign, "\n".join(foreign)


def test_no_private_attribute_is_found_by_its_name() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr", "setattr")
        and isinstance(node.args[1], ast.Constant)
        and private(node.args[1].value)
        and node.args[1].value not in FOREIGN
    ]
    assert not found, "\n".join(found)


def test_no_code_asks_for_the_class_of_a_cache() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "isinstance"
        and "MemoryCache" in ast.unparse(node.args[1])
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("store", [S3Raw(), FileRaw(), HTTPRaw(), Sha1Store(FileRaw(), "file:///x/")], ids=repr)
def test_each_store_of_the_library_offers_every_protocol(store: Store) -> None:
    assert [protocol.__name__ for protocol in PROTOCOLS if not isinstance(store, protocol)] == []
    assert isinstance(Composite(), GetsByKey) and not isinstance(store, GetsByKey)


def steps(result: Any, *yielded: Any) -> Any:
    def made(self: Any, *args: Any) -> Steps[Any]:
        yield from yielded
        return result

    return made


class Stepped(Shelf):
    """A store with every optional method."""

    def get_steps(self, uri: Any) -> Steps[Found]:
        yield from ()
        return Found(b"by steps", self.label)

    def exists_steps(self, uri: Any) -> Steps[bool]:
        yield from ()
        return True

    def put_steps(self, uri: Any, data: bytes, write: Write) -> Steps[None]:
        yield from ()

    def version_steps(self, uri: Any) -> Steps[str | None]:
        yield from ()
        return "1"


@pytest.mark.parametrize(
    ("broken", "finding"),
    [
        ({"get_steps": lambda self, uri: iter(())}, "get_steps returned list_iterator|instead of a generator"),
        ({"exists_steps": steps(False)}, "exists_steps is not True for a blob"),
        ({"put_steps": steps(None)}, "(?s)write_steps: .*NotFoundInStore"),
        ({"version_steps": steps(1)}, "version_steps ended in 1"),
        ({"get_steps": steps(b"bytes")}, "get_steps ended in bytes instead of Found"),
        ({"get_steps": steps(None, "no step")}, "get_steps yielded 'no step', which is no step"),
        ({"download_steps": steps(Found(b"", "x"))}, "for download"),
        ({"open_steps": steps(Found(b"", "x"))}, "for the first read of an opened blob"),
        ({"scope": "everywhere"}, "scope is 'everywhere', and not one of process, node, shared"),
        ({"paid": 1}, "paid is 1, and neither True nor False"),
    ],
)
def test_check_store_finds_breaches_of_the_contract_of_steps(broken: dict[str, Any], finding: str) -> None:
    held: dict[str, bytes] = {}

    class Kept(Box):
        def __init__(self) -> None:
            super().__init__()
            self.held = held

        def is_valid(self, uri: Any) -> bool:
            return isinstance(uri, str) and uri.startswith("x://")

    wrong = type("Broken", (Kept,), broken)
    trial: Any = lambda cls: check_store(cls, "x://", wrong=(), shared=True, processes=False)  # noqa: E731
    with pytest.raises(AssertionError, match=finding):
        trial(wrong)


class OwnGet(Stepped):
    def get(self, uri: Any) -> bytes:
        return b"by get"


class Duck:
    """No base class of ours."""

    def is_valid(self, uri: Any) -> bool:
        return True

    def get(self, uri: Any) -> bytes:
        return b"by get"

    def get_steps(self, uri: Any) -> Steps[Found]:
        yield from ()
        return Found(b"by steps", "duck")


def test_steps_are_used_unless_a_subclass_overrides_get() -> None:
    def answer(store: Any) -> object:
        chain = with_tiers(Composite(), store)
        (blob,) = chain.get_many(["key"])
        assert blob.data == chain.get("key")
        return blob.data

    assert answer(Stepped()) == answer(Duck()) == b"by steps"
    assert answer(OwnGet()) == b"by get"
    patched: Any = Stepped()
    patched.get = lambda uri: b"patched"
    assert answer(patched) == b"patched"
    assert methods_of(Stepped()).version_steps and not methods_of(Duck()).version_steps


def test_scope_is_process_node_or_shared(tmp_path: Path) -> None:
    class Local(Box):
        scope = "node"

    assert scope_of(MemoryCache()) == "process" and scope_of(DiskCache(tmp_path)) == "node" == scope_of(Local())
    assert scope_of(S3Raw()) == "shared" == scope_of(Duck())
    assert scope_of(Sha1Cache(Local(), "x://")) == "node", "that of its base store"
    cache = Sha1Cache(FileRaw(), "file:///mnt/nvme/")
    cache.scope = "node"
    assert scope_of(cache) == "node"


def test_a_users_local_cache_is_not_shared_by_all_nodes() -> None:
    class Nvme(Box):
        scope = "node"

    class Everywhere(Box):
        pass

    composite = composed(as_cache(Nvme(), "nvme"), API({}))
    assert list(filled(composite, "local")) == ["nvme"] == list(filled(composite, "here"))
    with pytest.raises(ValueError, match="cache that all nodes share"):
        check_target(composite, "shared")
    above = composed(as_cache(Everywhere()), API({}))
    check_target(above, "shared")


def test_an_invalid_scope_is_an_error_of_caches_only() -> None:
    class Scoped(Box):
        scope: Any = "https://api.example/auth"

    class Counting(Scoped):
        counts: Any = property(lambda self: {"requests": 1})

    composite = with_tiers(Composite(), as_source(Counting({"key": b"data"}), "old"))
    assert composite.get("key") == b"data" and composite.stats()["old"].requests == 0
    with pytest.raises(ValueError, match=r"'scope' is 'https://api\.example/auth'.*'process', 'node', 'shared'"):
        composite.append_cache(Scoped())
    unhashable = Scoped()
    unhashable.scope = ["a", "b"]
    with pytest.raises(ValueError, match="scope"):
        composite.append_cache(unhashable)


def test_a_counts_method_of_another_meaning_is_not_used() -> None:
    class Odd(Shelf):
        def counts(self, word: str) -> int:  # type: ignore[override]
            return 0

    assert counts_of(Odd()) is None and counts_of(Duck()) is None
    counts = counts_of(Sha1Store(HTTPRaw(), "https://host/"))
    assert counts is not None and (counts.requests, counts.retries) == (0, 0)


def test_a_view_has_other_tiers_and_the_same_breakers() -> None:
    digest = sha1(b"x")
    composite = Sha1Composite()
    composite.append_cache(box := Box(), name="box")
    composite.append_source(shelf := Shelf({digest: b"x"}), name="shelf")
    composite.append_source(API({}), name="api")
    view = composite.view(lambda tier: None if tier.paid else tier, keep=False)
    assert [tier.name for tier in view.tiers] == ["box", "shelf"] and len(composite.tiers) == 3
    assert [keeper.name for keeper in composite.keepers_of(composite.tiers[1])] == ["box"]
    assert view.get(digest) == b"x" and not box.held and composite.stats()["shelf"].hits == 1
    shelf.fail = OSError("down")
    for _ in range(5):
        with pytest.raises(bitstore.LookupFailed):
            view.get(digest)
    assert composite.stats()["shelf"].breaker == "open"
    apart = composite.view(lambda tier: tier, own_stats=True)
    assert apart.stats()["shelf"].hits == 0 and apart.stats()["shelf"].breaker == "open"


def test_unmatched_bytes_are_marked_as_unmatched() -> None:
    digest = sha1(b"right")

    class Damaged(Box):
        def get_steps(self, uri: Any) -> Steps[Found]:
            yield from ()
            if uri in self.held:
                return Found(self.held[uri], self.label, matched=self.held[uri] == b"right")
            raise NotFoundInStore(self, uri)

    class Verifying(bitstore.VerifySha1Mixin, Shelf):
        verify = True

    composite = Sha1Composite()
    composite.append_cache(cache := Damaged({digest: b"wrong"}))
    composite.append_source(Verifying({digest: b"right"}))
    assert composite.get(digest) == b"right" == cache.held[digest]
