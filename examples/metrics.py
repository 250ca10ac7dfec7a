"""A single process with metrics for Prometheus: it fetches the digests of its standard input, and serves `/metrics`.

    python examples/metrics.py bitstore.toml 9100 < hashes.txt

The Grafana dashboard of the package shows them (docs/observability.md).
"""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bitstore.config import load
from bitstore.observe import LatencyHistogram

if len(sys.argv) != 3:
    sys.exit(__doc__)
store = load(sys.argv[1])
latency = LatencyHistogram()
store.on_answer = latency


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = store.stats().prometheus(store="example") + latency.prometheus(store="example")
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Metrics)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"metrics at http://127.0.0.1:{server.server_port}/metrics", flush=True)

for blob in store.get_many(line.strip() for line in sys.stdin):
    print(blob.uri, blob.source or blob.error, flush=True)
