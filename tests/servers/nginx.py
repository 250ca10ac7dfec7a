"""nginx with WebDAV: a web server to write to, and a cache for Bazel as its documentation describes it."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import ClassVar

from tests.servers.process import ProgramServer, free_ports

__all__ = ["Nginx"]

_CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
  access_log off; client_max_body_size 0;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port}; root {folder}/files;
    location / {{ dav_methods PUT; create_full_put_path on; add_header X-Folder {folder} always; }}
  }}
}}
"""


class Nginx(ProgramServer):
    """One nginx that anybody may write to."""

    name: ClassVar[str] = "nginx"

    def __init__(self) -> None:
        super().__init__()
        self._port = 0

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def files(self) -> Path:
        """The folder that it serves."""
        return self.folder / "files"

    def _command(self) -> list[str]:
        (self._port,) = free_ports(1)
        self.files.mkdir(exist_ok=True)
        self.folder.chmod(0o755)
        configuration = self.folder / "nginx.conf"
        configuration.write_text(_CONFIGURATION.format(folder=self.folder, port=self._port))
        return ["nginx", "-p", str(self.folder), "-c", str(configuration)]

    def _is_ready(self) -> bool:
        (self.files / "ready").touch()
        with urllib.request.urlopen(f"{self.url}/ready", timeout=10) as answer:
            return bool(answer.headers["X-Folder"] == str(self.folder))
