"""The origin: nginx serving random blobs from this machine, as a bucket in path style would."""

from __future__ import annotations

import getpass
import grp
import hashlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from tests.certificates import Certificate

__all__ = ["LATENCY_SECONDS", "Origin", "find_nginx", "write_blobs"]

LATENCY_SECONDS = 0.03

_HOW_TO_GET_IT = """\
error: the benchmarks need nginx as the server, and there is none on this machine. To get it:
  Debian, Ubuntu: sudo apt-get install nginx libnginx-mod-http-lua
  macOS:          brew install openresty/brew/openresty
(Lua lets it answer with a delay; with an nginx that has no Lua, what needs a delay is left out.)"""

# What clients ask besides blobs: old epic-bitstore lists the buckets to see whether it may do anything.
_LIST_BUCKETS = (
    '<?xml version="1.0"?><ListAllMyBucketsResult><Owner><ID>o</ID></Owner><Buckets/></ListAllMyBucketsResult>'
)
_NO_SUCH_KEY = (
    '<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>'
)

_CONNECTIONS = 8192
_CONFIG = """\
{modules}
{user}
worker_processes {workers}; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections {connections}; }}
http {{
  access_log off; log_not_found off; sendfile on; tcp_nopush off; default_type application/octet-stream;
  keepalive_requests 1000000000; keepalive_timeout 300s;
  open_file_cache max={open_files} inactive=300s; open_file_cache_valid 300s; open_file_cache_errors on;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
{servers}
}}
"""

_SERVER = """\
  server {{
    listen 127.0.0.1:{port} {tls} backlog=4096; root {root};
    {special}
    error_page 404 @missing;
    location = /requests {{ stub_status; }}
    location = / {{ default_type application/xml; return 200 '{buckets}'; }}
    location @missing {{ default_type application/xml; return 404 '{missing}'; }}
    # Cloud Storage's JSON API: media downloads.
    rewrite ^/(?:download/)?storage/v1/b/([^/]+)/o/(.+)$ /$1/$2 last;
  }}
"""


class Origin:
    """A running nginx with a folder of blobs behind it.

    Parameters
    ----------
    folder
        An existing folder for its configuration and its blobs (`<folder>/root/<bucket>/<key>`).

    Attributes
    ----------
    url
        Answers at once.
    slow_url
        Answers after `LATENCY_SECONDS`; None where this nginx cannot do so.
    tls_url
        Answers at once, over TLS, with a certificate of the authority in the file `authority`.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0
        self.url = ""
        self.slow_url: str | None = None
        self.tls_url = ""
        self.authority = folder / "authority.pem"

    def start(self) -> None:
        """Start it and wait until it answers. Raises `RuntimeError` with what nginx says if it does not."""
        nginx = find_nginx()
        modules = _lua(nginx)
        ports = _free_ports(3)
        delay = f"rewrite_by_lua_block {{ ngx.sleep({LATENCY_SECONDS}) }}"
        answers = {"root": self.root, "buckets": _LIST_BUCKETS, "missing": _NO_SUCH_KEY}
        # A worker inherits this limit, and answers 500 where it has no descriptor left for a file.
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files == resource.RLIM_INFINITY:
            files = 1 << 20
        certificate = self._certificate()
        secured = f"ssl_certificate {certificate}; ssl_certificate_key {certificate};"
        servers = [
            _SERVER.format(port=ports[0], tls="", special="", **answers),
            _SERVER.format(port=ports[1], tls="ssl", special=secured, **answers),
        ]
        if modules is not None:
            servers.append(_SERVER.format(port=ports[2], tls="", special=delay, **answers))
        config = self._folder / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                modules=modules or "",
                user=f"user {getpass.getuser()} {grp.getgrgid(os.getgid()).gr_name};" if os.getuid() == 0 else "",
                workers=min(2, os.cpu_count() or 1),
                folder=self._folder,
                connections=_CONNECTIONS,
                open_files=max(1000, min(50_000, files - _CONNECTIONS - 500)),
                servers="".join(servers),
            )
        )
        # Where there are cores enough, none of them is the client's in the case that counts cores.
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        pinned = ["taskset", "-c", ",".join(map(str, cores[2:]))] if len(cores) >= 4 and shutil.which("taskset") else []
        self._process = subprocess.Popen(
            [*pinned, nginx, "-c", str(config), "-p", str(self._folder), "-e", str(self._folder / "error.log")],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the driver, which then stops it
        )
        for port in ports[: len(servers)]:
            self._wait_for(port)
        self.url = f"http://127.0.0.1:{ports[0]}"
        self.tls_url = f"https://127.0.0.1:{ports[1]}"
        self.slow_url = f"http://127.0.0.1:{ports[2]}" if modules is not None else None

    def _certificate(self) -> Path:
        """The file of a new certificate with its key."""
        root = Certificate(None, "authority of the benchmarks", authority=True, identified=True)
        own = Certificate(root, "origin", authority=False, addresses=("127.0.0.1",), identified=True)
        self.authority.write_bytes(root.pem)
        path = self._folder / "origin.pem"
        path.write_bytes(own.with_key())
        return path

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if self._process.poll() is None else 0)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process = None

    def requests(self) -> int:
        """How many requests it has had so far, on both addresses, except those of this method."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/requests", timeout=10) as answer:
            # ... server accepts handled requests / <accepts> <handled> <requests> ...
            told = int(answer.read().split(b"requests")[1].split()[2])
        self._asked += 1
        return told - self._asked

    def _wait_for(self, port: int) -> None:
        assert self._process is not None
        until = time.monotonic() + 10
        while time.monotonic() < until:
            if self._process.poll() is not None:
                assert self._process.stderr is not None
                raise RuntimeError(f"nginx does not start: {self._process.stderr.read().decode(errors='replace')}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)  # nginx gives no sign when it listens
        raise RuntimeError("nginx does not listen")


def find_nginx() -> str:
    """The program to start. Ends this one with a word on how to get it if there is none."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"])
    found = shutil.which("openresty", path=path) or shutil.which("nginx", path=path)
    if found is None:
        raise SystemExit(_HOW_TO_GET_IT)
    return found


def _lua(nginx: str) -> str | None:
    """The directives that load Lua: none needed where it is built in; None where it is not to be had."""
    told = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=True).stderr
    if "openresty" in told:
        return ""
    match = re.search(r"--modules-path=(\S+)", told)
    places = [Path(match[1])] if match else []
    for place in [*places, Path("/usr/lib/nginx/modules"), Path("/usr/lib64/nginx/modules")]:
        if (place / "ngx_http_lua_module.so").exists():
            names = ("ndk_http_module.so", "ngx_http_lua_module.so")
            return "\n".join(f"load_module {place / name};" for name in names if (place / name).exists())
    return None


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in held]
    finally:
        for each in held:
            each.close()


def write_blobs(folder: Path, *, count: int, size: int, suffix: str = "") -> list[str]:
    """Write `count` random blobs of `size` bytes, each under its SHA-1 and `suffix`. Returns the digests."""
    folder.mkdir(parents=True, exist_ok=True)
    digests = []
    for _ in range(count):
        data = os.urandom(size)
        digest = hashlib.sha1(data).hexdigest()
        (folder / f"{digest}{suffix}").write_bytes(data)
        digests.append(digest)
    return digests
