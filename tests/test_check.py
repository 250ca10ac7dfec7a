"""`bitstore.check`: what is wrong with a store, tier by tier, against real servers and scripted refusals."""

from __future__ import annotations

import email.utils
import errno
import hashlib
import json
import re
import secrets
import socket
import ssl
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google.oauth2.credentials
import pytest

from bitstore import (
    AccessDenied,
    CheckReport,
    Composite,
    DiskCache,
    FileRaw,
    GSRaw,
    HTTPRaw,
    InvalidURI,
    MemoryCache,
    S3Raw,
    Sha1Cache,
    Sha1Composite,
    Sha1Store,
    StoreNotAvailable,
    check,
)
from bitstore._doctor.policies import gcs_roles, s3_policy
from bitstore._doctor.questions import PROBE
from bitstore._doctor.reports import TierCheck
from tests.certificates import issued
from tests.clock import skip_pauses_of_google
from tests.raw_server import RawServer
from tests.scripted_server import Asked, Reply, ScriptedServer, gcs_refusal, s3_refusal
from tests.servers import FakeGCS, MotoServer, SeaweedS3
from tests.stores import API, Box, Shelf, blobs, sha1

KEYS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "topsecretkey"}
BLOBS = blobs(3, salt="check")
DIGEST = min(BLOBS)


def kinds(checked: TierCheck | CheckReport) -> list[str]:
    """Faults and hints, hints with a question mark."""
    return [fault.kind + "?" * (fault.severity == "hint") for fault in checked.faults]


def only(store: Any, *digests: str, **options: Any) -> TierCheck:
    """The check of a store by itself."""
    (checked,) = check(store, digests, **options).tiers
    return checked


@pytest.fixture(scope="module")
def buckets(s3: SeaweedS3, gcs: FakeGCS, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, str]]:
    """A raw store and the URL of a bucket or folder, by scheme; the tests put objects below names of their own."""
    return {
        "s3": (S3Raw(s3.admin.session, endpoint_url=s3.endpoint_url), f"s3://{s3.create_bucket()}"),
        "gs": (GSRaw("anonymous", endpoint_url=gcs.url), f"gs://{gcs.create_bucket()}"),
        "file": (FileRaw(), tmp_path_factory.mktemp("bucket").as_uri()),
    }


# ---------------------------------------------------------------------- all is well


@pytest.mark.parametrize("scheme", ["s3", "gs", "file"])
def test_a_good_tier_is_listed_read_and_written(buckets: dict[str, Any], scheme: str) -> None:
    raw, url = buckets[scheme]
    top = f"{url}/{secrets.token_hex(4)}/"
    for digest, data in BLOBS.items():
        raw.put(f"{top}{digest[:2]}/{digest}", data)
    absent = sha1(b"absent")
    checked = only(Sha1Cache(raw, top + "{digest[:2]}/{digest}"), DIGEST, absent, write=True)
    assert (checked.ok, kinds(checked)) == (True, [])
    assert (checked.reached, checked.may_list, checked.may_read, checked.may_write) == (True, True, True, True)
    assert [(sample.digest, sample.state) for sample in checked.samples] == [(DIGEST, "found"), (absent, "missing")]
    answers = {answer.question: (answer.answer, answer.means) for answer in checked.answers}
    assert answers.get("get of a missing blob") == {
        "s3": ("GET 404 NoSuchKey", "missing"), "gs": ("GET 404", "missing"), "file": None
    }[scheme]  # fmt: skip
    if scheme == "s3":
        assert answers["exists of a missing blob"] == ("HEAD 404, GET 404 NoSuchKey", "missing")
    if scheme != "file":
        assert checked.latency is not None
        assert checked.clock_skew is not None
        assert abs(checked.clock_skew) < 5
    assert f"a probe was written and deleted again: {top}" in "".join(checked.notes)
    assert not raw.exists(f"{top}{sha1(PROBE)[:2]}/{sha1(PROBE)}")
    json.dumps(checked.as_dict())


def test_nothing_is_written_unless_asked_and_sources_never_are(s3: SeaweedS3, bucket: str) -> None:
    store = Sha1Composite()
    raw = S3Raw(s3.admin.session, endpoint_url=s3.endpoint_url)
    store.append_cache(Sha1Cache(raw, f"s3://{bucket}/cache/"), name="cache")
    store.append_source(Sha1Store(raw, f"s3://{bucket}/source/"), name="source")
    report = check(store)
    assert [tier.may_write for tier in report.tiers] == [None, None]
    assert kinds(report) == ["no-blobs?"]  # of the source alone: a cache may be empty
    report = check(store, write=True)
    assert [tier.may_write for tier in report.tiers] == [True, None]
    assert report.ok
    assert "Contents" not in s3.client().list_objects_v2(Bucket=bucket)
    assert all(stats.requests == stats.failures == 0 for stats in store.stats().values())  # its own state is untouched


def test_a_probe_that_stays_is_noted_with_its_address(moto_auth: MotoServer) -> None:
    bucket = moto_auth.create_bucket()
    allow = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject", "s3:ListBucket"], "Resource": "*"}
    user = moto_auth.add_user(f"writer-{bucket}", allow)
    store = Sha1Cache(S3Raw(user.session, endpoint_url=moto_auth.endpoint_url), f"s3://{bucket}/c/")
    probe = f"s3://{bucket}/c/{sha1(PROBE)}"
    assert f"the probe stays, and may be deleted: {probe} ({len(PROBE)} bytes)" in only(store, write=True).notes[-1]
    assert f"the probe was there before, and stays: {probe}" in only(store, write=True).notes[-1]
    assert store.get(sha1(PROBE)) == PROBE


# ---------------------------------------------------------------------- keys

LAYOUTS = {
    "prefix-without-slash": ("files/{d}", "files", "'{top}files/'"),
    "other-template": ("files/{d2}/{d}.gz", "files/", "'{top}files/{{digest[:2]}}/{{digest}}.gz' and compression = '"),
    "other-template of Git": ("files/{d2}/{rest}", "files/", "'{top}files/{{digest[:2]}}/{{digest[2:]}}'"),
    "other-prefix without a slash": ("files{d}", "files/", "'{top}files'"),
    "other-prefix": ("blobs/{d}", "blob/", "'{top}blobs/'"),
    "other-prefix beside it": ("samples/{d}", "files/", "'{top}samples/'"),
    "other-algorithm": ("files/{sha256}", "files/", "algorithm = 'sha256'"),
    "upper-case": ("files/{upper}", "files/", "lower-case"),
    "no-blobs?": ("files/readme.txt", "files/", "{top}files/readme.txt"),
    "no-blobs? under it": ("other/readme.txt", "files/", "{top}other/"),
    "no-blobs": ("file/readme.txt", "files/", "{top}file/"),
}  # fmt: skip


@pytest.mark.parametrize("scheme", ["s3", "gs", "file"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_keys_under_another_template_are_named_with_what_to_write(
    buckets: dict[str, Any], scheme: str, name: str
) -> None:
    raw, url = buckets[scheme]
    top = f"{url}/{secrets.token_hex(4)}-top/"
    key, prefix, advice = LAYOUTS[name]
    for digest, data in BLOBS.items():
        parts = {"d": digest, "d2": digest[:2], "rest": digest[2:], "upper": digest.upper()}
        raw.put(top + key.format(**parts, sha256=hashlib.sha256(data).hexdigest()), data)
    if scheme == "file":
        Path((top + "files/").removeprefix("file://")).mkdir(exist_ok=True)
        Path((top + "blob/").removeprefix("file://")).mkdir(exist_ok=True)
    checked = only(Sha1Store(raw, top + prefix), DIGEST)
    assert kinds(checked) == [name.partition(" ")[0]]
    assert advice.format(top=top) in checked.faults[0].advice
    assert checked.samples[0].state == "missing"
    if "'" in advice and "algorithm" not in advice:  # what to write is right
        right = re.findall(r"'([^']*)'", checked.faults[0].advice)[0]
        assert only(Sha1Store(raw, right), DIGEST).samples[0].state == "found"


def test_other_bytes_than_the_digest_says_are_named(buckets: dict[str, Any]) -> None:
    raw, url = buckets["s3"]
    top = f"{url}/{secrets.token_hex(4)}/"
    raw.put(top + DIGEST, b"other bytes")
    for verify in (True, False):
        checked = only(Sha1Store(raw, top, verify))
        assert kinds(checked) == ["wrong-bytes"]
        assert DIGEST in checked.faults[0].text


# ---------------------------------------------------------------------- buckets, rights, keys, regions


def test_a_bucket_that_is_not_there_is_named(s3: SeaweedS3, gcs: FakeGCS) -> None:
    for raw, url in (
        (S3Raw(s3.admin.session, endpoint_url=s3.endpoint_url), "s3://aws-custmer-data/files/"),
        (GSRaw("anonymous", endpoint_url=gcs.url), "gs://my_projcet/"),
    ):
        checked = only(Sha1Store(raw, url), DIGEST)
        assert kinds(checked) == ["no-bucket"]
        assert url.split("/")[2] in checked.faults[0].advice
        assert checked.reached
        assert [(sample.state, bool(sample.why)) for sample in checked.samples] == [("failed", True)]


def test_a_bucket_that_is_called_alike_is_suggested(s3: SeaweedS3, moto_auth: MotoServer) -> None:
    for server in (s3, moto_auth):
        name = f"our-customer-data-{secrets.token_hex(3)}"
        server.create_bucket(name)
        raw = S3Raw(server.admin.session, endpoint_url=server.endpoint_url)
        slip = name.replace("customer", "custmer")
        (fault,) = only(Sha1Store(raw, f"s3://{slip}/files/")).faults
        assert (fault.kind, f"Did you mean s3://{name}?" in fault.advice) == ("no-bucket", True)
        (fault,) = only(Sha1Store(raw, "s3://no-such-thing-at-all/")).faults
        assert (fault.kind, "Did you mean" in fault.advice) == ("no-bucket", False)


def test_keys_that_the_service_does_not_know_are_named(s3: SeaweedS3, bucket: str) -> None:
    wrong = {**s3.admin.session, "aws_secret_access_key": "wrong"}
    for session in (KEYS, wrong):
        checked = only(Sha1Store(S3Raw(session, endpoint_url=s3.endpoint_url), f"s3://{bucket}/"))
        assert kinds(checked) == ["bad-keys"]
        assert "topsecretkey" not in str(checked.as_dict())


def test_rights_that_are_lacking_come_with_the_least_policy(moto_auth: MotoServer) -> None:
    bucket = moto_auth.create_bucket()
    moto_auth.client().put_object(Bucket=bucket, Key=f"files/{DIGEST}", Body=BLOBS[DIGEST])

    def user(*actions: str) -> S3Raw:
        name = f"user-{secrets.token_hex(4)}"
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        return S3Raw(moto_auth.add_user(name, statement).session, endpoint_url=moto_auth.endpoint_url)

    lists = only(Sha1Store(user("s3:ListBucket"), f"s3://{bucket}/files/"))
    assert (lists.may_list, lists.may_read) == (True, False)
    assert kinds(lists) == ["no-right-to-read"]
    assert lists.faults[0].policy == s3_policy(bucket, "files/")
    nothing = only(Sha1Store(user("s3:GetBucketAcl"), f"s3://{bucket}/files/"))
    assert (nothing.may_list, kinds(nothing)) == (False, ["no-right-to-list"])
    reads = only(Sha1Store(user("s3:GetObject"), f"s3://{bucket}/files/"), DIGEST)
    assert (reads.may_list, reads.may_read, reads.ok) == (False, True, True)  # moto says 404 all the same
    cache = only(Sha1Cache(user("s3:GetObject", "s3:ListBucket"), f"s3://{bucket}/files/"), write=True)
    assert (cache.may_write, kinds(cache)) == (False, ["no-right-to-write"])
    assert cache.faults[0].policy == s3_policy(bucket, "files/", write=True)


def test_a_client_of_the_caller_is_understood_by_its_words(moto_auth: MotoServer) -> None:
    bucket = moto_auth.create_bucket()
    nothing = {"Effect": "Allow", "Action": "s3:GetBucketAcl", "Resource": "*"}
    for user, name, expected in (
        (moto_auth.admin, bucket, []),
        (moto_auth.admin, "no-such-bucket-x", ["no-bucket"]),
        (moto_auth.add_user(f"client-{bucket}", nothing), bucket, ["no-right-to-list"]),
    ):
        checked = only(Sha1Store(S3Raw(client=moto_auth.client(user)), f"s3://{name}/"))
        assert kinds(checked) == expected
        assert "cannot be listed" in checked.notes[0]


def answering(*rules: tuple[str, Reply], otherwise: Reply) -> Callable[[Asked], Reply]:
    """Answers by the first rule whose pattern is in `METHOD target`."""

    def answer(asked: Asked) -> Reply:
        for pattern, reply in rules:
            if re.search(pattern, f"{asked.method} {asked.target}"):
                return reply
        return otherwise

    return answer


def dated(reply: Reply, seconds: float) -> Reply:
    """`reply`, with a Date of so many seconds from now, in place of the server's own."""
    return reply[0], {**reply[1], "Date": email.utils.formatdate(time.time() + seconds, usegmt=True)}, reply[2]


LISTING = b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>"
DENIED = s3_refusal(403, "AccessDenied", "Access Denied")
NO_KEY = s3_refusal(404, "NoSuchKey", "The specified key does not exist.")
GOES_TO = "<Region>eu-central-1</Region>"
LISTS_403 = s3_refusal(403, "AccessDenied", "User x is not authorized to perform: s3:ListBucket on resource: y")
S3_ANSWERS: dict[str, tuple[Callable[[Asked], Reply], list[str], str]] = {
    "403 for what is missing": (answering(otherwise=DENIED), ["no-right-to-list"], "s3:ListBucket"),
    "403 that names the right": (answering(otherwise=LISTS_403), ["no-right-to-list"], "s3:ListBucket"),
    "403 for reads, and a listing": (
        answering(("list-type", (200, {}, LISTING)), otherwise=DENIED),
        ["no-right-to-read", "no-blobs?"], "s3:GetObject",
    ),
    "a key of KMS": (
        answering(otherwise=s3_refusal(403, "AccessDenied", "not authorized to perform: kms:Decrypt on it")),
        ["no-right-to-key"], "kms:Decrypt",
    ),
    "an expired token": (answering(otherwise=s3_refusal(400, "ExpiredToken")), ["expired-login"], "aws sso login"),
    "another region, named": (
        answering(("", s3_refusal(400, "AuthorizationHeaderMalformed", more=GOES_TO)), otherwise=NO_KEY),
        ["wrong-region"], "eu-central-1",
    ),
    "another region, mended": (
        lambda asked: s3_refusal(301, "PermanentRedirect", more=GOES_TO)
        if "/eu-central-1/s3/" not in asked.headers.get("authorization", "")
        else (200, {}, LISTING) if "list-type" in asked.target else NO_KEY,
        ["wrong-region?", "no-blobs?"], "region = 'eu-central-1'",
    ),
    "a clock that is off": (
        answering(otherwise=s3_refusal(403, "RequestTimeTooSkewed")), ["clock"], "NTP"
    ),
    "a clock that is off by minutes": (
        lambda asked: dated((200, {}, LISTING) if "list-type" in asked.target else NO_KEY, 300),
        ["no-blobs?", "clock?"], "look at the name",
    ),
    "an archive": (
        answering(otherwise=s3_refusal(403, "InvalidObjectState", "archived")), ["archived"], "Restore"
    ),
    "a web page for everything": (
        answering(otherwise=(200, {}, b"<html>Log in</html>")), ["answers-everything"], "page for logins"
    ),
    "a proxy's own refusal": (answering(otherwise=(407, {}, b"")), ["unexpected-answer"], "address"),
    "out": (answering(otherwise=s3_refusal(503, "SlowDown")), ["service-out"], "wait"),
    "no service of this kind": (answering(otherwise=(501, {}, b"")), ["unexpected-answer"], "address"),
}  # fmt: skip


@pytest.mark.parametrize("name", S3_ANSWERS)
def test_answers_of_s3_are_named(name: str) -> None:
    answer, expected, advice = S3_ANSWERS[name]
    with ScriptedServer(answer) as server:
        checked = only(Sha1Store(S3Raw(KEYS, endpoint_url=server.url), "s3://bucket/files/"))
    assert kinds(checked) == expected, checked.faults
    assert advice in checked.faults[0].advice
    assert checked.ok == all(kind.endswith("?") for kind in expected)
    if expected[0].startswith("no-right-to-l"):
        assert checked.faults[0].policy == s3_policy("bucket", "files/")


def test_a_web_server_needs_a_sample_to_show_that_its_address_is_right() -> None:
    with ScriptedServer(lambda asked: (200, {}, b"x") if sha1(b"x") in asked.target else (404, {}, b"")) as server:
        store = Sha1Store(HTTPRaw(), f"{server.url}/blobs/", verify=True)
        assert (only(store).ok, only(store).may_read) == (True, None)
        assert [note for note in only(store).notes if "no blob was read: a digest that it has (--digest)" in note]
        assert not [note for note in only(store, sha1(b"x")).notes if "no blob was read" in note]


def test_a_listing_that_lies_is_harmless() -> None:
    digest = "a" * 40
    for inner, expected in {
        f"<Contents><Key>files/{digest}</Key><Size>5</Size></Contents>": ["listed-not-read?"],
        f"<Contents><Key>files/{digest}</Key><Size>{9**30}</Size></Contents>": [],
        f"<Contents><Key>elsewhere/{digest}</Key><Size>x</Size></Contents>": ["other-prefix"],
        f"<Contents><Key>files/&#27;[2J{digest}</Key></Contents>": ["other-prefix"],
        f"<Contents><Key>files/{{x}}/{digest}</Key></Contents>": ["other-template"],
        "<Contents><Size>5</Size></Contents>": ["no-blobs?"],
    }.items():
        page: Reply = (200, {}, f"<ListBucketResult>{inner}</ListBucketResult>".encode())
        with ScriptedServer(answering(("list-type", page), otherwise=NO_KEY)) as server:
            report = check(Sha1Store(S3Raw(KEYS, endpoint_url=server.url), "s3://bucket/files/"))
        assert kinds(report) == expected, inner
        assert "\x1b" not in str(report)
        json.dumps(report.as_dict())


def test_refusals_that_count_as_missing_are_a_hint() -> None:
    with ScriptedServer(lambda asked: DENIED) as server:
        raw = S3Raw(KEYS, endpoint_url=server.url, forbidden_is_missing=True)
        checked = only(Sha1Store(raw, "s3://bucket/"))
        assert (checked.ok, kinds(checked)) == (True, ["no-right-to-list?"])


def test_an_endpoint_with_the_name_of_the_bucket_is_named() -> None:
    with ScriptedServer(lambda asked: NO_KEY) as server:
        raw = S3Raw(KEYS, endpoint_url=f"{server.url}/bucket")
        assert kinds(only(Sha1Store(raw, "s3://bucket/"))) == ["bucket-in-endpoint"]


def test_answers_of_google_are_named(tmp_path: Path) -> None:
    text = "{} does not have storage.objects.{} access to the Google Cloud Storage object."
    for (status, reason, message), expected in {
        (403, "forbidden", text.format("x@y.iam", "list")): ["no-right-to-list"],
        (401, "required", text.format("Anonymous caller", "get")): ["no-right-to-read"],
        (404, "notFound", "The specified bucket does not exist."): ["no-bucket"],
        (401, "authError", "Invalid Credentials"): ["expired-login"],
    }.items():
        reply = gcs_refusal(status, reason, message)
        with ScriptedServer(lambda asked, reply=reply: reply) as server:  # type: ignore[misc]
            checked = only(Sha1Store(GSRaw("anonymous", endpoint_url=server.url), "gs://bucket/"))
        assert kinds(checked) == expected
        assert (checked.faults[0].policy == gcs_roles("bucket")) == (expected[0].startswith("no-right"))
    assert kinds(only(Sha1Store(GSRaw({"type": "service_account"}), "gs://bucket/"))) == ["no-credentials"]


def test_an_expired_login_of_google_is_told_from_an_outage_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    skip_pauses_of_google(monkeypatch)
    refused = (400, {"Content-Type": "application/json"}, b'{"error": "invalid_grant", "error_description": "expired"}')
    out: Reply = (503, {"Content-Type": "application/json"}, b"{}")
    for reply, kind in ((refused, "expired-login"), (out, "credentials-out")):
        with ScriptedServer(lambda asked, reply=reply: reply) as server:  # type: ignore[misc]
            login: Any = google.oauth2.credentials.Credentials(  # type: ignore[no-untyped-call]
                None, refresh_token="r", token_uri=server.url, client_id="c", client_secret="topsecret"
            )
            raw = GSRaw(login, endpoint_url=server.url)
            checked = only(Sha1Store(raw, "gs://bucket/"))
        assert kinds(checked) == [kind], checked.faults
        assert "topsecret" not in str(checked.as_dict())


def test_credentials_that_are_lacking_or_expired_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tier = Sha1Store(S3Raw(endpoint_url="http://127.0.0.1:9"), "s3://bucket/")
    assert kinds(only(tier)) == ["no-credentials"]
    config = tmp_path / "config"
    config.write_text(
        "[profile sso]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\nregion = eu-west-1\n"
        "[sso-session s]\nsso_start_url = http://127.0.0.1:9/\nsso_region = eu-west-1\n"
        "[profile broken]\ncredential_process = false\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    for profile, kind in (("sso", "expired-login"), ("broken", "no-credentials"), ("none", "no-credentials")):
        checked = only(Sha1Store(S3Raw({"profile_name": profile}), "s3://bucket/"))
        assert kinds(checked) == [kind], checked.faults
        assert not checked.reached


# ---------------------------------------------------------------------- the way there


def test_the_way_to_the_service_is_told_apart(tmp_path: Path) -> None:
    def tier(url: str, **options: Any) -> TierCheck:
        return only(Sha1Store(HTTPRaw(**options), f"{url}/"), timeout=options.pop("timeout", 20))

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert kinds(tier(f"http://127.0.0.1:{unused.getsockname()[1]}")) == ["no-connection"]
    assert kinds(tier("http://no-such-host.invalid")) == ["no-such-host"]
    bundle, certificate = issued(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    reply = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    with RawServer(lambda peer, head, nth: peer.sendall(reply), tls=tls) as server:
        checked = tier(server.url)
        assert kinds(checked) == ["tls"]
        assert "ca_bundle" in checked.faults[0].advice
        assert kinds(tier(server.url, ca_bundle=str(bundle))) == []
    with RawServer(lambda peer, head, nth: server.over.wait()) as server:
        (checked,) = check(Sha1Store(HTTPRaw(), f"{server.url}/"), DIGEST, timeout=0.3).tiers
        assert kinds(checked) == ["no-answer"]
        assert len(server.heads) == 1  # what is silent is asked one question
        assert checked.samples[0].state == "failed"


def test_web_servers_are_asked_and_not_listed() -> None:
    with ScriptedServer(lambda asked: (403 if asked.headers.get("token") != "t" else 404, {}, b"")) as server:
        assert kinds(only(Sha1Store(HTTPRaw(), f"{server.url}/"))) == ["refused"]
        good = only(Sha1Store(HTTPRaw(headers={"token": "t"}), f"{server.url}/"))
        assert (good.ok, good.may_list, good.reached) == (True, None, True)
        assert "write" not in "".join(server.methods()).lower()


# ---------------------------------------------------------------------- this machine


def test_folders_are_checked_for_being_there_and_their_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kinds(only(Sha1Store(FileRaw(), (tmp_path / "none").as_uri() + "/"))) == ["no-folder"]
    store = Sha1Composite()
    store.append_cache(DiskCache(tmp_path / "new", max_size="1MB"))
    store.append_cache(Sha1Cache(FileRaw(), f"{tmp_path.as_uri()}/cache/"))
    store.append_cache(MemoryCache())
    report = check(store, DIGEST)
    assert [tier.may_write for tier in report.tiers] == [True, True, True]
    assert report.ok
    assert report.missing == [DIGEST]
    assert list(tmp_path.iterdir()) == []  # nothing is made by a look
    report = check(store, write=True)
    assert [tier.may_write for tier in report.tiers] == [True, True, True]
    monkeypatch.setattr("os.access", lambda path, mode: False)  # the tests may run as root, which may do everything
    assert kinds(check(store)) == ["no-permission", "no-permission"]
    big = DiskCache(tmp_path, max_size="7EiB")
    monkeypatch.undo()
    assert kinds(only(big)) == ["disk-small?"]


@pytest.mark.parametrize(("compression", "read"), [(None, True), ("gzip", None)])
def test_a_large_sample_is_not_read_whole(tmp_path: Path, compression: str | None, read: bool | None) -> None:
    with (tmp_path / DIGEST).open("wb") as file:
        file.truncate(300_000_000)
    store = Sha1Store(FileRaw(), f"{tmp_path.as_uri()}/", compression=compression, verify=True)
    tracemalloc.start()
    try:
        checked = only(store, DIGEST)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert (checked.ok, checked.may_read, checked.samples[0].state) == (True, read, "found")
    assert "300,000,000 bytes" in "".join(checked.notes)


def test_paid_sources_are_asked_only_on_demand(tmp_path: Path) -> None:
    api = API({DIGEST: BLOBS[DIGEST]})
    store = Sha1Composite()
    store.append_source(api, name="api")
    inner = Sha1Composite()
    inner.append_source(api, name="paid too")
    store.append_source(inner, name="inner")
    report = check(store, [DIGEST], write=True)
    assert api.calls == []
    assert [(tier.name, tier.asked) for tier in report.tiers] == [("api", False), ("inner > paid too", False)]
    assert report.ok
    assert report.missing == []  # nothing said so
    assert "0 of 2 tiers good, 2 not asked" in str(report)
    report = check(store, [DIGEST, DIGEST.upper(), sha1(b"absent")], paid=True)
    assert api.calls == [DIGEST, sha1(b"absent")] * 2
    assert [sample.state for sample in report.tiers[0].samples] == ["found", "missing"]
    api.fail = RuntimeError("https://h/?key=topsecret0 is wrong")
    assert kinds(check(store, paid=True).tiers[0]) == ["store-raises"]
    assert "topsecret0" not in str(check(store, paid=True))


def test_stores_of_users_are_asked_what_a_composite_asks() -> None:
    class Odd(Shelf):
        def is_valid(self, uri: Any) -> bool:
            raise ValueError("no idea")

    shelf, lies, picky = Shelf({DIGEST: BLOBS[DIGEST]}), Shelf(), Shelf()
    lies.get = lambda uri: b"always"  # type: ignore[method-assign]
    picky.is_valid = lambda uri: False  # type: ignore[method-assign]
    raises, ends, none = Shelf(), Shelf(), Shelf()
    ends.get = lambda uri: sys.exit(3)  # type: ignore[method-assign]
    none.get = lambda uri: None  # type: ignore[method-assign,assignment,return-value]
    raises.fail = KeyError("x")
    store = Sha1Composite()
    for name, each in {
        "shelf": shelf,
        "lies": lies,
        "picky": picky,
        "odd": Odd(),
        "raises": raises,
        "ends": ends,
        "none": none,
    }.items():
        store.append_source(each, name=name)
    found = {tier.name: kinds(tier) for tier in check(store, DIGEST).tiers}
    assert found == {
        "shelf": [],
        "lies": ["answers-everything", "wrong-bytes"],
        "picky": ["takes-no-digest"],
        "odd": ["store-raises"],
        "raises": ["store-raises"],
        "ends": ["store-raises"],
        "none": ["answers-everything"],
    }
    for error, kind in (
        (StoreNotAvailable("x", "out: //me:topsecret@h"), "unavailable"),
        (AccessDenied("x", "no"), "refused"),
    ):
        raises.fail = error
        assert kinds(check(store).tiers[4]) == [kind]
        assert "topsecret" not in str(check(store))
    texts = Shelf()
    texts.get = lambda uri: 5  # type: ignore[method-assign,assignment,return-value]
    assert kinds(only(texts, DIGEST)) == []  # of a store addressed by anything: it may return what it likes
    box = Box()
    for number, kind in ((errno.ENOSPC, "disk-full"), (errno.EROFS, "no-permission"), (errno.EIO, "store-raises")):
        box.fail_put = OSError(number, "told to")
        caching = Sha1Composite()
        caching.append_cache(box)
        assert kinds(check(caching, write=True)) == [kind]
    by_url = Composite()
    by_url.append_source(Shelf({"x": b"x"}))
    assert check(by_url, "x").tiers[0].samples[0].state == "found"
    assert check(by_url).tiers[0].asked is False  # there is nothing to ask for


def test_a_raw_store_by_itself_is_asked_for_urls(buckets: dict[str, Any], moto_auth: MotoServer) -> None:
    raw, url = buckets["s3"]
    raw.put(f"{url}/raw/x", b"x")
    checked = only(raw, f"{url}/raw/x", f"{url}/raw/y", write=True)
    assert [(sample.state) for sample in checked.samples] == ["found", "missing"]
    assert checked.may_read
    bucket = moto_auth.create_bucket()
    moto_auth.client().put_object(Bucket=bucket, Key="x", Body=b"x")
    nothing = {"Effect": "Allow", "Action": "s3:GetBucketAcl", "Resource": "*"}
    user = S3Raw(moto_auth.add_user(f"none-{bucket}", nothing).session, endpoint_url=moto_auth.endpoint_url)
    checked = only(user, f"s3://{bucket}/x")
    assert (kinds(checked), checked.faults[0].policy) == (["no-right-to-read"], s3_policy(bucket, "x"))


def test_samples_are_missing_only_where_every_tier_says_so(tmp_path: Path) -> None:
    store = Sha1Composite()
    store.append_source(Sha1Store(FileRaw(), tmp_path.as_uri() + "/"), name="folder")
    store.append_source(Sha1Store(HTTPRaw(), "http://127.0.0.1:9/"), name="out")
    assert check(store, DIGEST).missing == []
    with pytest.raises(InvalidURI):
        check(store, "nonsense")
    with pytest.raises(ValueError, match="timeout"):
        check(store, timeout=0)
    with pytest.raises(TypeError, match="expected a store"):
        check(object())
    assert check(Sha1Composite()).tiers == []


def test_the_page_has_every_kind_of_fault() -> None:
    root = Path(__file__).parents[1]
    code = "".join(path.read_text() for path in (root / "bitstore" / "_doctor").glob("*.py"))
    kind = r"[a-z]+(?:-[a-z]+)+|clock|tls|refused|archived|un[a-z]*able"
    named = re.findall(rf"(?:CheckFault\(|kind = |else |: \()\s*\"({kind})\"", code)
    table = re.findall(r"^\| (`[^|]*) \|", (root / "docs" / "check.md").read_text(), re.MULTILINE)
    assert set(named) == {kind for row in table for kind in re.findall("`([^`]*)`", row)}


def test_the_policies_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[1] / "docs" / "operations.md").read_text()
    policy = json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])  # type: ignore[index]
    assert policy == s3_policy("aws-customer-data", "files/")
    written = s3_policy("b", "", write=True, acl=True, partition="aws-cn")["Statement"]
    assert written[0]["Action"] == ["s3:GetObject", "s3:PutObject", "s3:PutObjectAcl"]
    assert written[1] == {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws-cn:s3:::b"}
    for write in (False, True):
        assert all(permission in page for permission in gcs_roles("b", write=write)["permissions"])
