"""Exit codes keep their word: 1 means that something is missing, damaged or no digest, whatever else goes wrong."""

from __future__ import annotations

import hashlib
import shlex
import socketserver
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bitstore.config import load
from tests.cli_scene import here

COMMAND = [sys.executable, "-m", "bitstore"]
BODY = b"a blob"
DIGEST = hashlib.sha1(BODY).hexdigest()
ABSENT = "0" * 40


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a shelf, a configuration, lists, and a cache of which a file is damaged."""
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / DIGEST).write_bytes(BODY)
    (tmp_path / "list").write_text(f"{DIGEST}\n")
    (tmp_path / "more").write_text(f"{DIGEST}\n{ABSENT}\n")
    (tmp_path / "b.toml").write_text(
        f'algorithm = "sha1"\n[[tier]]\nname = "disk"\ncache = "disk"\npath = "cache"\n[[tier]]\nname = "shelf"\n'
        f'url = "{(tmp_path / "shelf").as_uri()}/"\n'
    )
    assert load(tmp_path / "b.toml").get(DIGEST) == BODY
    return tmp_path


def shell(place: Path, line: str) -> tuple[int, bytes, str]:
    """Exit code, standard output and standard error of a line of bash, in which `bitstore` is the command."""
    line = line.replace("bitstore ", f"{sys.executable} -m bitstore ", 1)
    done = subprocess.run(["bash", "-c", line], cwd=place, capture_output=True, timeout=120, check=False)
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr.decode()


LOST = ["2>&-", "2>/dev/full", "0<&- 1>&- 2> >(true)"]
RUNS = [
    *((f"get {DIGEST} -o one --config b.toml", 0, lost) for lost in LOST),
    *((f"get {ABSENT} -o one --config b.toml", 1, lost) for lost in LOST),
    *(("nonsense", 3, lost) for lost in LOST),
    ("fetch list -o out --config b.toml", 0, LOST[0]),
    ("fetch more -o out --config b.toml", 1, LOST[1]),
    ("fetch list -o out.parquet --existing replace --config b.toml", 0, LOST[2]),
    ("warm list --config b.toml", 0, LOST[0]),
    ("warm more --config b.toml", 1, LOST[1]),
    ("fetch list --nonsense", 3, LOST[2]),
]


@pytest.mark.parametrize(("command", "code", "lost"), RUNS)
def test_lost_messages_change_no_exit_code(place: Path, command: str, code: int, lost: str) -> None:
    assert shell(place, f"bitstore {command} {lost}")[0] == code
    if code == 0 and command.startswith("get"):
        assert (place / "one").read_bytes() == BODY  # and no message is in the file that got the free descriptor
    if code == 0 and "-o out " in command:
        assert (place / "out" / DIGEST).read_bytes() == BODY


@pytest.mark.parametrize("command", ["--version", "fetch --help", "cache stats cache"])
def test_a_full_standard_output_is_a_failure(place: Path, command: str) -> None:
    code, _, err = shell(place, f"bitstore {command} >/dev/full")
    assert (code, err) == (2, "bitstore: cannot write to standard output: No space left on device\n")
    assert shell(place, f"bitstore {command} >/dev/full 2>/dev/full")[0] == 2
    assert shell(place, f"(trap '' PIPE; bitstore {command}; echo $? >code) | true")[0] == 0
    assert (place / "code").read_text() in ("141\n", "0\n")  # the reader may be quick, or late


def test_damage_exits_with_1_and_an_unreadable_folder_does_not(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    (blob,) = (path for path in (place / "cache").rglob(DIGEST) if path.is_file())
    blob.write_bytes(b"damage")
    assert here(monkeypatch, capfd, "cache", "verify", "cache")[0] == 1
    assert here(monkeypatch, capfd, "cache", "verify", "cache")[0] == 0
    (place / "cache/sha1").rename(place / "elsewhere")
    (place / "cache/sha1").symlink_to("sha1")
    code, _, err = here(monkeypatch, capfd, "get", DIGEST, "--config", "b.toml")
    assert code in (0, 2), err


LONG = "n" * 256
BAD = [
    f"get {DIGEST} --timeout nan",
    f"get {DIGEST} --timeout inf",
    f"get {DIGEST} --timeout 0",
    f"get {DIGEST} -o ''",
    f"get {DIGEST} -o {LONG}",
    f"get {DIGEST} -o list/below",
    f"get {DIGEST} -o new/",
    f"get {DIGEST} -o none/below",
    "get ''",
    "get '\\udcff\\n'",
    f"get {DIGEST[:-1]}",
    f"get {DIGEST} {DIGEST}",
    f"get {DIGEST} -o",
    "fetch",
    "fetch list",
    "fetch list -o ''",
    "fetch list -o -",
    "fetch '' -o out",
    "fetch list -o list",
    f"fetch list -o {LONG}",
    f"fetch {LONG} -o out",
    "fetch -o out --retry ''",
    "fetch list -o out --fan-out 9",
    "fetch list -o out --in-flight 0",
    "fetch list -o out --in-flight x",
    "fetch list -o out --timeout nan",
    "fetch list -o out --max-failures -1",
    "fetch list -o out --existing keep",
    "fetch list -o out --algorithm sha1",
    "fetch list -o list/x.parquet",
    "fetch b.toml -o out",
    "warm",
    "warm b.toml",
    "warm list --timeout inf",
    "warm list --ledger ''",
    "warm list --ledger shelf",
    f"warm list --ledger {LONG}",
    "warm list --dry-run --ledger list",
    "warm list --dry-run --ledger shelf",
    "warm list --ray nowhere:1 --target everywhere",
]


OTHER_BAD = [
    "",
    "nonsense",
    "--nonsense",
    "demo --blobs x",
    "demo --blobs 1",
    "version more",
    "cache",
    "cache nonsense",
    "cache stats",
    "cache stats none",
    "cache stats list",
    "cache stats ''",
    f"cache stats {LONG}",
    "cache verify shelf",
    "cache prune cache",
    "cache prune cache --max-size ''",
    "cache prune cache --max-size -1",
    "cache clear cache",
    "cache clear shelf --yes",
    f"get {DIGEST} --store ''",
    f"get {DIGEST} --store file://none",
    f"get {DIGEST} --store 'file:///x/{{digest'",
    f"get {DIGEST} --store file:///x/ --cache ''",
    f"get {DIGEST} --store file:///x/ --cache list",
    f"get {DIGEST} --store file:///x/ --cache {LONG}",
    f"get {DIGEST} --store file:///x/ --compression none",
    f"get {DIGEST} --store file:///x/ --anonymous",
    f"get {DIGEST} --config shelf",
    f"get {DIGEST} --config {LONG}",
    f"get {DIGEST} --config ''",
    "fetch list -o out --store file:///x/ --algorithm sha3",
    "fetch list -o out --store file:///x/ --cache ''",
]


# Ray itself would wait for minutes until something answers there.
ADDRESSES = {
    "127.0.0.1:1": "--ray 127.0.0.1:1: nothing answers at 127.0.0.1:1",
    "nowhere.invalid:1": "give the head's address, as in HOST:6379",
    "[::1]:99999": "nothing answers at [::1]:99999",
    "ray://127.0.0.1:10001": "node pools do not work over Ray Client",
    "http://127.0.0.1:8265": "http:// is how Ray's dashboard is reached: give the head's address, as in HOST:6379",
}

NAMED = [
    ("get abc --store file:///x/", "'abc' is no digest of sha1, sha256, md5"),
    (f"get {DIGEST} --store ftp://x/", "its scheme is unknown"),
    (f"get {DIGEST}", "bitstore: no configuration found"),
    (f"get {DIGEST}", "names no other file; `bitstore init` writes one, and --store URL does without"),
    (f"get {DIGEST} --config gone.toml", "cannot read the configuration gone.toml"),
    (f"get {DIGEST} --config a.toml --store file:///x/", "exclude each other"),
    (f"get {DIGEST} --cache x", "--cache goes with --store"),
    (f"get {DIGEST} --store file:///x/ -o .", "is a folder"),
    (f"get {DIGEST} --store file:///x/ --cache /dev/null", "/dev/null"),
    (f"get {DIGEST} --store file:///x/ -o no/blob", "no/blob cannot be written: there is no folder no"),
    (f"get {DIGEST} --store gs://b/ --region r", "--region is for s3:// URLs, and --store names none: gs://b/"),
    (f"get {DIGEST} --store gs://b/ --profile p", "--profile is for s3:// URLs, and --store names none: gs://b/"),
    (f"get {DIGEST} --store file:///x/ --anonymous", "--anonymous is for s3:// and gs:// URLs, and --store names none"),
    (f"get {DIGEST} --store https://u:word@h/ --endpoint-url http://h", "--store names none: https://***@h/"),
    (
        f"get {DIGEST} --store s3://b/ --store gs://b/ --endpoint-url http://h",
        "and --store names s3 and gs buckets",
    ),
    (
        f"get {DIGEST} --store s3://b/ --endpoint-url h:9000",
        "endpoint_url must look like",
    ),
    (f"get {DIGEST} --store s3://b/ --profile p --anonymous", "profile and anonymous exclude each other"),
    (f"get {DIGEST} --store s3://b/ --region ''", "--region is empty"),
    (f"get {DIGEST} --region r --config b.toml", "--region goes with --store"),
    (f"get {DIGEST} --nonsense", "No such option"),
    ("get", "Missing argument"),
    ("warm list --target owner --config b.toml", "--target owner goes with --ray"),
    ("warm list --ray local --target here --config b.toml", "--target here: choose one of shared, owner, local"),
    (
        "warm list --ray local --target shared --config b.toml",
        "fills each cache that all nodes share, and the store has none",
    ),
    *(
        (f"warm list --store file:///x/ --cache new --target owner --ray {ray}", said)
        for ray, said in ADDRESSES.items()
    ),
    *((f"cluster {ray}", said.replace("--ray", "cluster")) for ray, said in ADDRESSES.items()),
    ("cluster ''", "the address is empty"),
    ("cluster local", "local is no cluster that could be shown"),
    ("cluster --yes", "--yes goes with --end or --end-unused"),
    ("cluster --dry-run", "--dry-run goes with --end or --end-unused"),
    ("cluster --end-unused soon", "--end-unused='soon': give seconds as a number above 0, or a text like '30 days'"),
    ("warm list --ledger list --config b.toml", "is a file: a ledger is a folder"),
    ("warm list --column sha1 --config b.toml", "is no table with a header"),
]


@pytest.mark.parametrize("kind", ["silent", "closes", "web"])
def test_an_address_at_which_something_else_answers_is_refused(
    kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bitstore._cli.ray_address._REACH", 0.5 if kind == "silent" else 10.0)

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            if kind == "web":
                self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            elif kind == "silent":
                self.request.recv(1)  # until the other side has ended

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        code, out, err = here(monkeypatch, capfd, "cluster", address)
        server.shutdown()
    said = "nothing answers at" if kind == "silent" else "what answers at"
    assert (code, out) == (3, "")
    assert f"bitstore: cluster {address}: {said} {address}" in err
    assert "give the head's address, as in HOST:6379" in err


@pytest.mark.parametrize(
    ("line", "said"), [*((f"{line} --config b.toml", "") for line in BAD), *((line, "") for line in OTHER_BAD), *NAMED]
)
def test_bad_arguments_are_refused(
    place: Path, line: str, said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.iterdir())
    code, out, err = here(monkeypatch, capfd, *shlex.split(line))
    assert (code, out) == (3, ""), err
    assert err and said in err
    assert sorted(place.iterdir()) == before


def test_a_list_from_standard_input_that_is_closed_is_refused(place: Path) -> None:
    code, _, err = shell(place, "bitstore fetch - -o out --config b.toml 0<&-")
    assert (code, err) == (3, "bitstore: standard input is closed: name a file that holds the list\n")


@pytest.mark.parametrize(
    "line",
    [
        "--version",
        "show --config b.toml",
        "check --config b.toml",
        f"locate {DIGEST} --config b.toml",
        "exists list --config b.toml",
        "put list --config b.toml",
        "fetch list -o out --config b.toml --json",
        "cache stats cache",
    ],
)
def test_results_for_a_closed_standard_output_are_a_failure_and_never_lost_in_silence(place: Path, line: str) -> None:
    (place / "list").write_text(f"{DIGEST}\n")
    code, _, err = shell(place, f"bitstore {line} >&-")
    assert code in (2, 3) and "standard output" in err and "closed" in err, (code, err)


MODULES = {
    "exits at import": "import sys\nsys.exit(1)",
    "is no Python": "def Mine(:",
    "exits when made": "import sys\ndef Mine(): sys.exit(0)",
    "fails at import": "1 / 0",
    "is no store": "Mine = 5",
    "fails when made": "class Mine:\n  def __init__(self): raise KeyError('no')",
    "exits": "import sys\nfrom bitstore import Store\nclass Mine(Store):\n  def is_valid(self, uri): return True\n"
    "  def get(self, uri): sys.exit(1)",
    "is_valid fails": "from bitstore import Store\nclass Mine(Store):\n  def is_valid(self, uri): return 1 / 0\n"
    "  def get(self, uri): return b''",
    "gives text": "from bitstore import Store\nclass Mine(Store):\n  def is_valid(self, uri): return True\n"
    "  def get(self, uri): return 'text'",
}


def test_a_folder_that_was_deleted_is_named(place: Path) -> None:
    line = f"bitstore get {DIGEST} --store {(place / 'shelf').as_uri()}/ --cache cache"
    code, _, err = shell(place, f"mkdir gone; cd gone; rmdir ../gone; {line}")
    assert (code, err) == (3, "bitstore: the current folder cannot be found: No such file or directory\n")


@pytest.mark.parametrize(("name", "closed"), [("/dev/stdout", ">&-"), ("/dev/stderr", "2>&-"), ("/dev/fd/9", "")])
def test_a_blob_for_a_closed_descriptor_is_a_failure(place: Path, name: str, closed: str) -> None:
    assert shell(place, f"bitstore get {DIGEST} --config b.toml -o {name} {closed}")[0] == 2


@pytest.mark.parametrize("kind", list(MODULES))
@pytest.mark.parametrize("command", [f"get {DIGEST} -o one", "fetch list -o out", "warm list"])
def test_a_store_of_the_users_own_that_misbehaves_is_no_absence(
    place: Path, kind: str, command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (place / "mine.py").write_text(MODULES[kind])
    (place / "m.toml").write_text(
        'algorithm = "sha1"\n[[tier]]\nname = "disk"\ncache = "disk"\npath = "cache"\n'
        '[[tier]]\nname = "mine"\npython = "mine:Mine"\n'
    )
    for blob in (place / "cache").rglob(DIGEST):
        blob.unlink()
    code, _, err = here(monkeypatch, capfd, *command.split(), "--config", "m.toml")
    if "from bitstore" in MODULES[kind]:  # the store can be made, and what it answers is unknown
        assert code == 2, err
    else:
        assert code == 3 and "m.toml: tier 'mine': " in err, err


@pytest.mark.parametrize(
    ("package", "line", "code"),
    [
        ("typer", "--version", 3),
        ("msgspec", "version", 3),
        ("pyarrow", f"get {DIGEST} -o one", 0),
        ("tqdm", "fetch list -o out", 0),
        ("pyarrow", "fetch list -o out", 0),
        ("pyarrow", "fetch list -o x.parquet", 3),
        ("ray", "warm list", 0),
        ("pyarrow", "warm list --ledger l", 3),
        ("ray", "warm list --ray local --target local", 3),
        ("boto3", f"get {ABSENT} --config s3.toml", 2),
        ("google", f"get {ABSENT} --config gs.toml", 2),
    ],
)
def test_a_package_that_is_not_installed_is_named(place: Path, package: str, line: str, code: int) -> None:
    for scheme in ("s3", "gs"):
        (place / f"{scheme}.toml").write_text(f'algorithm = "sha1"\n[[tier]]\nname = "b"\nurl = "{scheme}://b/"\n')
    program = f"import sys; sys.modules[{package!r}] = None; from bitstore._cli import main; sys.exit(main())"
    args = line.split() + ([] if "--config" in line or "version" in line else ["--config", "b.toml"])
    done = subprocess.run(
        [sys.executable, "-c", program, *args], cwd=place, capture_output=True, timeout=120, check=False
    )
    err = done.stderr.decode()
    assert "Traceback" not in err
    assert done.returncode == code, err
    assert package in err or code == 0


STUCK = """
import signal, threading
from bitstore import Store

class Stuck(Store):
    def is_valid(self, uri):
        return True

    def get(self, uri):
        # Delivered to this thread: the main thread's wait is not interrupted, as if the signal came just before it.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        threading.Event().wait()
"""


@pytest.mark.parametrize(
    "args",
    [f"get {DIGEST}", f"get {DIGEST} --timeout 500", "fetch list -o out", "warm list"],
)
def test_interrupt_ends_a_command_that_waits_with_130(place: Path, args: str) -> None:
    (place / "stuck.py").write_text(STUCK)
    (place / "s.toml").write_text(
        'algorithm = "sha1"\n[[tier]]\nname = "disk"\ncache = "disk"\npath = "other"\n'
        '[[tier]]\nname = "stuck"\npython = "stuck:Stuck"\n'
    )
    assert shell(place, f"bitstore {args} --config s.toml")[0] == 130
