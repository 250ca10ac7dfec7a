"""Fixtures: real servers, shared by a test session and started when first asked for; buckets of a test's own."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from hypothesis import HealthCheck, settings

from bitstore._support import once
from tests.cli_scene import Scene
from tests.clock import SkippingClock
from tests.servers import CountedAPI, FakeGCS, FaultProxy, MakeProxy, MotoServer, SeaweedS3

# Whatever is set up for the user of this machine (keys, proxies, clusters, caches) must not reach them.
_PERSONAL = re.compile(
    r"AWS_|GOOGLE_|GCLOUD_|GCE_|CLOUDSDK_|STORAGE_EMULATOR_HOST|BOTO|BITSTORE_(?!SOAK_|FUZZ_|NATIVE$)|RAY_|XDG_|((http|https|all|no|ftp)_proxy$)",
    re.IGNORECASE,
)
# Seconds of files that take longer than their number of tests lets expect, alone on a machine of two cores.
_LONG = {
    "test_disk_crash.py": 50, "test_conformance.py": 45, "test_old_code.py": 30, "test_disk_trouble.py": 25,
    "test_large_blobs.py": 25, "test_transport_endings.py": 25, "test_cli_endings.py": 20, "test_fault_matrix.py": 20,
    "test_misses.py": 20, "test_native_build.py": 20, "test_native_choice.py": 20, "test_packs.py": 20,
    "test_runs.py": 20, "test_warm.py": 20, "test_cli.py": 15, "test_cli_put.py": 15, "test_cli_verify.py": 15,
    "test_express.py": 15, "test_membership.py": 15, "test_odd_servers.py": 15, "test_hash_lists.py": 10,
    "test_hostile.py": 10, "test_import.py": 10, "test_limits.py": 10, "test_model_processes.py": 10,
    "test_models.py": 10, "test_no_home.py": 10, "test_report_page.py": 10,
}  # fmt: skip
_HOME = pytest.StashKey[str]()
_RAY = pytest.StashKey["tuple[contextlib.ExitStack, Any]"]()

# For the long suite: `pytest tests/test_models.py --hypothesis-profile=soak`.
settings.register_profile(
    "soak",
    max_examples=3000,
    stateful_step_count=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


def pytest_configure(config: pytest.Config) -> None:
    """Clean the environment of this process, and so of every process that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background jobs: they would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in list(os.environ):
        if _PERSONAL.match(name):
            del os.environ[name]
    # Where Python may keep no compiled code (as in images of containers), each of the thousand processes of a run would
    # compile this library again, and each worker all tests.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if getattr(config.option, "maxworkerrestart", "") is None:
        # A test that exceeds its time limit ends its worker. xdist 3.8 starts another, sends it tests that are done,
        # and waits for them for ever (its issues 1323, 1327). Without another the run ends, and names the test.
        config.option.maxworkerrestart = "0"
    home = tempfile.mkdtemp(prefix="bitstore-home-")
    config.stash[_HOME] = home
    os.environ.update(
        HOME=home,
        AWS_CONFIG_FILE=f"{home}/aws-config",
        AWS_SHARED_CREDENTIALS_FILE=f"{home}/aws-credentials",
        # No test asks a cloud's metadata address for an identity: it may not exist, or exist and answer.
        AWS_EC2_METADATA_DISABLED="true",
        NO_GCE_CHECK="true",
        GCE_METADATA_HOST="127.0.0.1:9",
        GCE_METADATA_IP="127.0.0.1:9",
        GCE_METADATA_ROOT="127.0.0.1:9",
        RAY_USAGE_STATS_ENABLED="0",
        # Else older releases of Ray give a tip at their start, as a FutureWarning, and that is an error in some tests.
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
        # Ray 2.60 starts 32 processes for each `read_parquet`, to read footers of files; the tests have one file.
        RAY_DATA_PARQUET_FOOTER_NUM_ACTORS="1",
    )
    _share_models_of_botocore()


def _share_models_of_botocore() -> None:
    """Let all sessions of botocore share its descriptions of services: a session takes 0.1 seconds to read them."""
    module: Any = botocore.session
    create, read = module.create_loader, defaultdict[str | None, dict[Any, Any]](dict)

    def sharing(paths: str | None = None) -> Any:
        loader = create(paths)
        loader._cache = read[paths]
        return loader

    module.create_loader = sharing


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_HOME], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a Ray come first and together, then the other files, those that take longest first.

    A file that takes long and begins late is waited for by all workers. Files that start a Ray alternate with others,
    so that few run at once. A test is called alike in every process, or xdist runs none.
    """
    for item in items:
        if re.search(r"\bat 0x[0-9a-f]+", item.nodeid, re.IGNORECASE):
            raise pytest.UsageError(f"the id of a test holds the address of an object: {item.nodeid}")
    seconds: defaultdict[Path, float] = defaultdict(float)
    starts_ray = set()
    for item in items:
        ray = item.get_closest_marker("ray") and not _shares_ray(item)
        seconds[item.path] += 5 if ray else 0.1
        starts_ray |= {item.path} if ray else set()
    longest = sorted(seconds, key=lambda path: (-max(seconds[path], _LONG.get(path.name, 0)), path))
    pairs = zip_longest((p for p in longest if p not in starts_ray), (p for p in longest if p in starts_ray))
    rank = {path: number for number, path in enumerate(chain.from_iterable(pairs))}
    items.sort(key=lambda item: (not _shares_ray(item), rank[item.path]))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from what stays, as tests and modules do: there it finds nothing in 0.1 seconds."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files whose tests share a Ray go to one worker, but for the longest; of all others, each goes to any.

    In one worker they take longer than all other tests in two. Files begin in the order of `items`, above; else those
    of the most tests would.
    """
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    shared = {path.name for path in Path(__file__).parent.glob("test_*.py") if "shared_ray" in path.read_text()}

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return "tests that share a Ray" if Path(file).name in shared - {"test_ray_looks.py"} else file

        def _assign_work_unit(self, node: Any) -> None:
            # A worker may die while it is sent more: the report of its death follows, and names the test.
            with contextlib.suppress(OSError):
                super()._assign_work_unit(node)

    config.option.loadscopereorder = False
    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def _shares_ray(item: pytest.Item | None) -> bool:
    return "shared_ray" in getattr(item, "fixturenames", ())


@pytest.fixture
def shared_ray(request: pytest.FixtureRequest) -> Any:
    """A Ray with two CPUs for all tests that ask for it, one after the other; what `ray.init` returned."""
    stash = request.config.stash
    if _RAY not in stash:
        from tests.ray_cluster import local_ray

        stack = contextlib.ExitStack()
        stash[_RAY] = stack, stack.enter_context(local_ray())
    return stash[_RAY][1]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the shared Ray after the last test that asks for it: others must not find one in their process."""
    if _RAY in item.config.stash and not _shares_ray(nextitem):
        item.config.stash[_RAY][0].close()
        del item.config.stash[_RAY]


@pytest.fixture(autouse=True)
def nothing_warned_of() -> Iterator[None]:
    """Warnings that a test before this one has caused are given again: a process gives each only once.

    And no handler of a test outlives it: records have errors, whose tracebacks keep stores and threads of later tests.
    """
    once.given.clear()
    logger = logging.getLogger("bitstore")
    handlers = list(logger.handlers)
    yield
    logger.handlers[:] = handlers


@pytest.fixture
def skipped_pauses(monkeypatch: pytest.MonkeyPatch) -> SkippingClock:
    """Pauses of back-off, patience and breakers take no time."""
    return SkippingClock(monkeypatch)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Scene:
    """The current folder, with stores and configurations, and the command."""
    return Scene(tmp_path, monkeypatch, capfd)


@pytest.fixture(scope="session")
def s3() -> Iterator[SeaweedS3]:
    """An S3 server that checks signatures."""
    with SeaweedS3() as server:
        yield server


@pytest.fixture(scope="session")
def gcs() -> Iterator[FakeGCS]:
    """A GCS server (it checks no credentials)."""
    with FakeGCS() as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    """A second S3 server, which lets everybody do everything."""
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="session")
def moto_auth() -> Iterator[MotoServer]:
    """A second S3 server, with users and policies."""
    with MotoServer(auth=True) as server:
        yield server


@pytest.fixture
def bucket(s3: SeaweedS3) -> str:
    """A fresh, empty S3 bucket."""
    return s3.create_bucket()


@pytest.fixture(scope="session")
def shared_bucket(s3: SeaweedS3) -> str:
    """A bucket of all tests that choose names of their own: each takes volumes of the server, which has not many."""
    return s3.create_bucket()


@pytest.fixture
def public_bucket(s3: SeaweedS3) -> str:
    """A fresh, empty S3 bucket that anybody may read."""
    return s3.create_bucket(public=True)


@pytest.fixture
def gcs_bucket(gcs: FakeGCS) -> str:
    """A fresh, empty GCS bucket."""
    return gcs.create_bucket()


@pytest.fixture
def web_folder(moto: MotoServer) -> str:
    """The URL of an S3 bucket that anybody may write to: PUT, HEAD and preconditions of plain HTTP."""
    bucket = moto.create_bucket()
    moto.client().put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    allow = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject", "s3:PutObject"],
        "Resource": [f"arn:aws:s3:::{bucket}/*"],
    }
    moto.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
    return f"{moto.endpoint_url}/{bucket}"


@pytest.fixture
def fault_proxy() -> Iterator[MakeProxy]:
    """Makes proxies: `fault_proxy(s3.endpoint_url)`."""
    with contextlib.ExitStack() as stack:
        yield lambda target: stack.enter_context(FaultProxy(target))


@pytest.fixture
def api() -> Iterator[CountedAPI]:
    """A pretend API that counts its calls."""
    with CountedAPI() as server:
        yield server


@pytest.fixture
def aws_env(s3: SeaweedS3, monkeypatch: pytest.MonkeyPatch) -> SeaweedS3:
    """Make the default session of boto3 mean the S3 server, as its administrator."""
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return s3


@pytest.fixture
def gcs_env(gcs: FakeGCS, monkeypatch: pytest.MonkeyPatch) -> FakeGCS:
    """Make Google's default client mean the GCS server."""
    for name, value in gcs.environment().items():
        monkeypatch.setenv(name, value)
    return gcs


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users can reach, which those of pytest are not."""
    path = Path(tempfile.mkdtemp(prefix="bitstore-test-"))
    path.chmod(0o755)
    yield path
    for entry in [path, *path.rglob("*")]:
        if entry.is_dir() and not entry.is_symlink():
            entry.chmod(0o700)
    shutil.rmtree(path)
