"""bitstore.toml: what it describes, and what it says about mistakes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from bitstore import DiskCache, MemoryCache, Sha1APISource, Sha1Cache, Sha1Composite, Sha1Store, Sha256Composite, Store
from bitstore._support.digests import algorithm
from bitstore.config import ConfigError, from_urls, load, loads
from tests.servers import SeaweedS3

DATA = b"hello, bitstore"
SHA1 = algorithm("sha1").of(DATA)


class Minimal(Store):
    def is_valid(self, uri: object) -> bool:
        return True

    def get(self, uri: str) -> bytes:
        return DATA


class Paid(Sha1APISource):
    def api_get(self, digest: str) -> bytes:
        return b"not the right bytes"


def failing() -> Store:
    raise KeyError("no client")


def tier(lines: str, name: str = "a", algorithm: str = "sha1") -> str:
    return f'algorithm = "{algorithm}"\n[[tier]]\nname = "{name}"\n{lines}'


def test_the_example_configuration_makes_the_described_composite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRROR_TOKEN", "hush-hush")
    store = load(Path(__file__).parents[1] / "examples" / "bitstore.toml")
    assert isinstance(store, Sha1Composite)
    assert list(store.stats()) == ["disk", "customer bucket", "project bucket", "mirror", "api cache"]
    disk, customer, project, mirror, cache = store.sources
    assert isinstance(disk, DiskCache)
    assert (disk.max_size, disk.algorithm, disk.folder) == (50 * 10**9, "sha1", Path.home() / ".cache/blobs")
    assert isinstance(customer, Sha1Store)
    assert customer.verify
    assert isinstance(project, Sha1Store)
    assert (project.compression, project.url(SHA1)) == ("gzip", f"gs://my_project/{SHA1[:2]}/{SHA1}.gz")
    assert isinstance(cache, Sha1Cache)
    assert store.cache is cache
    assert isinstance(mirror, Sha1Store)
    assert mirror.base_store.headers == {"Authorization": "Bearer hush-hush"}  # type: ignore[attr-defined]
    assert mirror.base_store.retry.attempts == 3  # type: ignore[attr-defined]
    assert project.base_store is cache.base_store  # one set of credentials and connections for both
    assert "hush-hush" not in repr(store)
    assert repr(pickle.loads(pickle.dumps(store))) == repr(store)


def test_tiers_of_a_configuration_fill_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "with space {x}"
    (folder / "ab").mkdir(parents=True)
    url = folder.as_uri().replace("{", "{{").replace("}", "}}")
    store = loads(
        f"""
        algorithm = "sha1"
        [[tier]]
        name = "memory"
        cache = "memory"
        max_size = "1MB"
        [[tier]]
        name = "b"
        url = "{url}/cache/{{digest[:2]}}/{{digest}}"
        cache = true
        compression = "zstd"
        [[tier]]
        name = "mine"
        python = "tests.test_config:Minimal"
        """
    )
    assert isinstance(store.sources[0], MemoryCache)
    assert store.get(SHA1) == DATA
    assert [(t.name, t.hits, t.writes) for t in store.stats().values()] == [
        ("memory", 0, 1),
        ("b", 0, 1),
        ("mine", 1, 0),
    ]
    assert (folder / "cache" / SHA1[:2] / SHA1).read_bytes().startswith(b"\x28\xb5\x2f\xfd")
    assert store.get(SHA1) == DATA
    assert store.stats()["memory"].hits == 1


def test_stores_of_a_configuration_verify_unless_it_says_otherwise(aws_env: SeaweedS3, bucket: str) -> None:
    aws_env.put(bucket, f"files/{SHA1}", DATA)
    aws_env.put(bucket, "files/" + "0" * 40, b"these bytes have another digest")
    store = loads(tier(f'url = "s3://{bucket}/files/"\nendpoint_url = "{aws_env.endpoint_url}"\nconnect_timeout = 3'))
    assert store.get(SHA1) == DATA
    with pytest.raises(Exception, match="invalid data"):  # configured stores verify
        store.get("0" * 40)
    unverified = loads(tier(f'url = "s3://{bucket}/files/"\nverify = false'))
    assert unverified.get("0" * 40) == b"these bytes have another digest"


def test_python_stores_of_a_configuration_verify_where_they_can() -> None:
    store = loads(tier('python = "tests.test_config:Paid"'))
    with pytest.raises(Exception, match="invalid data"):
        store.get(SHA1)
    assert loads(tier('python = "tests.test_config:Paid"\nverify = false')).get(SHA1) == b"not the right bytes"


def test_relative_paths_begin_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "bitstore.toml").write_text(tier('cache = "disk"\npath = "blobs"'))
    monkeypatch.chdir(tmp_path)
    disk = load("conf/bitstore.toml").sources[0]
    assert isinstance(disk, DiskCache)
    assert disk.folder == tmp_path / "conf" / "blobs"


def test_load_without_a_path_searches_the_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    with pytest.raises(ConfigError, match=r"neither \./bitstore\.toml nor .*bitstore\.toml.*BITSTORE_CONFIG"):
        load()
    places = [Path("xdg/bitstore/bitstore.toml"), Path("bitstore.toml"), Path("named.toml")]
    for number, place in enumerate(places):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(tier('cache = "memory"', name=f"t{number}"))
        if place.name == "named.toml":
            monkeypatch.setenv("BITSTORE_CONFIG", str(place))
        assert list(load().stats()) == [f"t{number}"]
    monkeypatch.delenv("BITSTORE_CONFIG")
    Path("bitstore.toml").unlink()
    Path("bitstore.toml").symlink_to("gone.toml")  # an older configuration must not take its place
    with pytest.raises(ConfigError, match=r"cannot read the configuration bitstore\.toml: No such file"):
        load()
    monkeypatch.setenv("BITSTORE_CONFIG", "gone.toml")
    with pytest.raises(ConfigError, match=r"cannot read the configuration gone\.toml: No such file"):
        load()


def test_urls_become_tiers_of_their_own_name(tmp_path: Path) -> None:
    store = from_urls(["s3://a/b/", "gs://c/"], algorithm="sha256", cache=str(tmp_path / "cache"), anonymous=True)
    assert isinstance(store, Sha256Composite)
    assert list(store.stats()) == ["disk cache", "s3://a/b/", "gs://c/"]
    assert "anonymous" in repr(store)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb 2", "^t is not TOML: .*line 2"),
        ("[[tier]]", "'algorithm' is missing: write algorithm = \"sha1\" \\(or sha256, md5\\)"),
        ('algorithm = "sha1"', "'tier' is missing: write a \\[\\[tier\\]\\]"),
        ('algorithm = "sha1"\ntier = []', "no tier"),
        ('algorithm = "sha1"\ntier = 3', "tier: expected array"),
        ('algoritm = "sha1"\n[[tier]]', "'algorithm' is missing \\(there is 'algoritm'\\)"),
        ('algorithm = "sha1"\n[[tiers]]', "'tier' is missing \\(there is 'tiers'\\)"),
        ('algorithm = "sha1"\n[tier]\nname = "a"', "write \\[\\[tier\\]\\], in double brackets"),
        (tier('urll = "s3://b/"'), "unknown key 'urll' \\(did you mean 'url'"),
        ('algorithm = "sha1"\ntiers = []\ntier = []', "unknown key 'tiers' \\(did you mean 'tier'\\?\\)"),
        ('algorithm = "sha3"\n[[tier]]\nname = "a"', "algorithm = 'sha3': choose one of sha1, sha256, md5"),
        ('algorithm = "sha1"\n[[tier]]\ncache = "memory"', "tier 1 has no name"),
        (tier('cache = "memory"') + '\n[[tier]]\nname = "a"\ncache = "memory"', "two tiers are called 'a'"),
        (tier(""), "tier 'a': nothing says where its blobs are"),
        (tier("cache = true"), "tier 'a': nothing says where its blobs are"),
        (tier('url = "s3://b/"\npython = "a:b"'), "tier 'a': url and python exclude each other"),
        (tier('cache = "disc"'), "tier 'a': cache = 'disc': choose 'disk' or 'memory'"),
        (tier('cache = "disk"\nmax_size = "5 parrots"'), "tier 'a': max_size '5 parrots' is not a size"),
        (tier('cache = "disk"\npath = ""'), "tier 'a': path is empty"),
        (tier('url = "https://h/"\nca_bundle = ""'), "tier 'a': ca_bundle is empty"),
        (tier('url = "s3://b/"\nprofile = ""'), "tier 'a': profile is empty"),
        (tier('cache = "disk"\npath = "${A:-b}"'), "tier 'a': path: .*'A:-b' is no name of an environment variable"),
        (tier('cache = "disk"\npath = "${}"'), "tier 'a': path: .*'' is no name of an environment variable"),
        (tier('cache = "disk"\npath = "${HOME/b"'), r"tier 'a': path: .*'\$\{' without its '\}'"),
        (tier("cache = 5"), "tier 'a': cache: expected str or bool, got int"),
        (tier('url = "s3://b/"\nretry = 3'), "tier 'a': retry: expected table, got int"),
        (tier('url = "s3://b/"\nretry = { attempts = "3" }'), "tier 'a': retry.attempts: expected int, got str"),
        (tier('python = "tests.test_config:Paid"\nlimit = {}'), "tier 'a': limit: .*required field name"),
        (tier('cache = "memory"', name="a\\nb"), "tier 1 has no name"),
        (tier('cache = "disk"\nmax_siez = 5'), "tier 'a': unknown key 'max_siez' \\(did you mean 'max_size'"),
        (tier('cache = "disk"\npath = "/dev/null"'), "tier 'a': .*/dev/null.* is a file"),
        (tier('url = "ftp://host/"'), "tier 'a': url = 'ftp://host/': its scheme is unknown; choose one of s3://, gs://"),
        (tier('url = "ftp://u:secret@host/"'), "tier 'a': url = 'ftp://\\*\\*\\*@host/'"),
        (tier('url = "/some/folder"'), "tier 'a': url = '/some/folder' has no scheme: .*'file:///some/folder/'"),
        (tier('url = "/a/{digest}"'), "tier 'a': url = '/a/{digest}' has no scheme: .*'file:///a/{digest}'"),
        (tier('url = "s3:/b/f/"'), "tier 'a': url = 's3:/b/f/' has no scheme: did you mean 's3://b/f/'"),
        (tier('url = "bucket/files/"'), "tier 'a': url = 'bucket/files/' has no scheme: begin with one of s3://, gs://"),
        (tier("url = 5"), "tier 'a': url: expected str, got int"),
        (tier('url = "s3://bucket"'), "tier 'a': 's3://bucket' plus a digest is no URL.*s3://bucket/key"),
        (tier('url = "s3://b/{digset}"'), "tier 'a': key template .*'{digset}' is not a field"),
        (tier('url = "s3://b/{digest[:2]}/"'), "tier 'a': key template .* does not contain the whole {digest}"),
        (tier('url = "http://u:secret@host/"'), "tier 'a': 'http://\\*\\*\\*@host/' plus a digest"),
        (tier('url = "s3://b/"\nregion = 3'), "tier 'a': region: expected str, got int"),
        (tier('url = "s3://b/"\nregoin = "x"'), "tier 'a': unknown key 'regoin' \\(did you mean 'region'\\?\\)"),
        (tier('url = "gs://b/"\nprofile = "x"'), "tier 'a': unknown key 'profile'.*gs:// URL takes: name"),
        (tier('url = "s3://b/"\nprofile = "x"\nanonymous = true'), "tier 'a': profile and anonymous exclude"),
        (tier('url = "s3://b/"\ncompression = "rar"'), "tier 'a': unknown compression 'rar'"),
        (tier('url = "s3://b/"\nretry = { attemps = 1 }'), "tier 'a': unknown key 'retry.attemps' .*'attempts'"),
        (tier('url = "s3://b/"\nread = false'), "tier 'a': read belongs to a cache"),
        (tier('url = "s3://b/"\ncache = true\ncache_result = false'), "tier 'a': cache_result belongs to a source"),
        (tier('url = "http://b/"\nheaders = { A = "${NOT_THERE}" }'), "tier 'a': .*variable NOT_THERE is not set"),
        (tier('python = "nowhere.to:be"'), "tier 'a': .*No module named 'nowhere'.*PYTHONPATH"),
        (tier('python = "os:path.nothing"'), "tier 'a': .*nothing"),
        (tier('python = "os.getcwd"'), "tier 'a': .*expected 'package.module:function'"),
        (tier('python = "os:getcwd"'), "tier 'a': expected a store with 'is_valid' and 'get'"),
        (tier('python = "tests.test_config:failing"'), "tier 'a': .*raised KeyError: 'no client'"),
        (tier('python = "tests.test_config:Minimal"\ncache = true'), "tier 'a': .*does not implement 'put'"),
        (tier('python = "tests.test_config:Minimal"\nverify = true'), "tier 'a': verify: Minimal does not have it"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_configuration_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        loads(text, name="t")
    assert str(caught.value).startswith("t")
    assert "secret" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_configuration(tmp_path: Path) -> None:
    text = tier('cache = "memory"')
    path = tmp_path / "bitstore.toml"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert list(load(path).stats()) == list(loads("\ufeff" + text).stats()) == ["a"]
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        load(path)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a folder with an awkward name, both known to the environment."""
    folder = tmp_path / "a {b} 100%"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", str(folder))
    monkeypatch.setenv("NAME", "x")
    monkeypatch.delenv("NOT_SET", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~/blobs", "blobs"),
        ("$DATA/blobs", "a {b} 100%/blobs"),
        ("${DATA}blobs", "a {b} 100%blobs"),
        ("~/$NAME/${NAME}y", "x/xy"),
        ("~/a$$NAME", "a$NAME"),
        ("~/costs 5$", "costs 5$"),
    ],
)
def test_home_and_variables_are_expanded_in_every_path(text: str, path: str, machine: Path) -> None:
    (machine / path).mkdir(parents=True)
    disk = loads(tier(f'cache = "disk"\npath = "{text}"')).sources[0]
    assert isinstance(disk, DiskCache)
    assert disk.folder == machine / path
    limit = loads(tier(f'python = "tests.test_config:Paid"\nlimit = {{ name = "a", state = "{text}" }}')).sources[0]
    assert limit.limit.state == str(machine / path)  # type: ignore[attr-defined]
    bundle = loads(tier(f'url = "https://host/"\nca_bundle = "{text}"')).sources[0]
    assert bundle.base_store.ca_bundle == str(machine / path)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("file://~/files/", "files"),
        ("file:///~/files/{digest[:2]}/{digest}", f"files/{SHA1[:2]}"),
        ("file://$DATA/", "a {b} 100%"),
        ("file://${DATA}/{digest[:2]}/{digest}", f"a {{b}} 100%/{SHA1[:2]}"),
        ("file://~/$NAME/", "x"),
        ("file://~/a$$b/", "a$b"),
    ],
)
def test_home_and_variables_are_expanded_in_file_urls(url: str, folder: str, machine: Path) -> None:
    (machine / folder).mkdir(parents=True, exist_ok=True)
    (machine / folder / SHA1).write_bytes(DATA)
    assert loads(tier(f'url = "{url}"')).get(SHA1) == DATA


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("s3://$NAME/files/", "s3://x/files/"),
        ("s3://b/${NAME}y/", "s3://b/xy/"),
        ("s3://b/$BRACES/{digest}", f"s3://b/a{{b}}/{SHA1}"),
        ("gs://$NAME-b/$NAME/", "gs://x-b/x/"),
        ("s3://b/$$NAME/", "s3://b/$NAME/"),
        ("s3://b/costs5$/", "s3://b/costs5$/"),
        ("http://host/$NAME/", "http://host/$NAME/"),
    ],
)
def test_variables_are_expanded_in_urls_of_buckets(
    url: str, prefix: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRACES", "a{b}")
    assert loads(tier(f'url = "{url}"')).sources[0].url(SHA1) == prefix.removesuffix(SHA1) + SHA1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "lines",
    [
        'url = "s3://$NOT_SET/x/"',
        'url = "gs://b/${NOT_SET}/"',
        'cache = "disk"\npath = "$NOT_SET/blobs"',
        'cache = "disk"\npath = "${NOT_SET}/blobs"',
        'url = "https://host/"\nca_bundle = "$NOT_SET"',
        'url = "file:///$NOT_SET/blobs/"',
        'python = "tests.test_config:Paid"\nlimit = { name = "a", state = "$NOT_SET" }',
    ],
)
def test_a_variable_that_is_not_set_is_named(lines: str, machine: Path) -> None:
    with pytest.raises(ConfigError, match=r"tier 'a': .*environment variable NOT_SET is not set, and .*\$\$ stands"):
        loads(tier(lines))


@pytest.mark.parametrize("lines", ['cache = "disk"\npath = "~nobody-here/x"', 'url = "file://~nobody-here/x/"'])
def test_a_home_that_is_unknown_is_named(lines: str) -> None:
    with pytest.raises(ConfigError, match=r"tier 'a': .*~nobody-here.*whose home"):
        loads(tier(lines))


def test_the_variable_that_names_the_file_may_have_a_home_and_variables(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "x.toml").write_text(tier('cache = "memory"'))
    monkeypatch.setenv("BITSTORE_CONFIG", "~/$NAME.toml")
    assert list(load().stats()) == ["a"]
    monkeypatch.setenv("BITSTORE_CONFIG", "$NOT_SET/x.toml")
    with pytest.raises(ConfigError, match=r"cannot find the configuration: BITSTORE_CONFIG: .*NOT_SET is not set"):
        load()


def test_a_command_line_is_expanded_by_the_shell_alone(machine: Path) -> None:
    folder = machine / "$NAME"
    folder.mkdir()
    (folder / SHA1).write_bytes(DATA)
    store = from_urls([f"file://{folder}/"], algorithm="sha1", cache=str(machine / "$NOT_SET"))
    assert store.get(SHA1) == DATA
    assert (machine / "$NOT_SET").is_dir()
