"""The keys of bitstore.toml: every option of a constructor is one, every key acts, and the schema knows them."""

from __future__ import annotations

import contextlib
import inspect
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import bitstore
from bitstore import (
    Budget,
    CallLimit,
    DiskCache,
    FileRaw,
    FsspecRaw,
    GSRaw,
    HTTPRaw,
    LearnedOrder,
    LFSRaw,
    MemoryCache,
    MissLedger,
    ObstoreRaw,
    PackCache,
    Price,
    RateLimit,
    RemembersMisses,
    Retry,
    S3Raw,
    Sha1APISource,
    Sha1Composite,
    Sha1References,
    Sha1Store,
    SharedMisses,
)
from bitstore.config import ConfigError, loads
from bitstore.config._caches import DiskTier, MemoryTier
from bitstore.config._file import File
from bitstore.config._foreign import FsspecTier, ObstoreTier
from bitstore.config._money import BudgetTable, PriceTable
from bitstore.config._order import OrderTable
from bitstore.config._packs import PacksTable
from bitstore.config._python import LimitTable, PythonTier
from bitstore.config._references import ReferencesTable
from bitstore.config._schema import schema, schema_file
from bitstore.config._tables import KINDS
from bitstore.config._tier import MissesTable, Table
from bitstore.config._urls import FileTier, GSTier, HTTPTier, LFSTier, RetryTable, S3Tier
from tests import config_page, test_config
from tests.test_config import tier

if sys.version_info >= (3, 11):
    import tomllib as tomllib
else:
    import tomli as tomllib

EXAMPLE = Path(__file__).parents[1] / "examples" / "bitstore.toml"
DATA = b"hello"


class Paid(Sha1APISource):
    def __init__(self, host: str = "", *, token: str = "", tries: list[int] | None = None) -> None:
        super().__init__()
        self.said = (host, token, tries)

    def api_get(self, digest: str) -> bytes:
        return DATA


APPENDED = (Sha1Composite.append_cache, Sha1Composite.append_source)
STORED = (Sha1Store, *APPENDED)
# What may be said of each table in Python: a new option of one of these needs a key, or a reason below.
MADE_FROM: dict[type[Table], tuple[Callable[..., Any], ...]] = {
    File: (Sha1Composite,),
    DiskTier: (DiskCache, Sha1Composite.append_cache),
    MemoryTier: (MemoryCache, Sha1Composite.append_cache),
    S3Tier: (S3Raw, *STORED),
    GSTier: (GSRaw, *STORED),
    HTTPTier: (HTTPRaw, *STORED),
    LFSTier: (LFSRaw, *STORED),
    FileTier: (FileRaw, *STORED),
    FsspecTier: (FsspecRaw, *STORED),
    ObstoreTier: (ObstoreRaw, *STORED),
    PythonTier: (Sha1APISource, *APPENDED),
    LimitTable: (CallLimit,),
    RetryTable: (Retry,),
    ReferencesTable: (Sha1References,),
    PriceTable: (Price,),
    BudgetTable: (Budget,),
    MissesTable: (RemembersMisses, MissLedger, SharedMisses),
    PacksTable: (PackCache,),
    OrderTable: (LearnedOrder,),
}
# Options that have another name in a file; None: they have none, because of the reason beside them.
NAMED: dict[str, tuple[str | None, str]] = {
    "S3Raw.credentials": ("profile", "keys are no business of a file; and anonymous"),
    "GSRaw.credentials": ("key_file", "and anonymous"),
    "S3Raw.limit": ("requests_per_second", ""),
    "GSRaw.limit": ("requests_per_second", ""),
    "HTTPRaw.limit": ("requests_per_second", ""),
    "LFSRaw.limit": ("requests_per_second", ""),
    "LFSRaw.sizes": (None, "a mapping as large as the repository"),
    "Sha1Store.base_store": ("url", ""),
    "Sha1Store.prefix": ("url", ""),
    "DiskCache.folder": ("path", ""),
    "LearnedOrder.seed": (None, "of tests"),
    "PackCache.raw": (None, "that of the tier"),
    "PackCache.prefix": (None, "the url of the tier"),
    "PackCache.verify": (None, "that of the tier"),
    "PackCache.algorithm": (None, "that of the file"),
    "Sha1References.base_url": (None, "the url of the tier"),
    "Sha1References.raw": (None, "that of the tier"),
    "Sha1References.verify": (None, "that of the tier"),
    "Sha1References.algorithm": (None, "that of the file"),
    "Sha1References.max_blob_size": (None, "that of the tier"),
    "FsspecRaw.fs": ("client", ""),
    "ObstoreRaw.store": ("client", ""),
    "S3Raw.client": (None, "an object"),
    "GSRaw.client": (None, "an object"),
    "CallLimit.clock": (None, "for tests"),
    "Price.source": (None, "of classes alone"),
    "Price.dated": (None, "of classes alone"),
    "MissLedger.clock": (None, "for tests"),
    "RemembersMisses.base_store": (None, "that of the tier"),
    "RemembersMisses.ledger": ("path", ""),
    "RemembersMisses.algorithm": (None, "that of the file"),
    "SharedMisses.raw": ("share", ""),
    "SharedMisses.prefix": ("share", ""),
    "Sha1Store.algorithm": (None, "that of the file"),
    "DiskCache.algorithm": (None, "that of the file"),
    "append_cache.cache": (None, "the store itself"),
    "append_source.source": (None, "the store itself"),
    "append_cache.self": (None, ""),
    "append_source.self": (None, ""),
}


@pytest.mark.parametrize("kind", [*MADE_FROM], ids=lambda kind: kind.__name__)
def test_a_file_can_say_what_python_can(kind: type[Table]) -> None:
    assert {*KINDS, File} <= {*MADE_FROM}
    for function in MADE_FROM[kind]:
        for option in inspect.signature(function).parameters:
            key, _ = NAMED.get(f"{function.__name__}.{option}", (option, ""))
            assert key is None or key in kind.__struct_fields__, f"{function.__name__}({option}) has no key"


def test_public_classes_with_options_are_compared() -> None:
    """A class that is made public with options of its own is one of these, or has no place in a file."""
    compared = {function.__name__ for functions in MADE_FROM.values() for function in functions} | {"RateLimit"}
    inspect.signature(RateLimit)
    others = {
        name
        for name in vars(bitstore)["__all__"]
        if inspect.isclass(value := getattr(bitstore, name)) and not issubclass(value, Exception)
    } - compared
    bases = {"Composite", "DigestAPISource", "DigestCache", "DigestComposite", "DigestFormatMixin", "DigestStore"}
    bases |= {"DigestReferences", "Md5References", "Sha256References"}
    bases |= {"SteppedStore", "Store", "VerifyDigestMixin", "Sha1FormatMixin", "VerifySha1Mixin", "Sha1Cache"}
    bases |= {f"{name}{part}" for name in ("Md5", "Sha256") for part in ("APISource", "Cache", "Composite", "Store")}
    returned = {
        "Beside",
        "Blob",
        "Evidence",
        "Interval",
        "Location",
        "Miss",
        "MissSource",
        "Money",
        "MoneyRange",
        "Outline",
        "Plan",
        "PlannedTier",
        "RankedTier",
        "SampleCheck",
        "Spent",
        "Stats",
        "TierStats",
    }
    returned |= {name for name in others if name.startswith("Check")} | {"TierCheck"}
    assert others - bases - returned == set()


# By kind: the lines that a tier needs, and for each further key a line that says something else than its default.
KEYS: dict[type[Table], tuple[str, dict[str, str]]] = {
    DiskTier: (
        'cache = "disk"',
        {
            "read": "false",
            "path": '"{tmp}/x"',
            "max_size": '"5MB"',
            "max_blob_size": "7",
            "verify": "false",
            "allow_foreign_owner": "true",
        },
    ),
    MemoryTier: ('cache = "memory"', {"read": "false", "max_size": '"5MB"'}),
    PythonTier: (
        'python = "tests.test_config_keys:Paid"',
        {
            "verify": "false",
            "options": '{ host = "h", token = "${TOKEN}", tries = [1] }',
            "limit": '{ name = "a", per_day = 3 }',
            "remember_missing": "5",
            "price": '"0.002 USD"',
            "cache_result": "false",
            "misses": '{ path = "{tmp}/m" }',
        },
    ),
    FsspecTier: (
        'url = "file://{tmp}/f/"\nclient = "fsspec"',
        {"options": "{ auto_mkdir = true }", "missing_bucket": '"missing"'},
    ),
    ObstoreTier: (
        'url = "s3://bucket/f/"\nclient = "obstore"',
        {"options": '{ access_key_id = "a", secret_access_key = "${TOKEN}" }', "missing_bucket": '"missing"'},
    ),
    FileTier: ('url = "file://{tmp}/f/"', {"root": '"{tmp}"', "missing_folder": '"missing"'}),
    S3Tier: (
        'url = "s3://bucket/f/"',
        {
            "profile": '["a", "b"]',
            "anonymous": "true",
            "endpoint_url": '"http://h"',
            "region": '"eu-west-1"',
            "addressing_style": '"path"',
            "requester_pays": "true",
            "acl": '"private"',
            "storage_class": '"STANDARD_IA"',
            "server_side_encryption": '"aws:kms"',
            "kms_key_id": '"k"',
            "request_checksum_calculation": '"when_required"',
        },
    ),
    GSTier: (
        'url = "gs://bucket/f/"',
        {"key_file": '"{tmp}/key.json"', "anonymous": "true", "endpoint_url": '"http://h"', "user_project": '"p"'},
    ),
    HTTPTier: ('url = "https://h/f/"', {"headers": '{ X = "${TOKEN}" }', "follow_redirects": "1"}),
    LFSTier: (
        'url = "lfs+https://h/r.git/info/lfs/"',
        {"batch_size": "7", "headers": '{ X = "y" }', "follow_redirects": "1"},
    ),
    LimitTable: (
        'python = "tests.test_config_keys:Paid"\nlimit = { name = "a", per_second = 1',
        {"per_minute": "2", "per_day": "3", "budget": "4", "state": '"{tmp}/s"', "wait": "inf"},
    ),
    RetryTable: (
        'url = "https://h/f/"\nretry = { attempts = 2',
        {"first_delay": "0.2", "longest_delay": "7", "budget": "8"},
    ),
    PriceTable: (
        'url = "s3://b/f/"\nprice = { like = "s3-standard"',
        {
            "per_call": '"1 USD"',
            "per_1000_reads": '"1 USD"',
            "per_1000_writes": '"1 USD"',
            "per_gb": '"1 USD"',
            "egress_per_gb": '"0 USD"',
            "misses_billed": "false",
        },
    ),
    PacksTable: (
        'url = "s3://b/f/"\ncache = true\npacks = { pack_size = 7',
        {
            "folder": '"{tmp}/m"', "publish_after": "7", "refresh": "8", "sync": "true", "max_waiting": "9",
            "read_ahead": "0",
        },
    ),
    ReferencesTable: (
        'url = "https://h/f/"\nreferences = { table = "{tmp}/t"',
        {"columns": '{ url = "where" }', "sql_table": '"x"', "compiled": '"{tmp}/c"', "gap": "7", "read_ahead": "0"},
    ),
    MissesTable: (
        'url = "https://h/f/"\nmisses = { path = "{tmp}/m"',
        {
            "name": '"account"',
            "lifetime": '"12h"',
            "recheck": "true",
            "share": '{ url = "s3://b/misses/", profile = "p" }',
            "refresh": '7, share = "file://{tmp}/"',
        },
    ),
}  # fmt: skip
ANY_URL = {
    "cache": "true", "cache_result": "false", "verify": "false", "compression": '"zstd"', "max_blob_size": '"1MB"',
    "references": '{ table = "{tmp}/t" }', "misses": '{ path = "{tmp}/m" }',
    "index": '"{tmp}/x.idx"', "index_max_age": "inf", "recheck": "false",
}  # fmt: skip
ANY_WIRE = {
    "forbidden_is_missing": "true", "missing_bucket": '"missing"', "range_threshold": '"1MB"', "connect_timeout": "1",
    "stall_timeout": "2", "total_timeout": "3", "ca_bundle": '"{tmp}/ca.pem"', "proxy": '"http://p:1"',
    "retry": "{ attempts = 2 }", "requests_per_second": "5", "price": '"s3-standard-ia"',
}  # fmt: skip
NEEDED = {"name", "url", "python", "client"}


def keys_of(kind: type[Table]) -> tuple[str, dict[str, str]]:
    begin, keys = KEYS[kind]
    if begin.startswith("url") and kind not in (RetryTable, ReferencesTable, PriceTable, MissesTable, PacksTable):
        keys = {**keys, **ANY_URL, **({} if kind in (FileTier, FsspecTier, ObstoreTier) else ANY_WIRE)}
    if kind is LFSTier:  # which refuses it
        del keys["references"]
    return begin, keys


def state_of(text: str) -> bytes:
    store = loads(text.replace('"sha1"', '"sha256"') if "lfs+" in text else text)
    return pickle.dumps((store, [(each.is_cache, each.read, each.keep_result) for each in store.tiers]))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes what keys name, and fills its folder into a text."""
    monkeypatch.setenv("TOKEN", "hush-hush")
    (tmp_path / "ca.pem").write_text("")
    (tmp_path / "key.json").write_text('{"type": "service_account"}')
    return lambda text: text.replace("{tmp}", str(tmp_path))


@pytest.mark.parametrize("kind", [*KEYS], ids=lambda kind: kind.__name__)
def test_each_key_acts_and_the_schema_takes_it(kind: type[Table], place: Callable[[str], str]) -> None:
    begin, keys = keys_of(kind)
    inner = " }" if "{ " in begin else ""
    untold = {"cache"} if kind in (DiskTier, MemoryTier) else {"read", "cache"}
    untold |= {"references"} if kind is LFSTier else {"table", "path"}
    untold |= {"packs", "pack_size"}  # of caches alone, whose table is among KEYS
    assert {*kind.__struct_fields__} - {*keys} - NEEDED - untold <= {"attempts", "like", "per_second"}
    without = state_of(place(tier(begin + inner)))
    for key, value in keys.items():
        line = f", {key} = {value} }}" if inner else f"\n{key} = {value}"
        text = place(tier(begin + line))
        assert state_of(text) != without, f"{key} does nothing"
        check(text)


def test_keys_of_a_cache_and_of_the_file_act() -> None:
    source = tier('url = "s3://b/f/"\ncache = true')
    assert state_of(source + "\nread = false") != state_of(source)
    options = {
        "call_when_uncertain": "true",
        "pay_unkept": "true",
        "on_answer": '"tests.test_observe:note"',
        "budget": '"25 USD"',
        "order": '"learned"',
        "hedge": "0.05",
        "otel": "true",
    }
    assert {*File.__struct_fields__} == {*options, "algorithm", "tier"}
    for key, value in options.items():
        text = f"{key} = {value}\n{source}"
        assert state_of(text) != state_of(source), f"{key} does nothing"
        check(text)
    caps = {"most": '"1 USD"', "calls": "1", "requests": "1", "bytes": '"1MB"', "name": '"n"', "state": '"s"'}
    assert {*BudgetTable.__struct_fields__} == {*caps}
    for key, value in caps.items():
        text = f"budget = {{ {key} = {value} }}\n{source}"
        assert state_of(text) != state_of(f"budget = {{}}\n{source}"), f"{key} does nothing"
        check(text)


def test_keys_of_the_order_act() -> None:
    source = tier('url = "s3://b/f/"')
    keys = {"explore": "0.01", "cohort": '"web"', "cohort_of": '"tests.test_observe:note"', "path": '"learned.json"'}
    assert {*OrderTable.__struct_fields__} == {*keys}
    for key, value in keys.items():
        text = f"order = {{ {key} = {value} }}\n{source}"
        assert state_of(text) != state_of(f"order = {{}}\n{source}"), f"{key} does nothing"
        check(text)


def check(text: str) -> None:
    jsonschema.Draft7Validator(schema()).validate(tomllib.loads(text))


def test_the_schema_in_the_package_is_that_of_the_types() -> None:
    jsonschema.Draft7Validator.check_schema(schema())
    assert json.loads(schema_file().read_text()) == schema(), "python -m tests.config_page writes it"


def test_the_tables_of_the_page_are_those_of_the_schema() -> None:
    assert config_page.PAGE.read_text() == config_page.page(), "python -m tests.config_page writes them"


def test_the_example_names_the_schema_and_keeps_to_it() -> None:
    text = EXAMPLE.read_text()
    check(text)
    (line,) = [line for line in text.splitlines() if line.startswith("#:schema ")]
    assert (EXAMPLE.parent / line.removeprefix("#:schema ")).resolve() == schema_file().resolve()


# What only a machine can tell: whether a folder, module or variable is there, and what a text means to a store.
OF_THE_MACHINE = (
    "two tiers are called", "is a file", "plus a digest", "is not a field", "does not contain the whole", "exclude",
    "belongs to", "NOT_THERE", "No module named", "path.nothing", "a store with", "KeyError", "implement", "verify:",
    "name of an environment", "without its", ".*nothing",
)  # fmt: skip


def bad() -> list[tuple[str, str]]:
    marks = {mark.name: mark for mark in test_config.test_a_mistake_in_a_configuration_is_named.pytestmark}  # type: ignore[attr-defined]
    return list(marks["parametrize"].args[1])


@pytest.mark.parametrize(("text", "message"), bad())
def test_the_schema_refuses_what_the_library_refuses(text: str, message: str) -> None:
    if "is not TOML" in message:
        return
    try:
        check(text)
    except jsonschema.ValidationError:
        return
    assert any(word in message for word in OF_THE_MACHINE), f"the schema takes what is refused with: {message}"


@pytest.mark.parametrize("client", ["fsspec", "obstore"])
def test_another_client_fetches_the_bytes(client: str, tmp_path: Path) -> None:
    (tmp_path / test_config.SHA1).write_bytes(test_config.DATA)
    text = tier(f'url = "file://{tmp_path}/"\nclient = "{client}"')
    assert loads(text).get(test_config.SHA1) == test_config.DATA
    for lines, message in (
        ('client = "curl"', "client = 'curl': choose one of 'fsspec', 'obstore'"),
        ('client = ["fsspec"]', "client = ..fsspec..: choose one of 'fsspec', 'obstore'"),
        (f'client = "{client}"\noptions = {{ x = "${{NOT_SET}}" }}', "options.x: .*NOT_SET is not set"),
        (f'client = "{client}"\nregion = "x"', "unknown key 'region'"),
    ):
        with pytest.raises(ConfigError, match=f"tier 'a': {message}"):
            loads(tier(f'url = "s3://bucket/f/"\n{lines}'))
    for url in ("nosuchscheme://b/f/", "s3:/b", "://b/f/", "a+b://c/"):
        with pytest.raises(ConfigError, match="tier 'a': "):
            loads(tier(f'url = "{url}"\nclient = "{client}"'))
    with pytest.raises(ConfigError, match="templates of reference:// are code"):
        loads(tier('url = "reference://x/"\nclient = "fsspec"'))


def test_equal_limits_are_one_and_others_are_not() -> None:
    lines = 'python = "tests.test_config_keys:Paid"\nlimit = { name = "account", per_day = 5 }'
    text = tier(lines) + f'\n[[tier]]\nname = "b"\n{lines}\n[[tier]]\nname = "c"\n{lines.replace("5", "6")}'
    first, second, third = (store.limit for store in loads(text).sources)  # type: ignore[attr-defined]
    assert first is second
    assert first is not third


def test_a_class_takes_options_in_which_variables_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hush-hush")
    lines = 'python = "tests.test_config_keys:Paid"\noptions = { host = "$h", token = "x${TOKEN}", tries = [1, 2] }'
    (store,) = loads(tier(lines)).sources
    assert store.said == ("$h", "xhush-hush", [1, 2])  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"tier 'a': options\.token: .*NOT_SET is not set"):
        loads(tier(lines.replace("TOKEN", "NOT_SET")))
    with pytest.raises(ConfigError, match=r"tier 'a': .*unexpected keyword argument 'hots'"):
        loads(tier(lines.replace("host", "hots")))


@pytest.mark.parametrize(
    "lines",
    [
        'python = "subprocess:Popen"\noptions = {{ args = ["touch", "{mark}"] }}',
        'python = "os:system"\noptions = {{ command = "touch {mark}" }}',
        'python = "builtins:open"\noptions = {{ file = "{mark}", mode = "w" }}',
        'python = "pathlib:Path"\noptions = {{}}',
        "python = \"os:system('touch {mark}')\"",
        "python = \"__import__('os').system('touch {mark}')\"",
        'python = "os:system;touch {mark}"',
        "url = \"s3://b/{{__import__('os').system('touch {mark}')}}\"",
        'url = "file:///$(touch {mark})/"',
        'url = "file:///`touch {mark}`/"',
        'cache = "disk"\npath = "$(touch {mark})"',
        'url = "https://h/"\nheaders = {{ A = "$(touch {mark})" }}',
        'python = "tests.test_config_keys:Paid"\noptions = {{ host = "$(touch {mark})" }}',
    ],
)
def test_a_file_runs_no_code_but_a_named_class(lines: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "ran"
    with contextlib.suppress(ConfigError):
        loads(tier(lines.format(mark=mark)))
    assert not mark.exists()


@pytest.mark.parametrize("content", ["", "[]", '{"private_key": "hush-hush"}', '{"private_key": "hush-hush"', None])
def test_a_key_file_that_is_none_is_named_and_not_shown(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"tier 'a': key_file: .*key\.json") as caught:
        loads(tier(f'url = "gs://b/f/"\nkey_file = "{path}"'))
    assert "hush" not in str(caught.value)
