"""What a store says about itself: the tree that `bitstore show` prints, and what notebooks show."""

from __future__ import annotations

import json
import pickle
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from bitstore import (
    CallLimit,
    Composite,
    DiskCache,
    GSRaw,
    HTTPRaw,
    MemoryCache,
    S3Raw,
    Sha1Cache,
    Sha1Composite,
    Sha1Store,
)
from bitstore.config import load
from bitstore.outline import outline_of
from tests.stores import API, Shelf, as_cache, composed, with_tiers

SECRETS = ("topsecret", "AKIASECRET", "s3cr3t")


def chain(tmp_path: Path) -> Sha1Composite:
    store = composed(as_cache(DiskCache(tmp_path, max_size="5GB"), "disk"), call_when_uncertain=True)
    keys = {"aws_access_key_id": "AKIASECRET", "aws_secret_access_key": "topsecret"}
    store.append_source(Sha1Store(S3Raw(keys, region="eu-west-1"), "s3://bucket/{digest[:2]}/{digest}.gz"), name="<b>&")
    mirror = HTTPRaw(headers={"Authorization": "Bearer topsecret"}, proxy="http://me:s3cr3t@proxy:3128")
    store.append_source(Sha1Store(mirror, "https://h/x?sig=topsecret&d={digest}", compression="gzip", verify=True))
    store.append_cache(Sha1Cache(GSRaw({"type": "service_account", "private_key": "topsecret"}), "gs://c/"), read=False)
    api = API({})
    api.limit = CallLimit("my-api", per_minute=4)
    api.remember_missing = 60
    store.append_source(api, name="api")
    return store


class _Checker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.data = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.data += data


def test_an_outline_has_every_tier_and_no_secret(tmp_path: Path) -> None:
    store = chain(tmp_path)
    outline = store.outline()
    assert [part.role for part in outline.parts] == ["cache", "source", "source", "cache, only written", "source"]
    disk, bucket, mirror, cache, api = outline.parts
    assert disk.facts == {"folder": str(tmp_path), "largest size": "5GB", "verify": True, "breaker": "closed"}
    assert bucket.kind == "Sha1Store over S3Raw"
    assert bucket.facts["keys"] == "s3://bucket/{digest[:2]}/{digest}.gz"
    assert bucket.facts["region"] == "eu-west-1"
    assert bucket.facts["kept by"] == "disk"
    assert mirror.facts["compression"] == "gzip"
    assert mirror.facts["headers"] == "Authorization"
    assert cache.facts["keys"] == "gs://c/{digest}"
    assert api.facts["paid"] is True
    assert "4" in api.facts["limit"]
    assert api.facts["kept by"] == f"disk, {cache.title}"
    assert outline.facts == {"algorithm": "sha1", "call_when_uncertain": True}
    texts = [str(outline), store._repr_html_(), json.dumps(outline.as_dict()), repr(store), outline._repr_html_()]
    texts += [tier.store._repr_html_() for tier in store.tiers]
    assert not [secret for secret in SECRETS if any(secret in text for text in texts)]
    assert outline.text(ascii_only=True).isascii()
    assert [line for line in str(outline).splitlines() if re.match("[├└]─ [1-5]", line)][4] == "└─ 5. source api (API)"
    assert "\n" not in repr(store)


def test_html_is_escaped_and_well_formed(tmp_path: Path) -> None:
    checker = _Checker()
    checker.feed(chain(tmp_path)._repr_html_())
    assert checker.open == []
    assert "<b>&" in checker.data
    assert checker.data.count("kept by") == 3


def test_any_store_has_an_outline(tmp_path: Path) -> None:
    class Plain:
        """As small as a store of a user can be."""

        def is_valid(self, uri: Any) -> bool:
            return True

        def get(self, uri: Any) -> bytes:
            return b""

    class Rude(Shelf):
        paid = True

        @property
        def label(self) -> str:
            raise RuntimeError("topsecret")

    assert (outline_of(Plain()).title, outline_of(Plain()).kind) == ("Plain", "Plain")
    assert outline_of(Rude()).facts == {"paid": True}
    assert "Rude" in Rude()._repr_html_()
    inner = with_tiers(Composite(), Shelf())
    outer = Composite()
    outer.append_source(inner, name="inner")
    outer.append_cache(MemoryCache("5MB"))
    outer.append_source(Plain())  # type: ignore[arg-type]
    assert "├─ 1. source inner (Composite)\n│    └─ 1. source Shelf\n" in re.sub(
        "\n[│ ]* (kept|breaker).*", "", str(outer.outline())
    )
    assert str(Composite().outline()) == "Composite"
    assert outer.outline().parts[1].facts["largest size"] == "5MB"
    file = tmp_path / "bitstore.toml"
    file.write_text('algorithm = "sha1"\n[[tier]]\nname = "m"\ncache = "memory"\n')
    assert load(file).outline().facts["configured in"] == str(file)
    assert pickle.loads(pickle.dumps(load(file))).outline().facts["configured in"] == str(file)
