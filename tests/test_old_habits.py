"""What people did with the published library beyond its README: loggers, submodules, hooks, names of arguments."""

from __future__ import annotations

import importlib
import logging
import warnings
from typing import Any

import pytest

import bitstore
from bitstore import (
    Composite,
    GSRaw,
    S3Raw,
    Sha1APISource,
    Sha1Cache,
    Sha1Composite,
    Sha1Store,
    Store,
    VerifySha1Mixin,
)
from tests.stores import blobs


class Chatty(Sha1APISource):
    """Writes to the logger that its base class used to have."""

    def __init__(self, held: dict[str, bytes]) -> None:
        self.held = held

    def api_get(self, sha1: str) -> bytes | None:
        self.logger.warning("asked for %s", sha1)
        return self.held.get(sha1)


class Named(Chatty):
    """Has a logger of its own."""

    logger = logging.getLogger("mine")


class Set(Chatty):
    """Sets one on each object."""

    def __init__(self, held: dict[str, bytes]) -> None:
        super().__init__(held)
        self.logger = logging.getLogger("set")


@pytest.mark.parametrize(("kind", "name"), [(Chatty, f"{__name__}.Chatty"), (Named, "mine"), (Set, "set")])
def test_a_source_may_log_to_its_base_logger(kind: type[Chatty], name: str, caplog: pytest.LogCaptureFixture) -> None:
    some = blobs(1)
    (digest,) = some
    composite = Sha1Composite()
    composite.append_source(kind(some))
    assert composite.get(digest) == some[digest]
    assert [(record.name, record.getMessage()) for record in caplog.records] == [(name, f"asked for {digest}")]


@pytest.mark.parametrize("owner", [S3Raw, GSRaw, Composite, Sha1Composite, Sha1Store, Sha1Cache, VerifySha1Mixin])
def test_loggers_of_classes_are_below_the_librarys(owner: Any) -> None:
    assert owner.logger.name.startswith("bitstore.")
    assert owner.logger.name.endswith(owner.__name__)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("store", ["Store"]),
        ("exc", ["StoreNotAvailable", "NotFoundInStore", "InvalidURI"]),
        ("aws", ["S3Raw", "ANONYMOUS"]),
        ("gcp", ["GSRaw", "ANONYMOUS"]),
        ("composite", ["Composite"]),
        ("sha1", ["InvalidDataFound", "Sha1APISource", "Sha1Cache", "Sha1Composite", "Sha1FormatMixin", "Sha1Store",
                  "VerifySha1Mixin"]),
    ],
)  # fmt: skip
def test_the_published_submodules_hold_their_names(module: str, names: list[str]) -> None:
    found = importlib.import_module(f"epic.bitstore.{module}")
    assert sorted(found.__all__) == sorted(names)
    for name in names:
        assert getattr(found, name) is getattr(bitstore, name)


@pytest.mark.parametrize(
    ("base", "name"),
    [
        (S3Raw, "_s3_client"),
        (S3Raw, "_try_different_credentials"),
        (S3Raw, "_anonymous_client"),
        (GSRaw, "_gs_client"),
        (Sha1Composite, "_write_to_cache"),
    ],
)
def test_an_overridden_hook_that_is_never_called_is_named(base: type[Store], name: str) -> None:
    """Else such a store would silently ask another service, or with other credentials, than was meant."""
    with pytest.warns(UserWarning, match=rf"Mine\.{name} is never used: ") as told:
        mine = type("Mine", (base,), {name: None})
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        type("Heir", (mine,), {"get": None})
