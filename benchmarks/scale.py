"""A billion hashes on a hundred and on a thousand nodes, worked out from what was measured on one machine.

`python -m benchmarks.scale` prints the tables of `docs/cluster.md`. Nothing here is measured; every number that goes in
stands in `Units` with where it comes from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.simulation import FIGURES

__all__ = ["Cluster", "Units", "report"]


@dataclass(frozen=True)
class Units:
    """What one of each costs.

    Attributes
    ----------
    blobs, blob_bytes
        The job.
    rows_per_second
        Rows through one map actor and one node store, two cores: half of the 10,000 to 13,000 that came out with a
        store that only makes bytes (2 busy cores, 16 KB), for the 52 µs of CPU that a real lookup takes besides.
    call_seconds
        One call of an actor, however small.
    call_digests
        Most digests in one call (`ray_integration._fetch.router`).
    batch
        Rows of a batch; with 16 KB blobs two batches of this size make a block of Ray Data.
    block_cpu
        CPU seconds of the driver for a block that is read and passes one actor stage (mean of 2,000 small ones).
    block_memory
        Bytes by which the driver grows for each such block (from 240.7 MB after 400 to 244.7 MB after 2,400).
    node_record
        Bytes of one entry of `ray.nodes()`, as JSON.
    refresh, refresh_per_node
        Seconds between two looks of a map actor at the list of nodes: at least, and for each node (`members.py`).
    keeper
        Seconds between two looks of the pool's keeper.
    s3_get, s3_put, s3_month, gcs_get
        Dollars for a request, and for a GB and month: list prices, S3 Standard in us-east-1 and GCS Standard in one
        region, as known in 2025. Traffic inside the region is free.
    egress
        Dollars a GB to the Internet or another cloud, first 10 TB.
    bucket_rate
        GETs a second that S3 promises for each partition of its keys.
    digest_bytes
        Of a SHA-1, as a warming puts it aside: in the list, among those of the ledger, and in what is left of them.
    metric_series
        Time series of one process and tier: 15 counters, a gauge, a histogram of 13 buckets with sum and count.
    node_series
        Time series of one process besides: 3 places of bytes, requests, hand-over in seconds and bytes, peer, memory.
    tiers
        Of the composite.
    """

    blobs: int = 10**9
    blob_bytes: int = 16_384
    rows_per_second: float = 5_000
    call_seconds: float = 0.0015
    call_digests: int = 4096
    batch: int = 4096
    block_cpu: float = 0.0084
    block_memory: int = 2_000
    node_record: int = 822
    refresh: float = 2.0
    refresh_per_node: float = 0.04
    keeper: float = 2.0
    s3_get: float = 0.0004 / 1000
    s3_put: float = 0.005 / 1000
    s3_month: float = 0.023
    gcs_get: float = 0.0004 / 1000
    egress: float = 0.09
    bucket_rate: int = 5_500
    digest_bytes: int = 60
    metric_series: int = 31
    node_series: int = 8
    tiers: int = 4


class Cluster:
    """The job on so many nodes, each with one map actor and one node store."""

    def __init__(self, nodes: int, units: Units) -> None:
        self.nodes = nodes
        self.units = units
        self.bytes = units.blobs * units.blob_bytes
        self.rate = nodes * units.rows_per_second
        self.hours = units.blobs / self.rate / 3600
        self.partitions = math.ceil(self.rate / units.bucket_rate)
        self.blocks = units.blobs // (2 * units.batch)
        # Each block is put together from what one batch, or two, gave.
        self.driver_rate = 2 * units.batch / units.block_cpu
        self.refresh = max(units.refresh, units.refresh_per_node * nodes)

    def digests_per_call(self, batch: int) -> float:
        """With `routing="owner"`: a batch is spread over all nodes."""
        return max(1.0, min(self.units.call_digests, batch / self.nodes))

    def owner_rate(self, batch: int, route: float) -> float:
        """Rows a second of one map actor, whose time goes to calls and to finding owners (`route` seconds a digest)."""
        row = 1 / self.units.rows_per_second + self.units.call_seconds / self.digests_per_call(batch) + route
        return 1 / row

    def poll(self, period: float) -> float:
        """Bytes a second that the head sends when every map actor asks for the list of nodes once in `period`."""
        return self.nodes / period * self.nodes * self.units.node_record

    def lookups(self, routing: str) -> int:
        """Names of actors that the head is asked for at the start of a job."""
        return self.nodes * (self.nodes if routing == "owner" else 1)


def report() -> Iterator[str]:
    """The lines of the tables."""
    units = Units()
    small, large = Cluster(100, units), Cluster(1000, units)
    both = (small, large)
    routing = {row["nodes"]: row["microseconds"] for row in json.loads(FIGURES.read_text())["cost"]}

    def row(name: str, *cells: str) -> str:
        return f"| {name} | {' | '.join(cells)} |"

    def same(text: str) -> tuple[str, str]:
        return text, text

    terabytes = small.bytes / 1e12
    yield f"| 10⁹ blobs of 16 KB ({terabytes:.1f} TB) | 100 nodes | 1,000 nodes |"
    yield "| --- | ---: | ---: |"
    yield row("GETs upstream, each blob once", *same(f"{units.blobs:,}"))
    yield row("… at S3's or GCS's list price", *same(f"${units.blobs * units.s3_get:,.0f}"))
    yield row("PUTs, if all of it goes into a shared cache", *same(f"${units.blobs * units.s3_put:,.0f}"))
    yield row("… and a month of keeping it there", *same(f"${small.bytes / 1e9 * units.s3_month:,.0f}"))
    yield row("Traffic out of a region, if the bucket is elsewhere", *same(f"${small.bytes / 1e9 * units.egress:,.0f}"))
    yield row("Rows a second, by the nodes' CPU", *(f"{each.rate:,.0f}" for each in both))
    yield row("Hours, by the nodes' CPU", *(f"{each.hours:.2f}" for each in both))
    yield row("Network of a node", *same(f"{units.rows_per_second * units.blob_bytes * 8 / 1e9:.2f} Gbit/s"))
    yield row("Disk of a node, all kept once (`owner`)", *(f"{each.bytes / each.nodes / 1e9:,.0f} GB" for each in both))
    yield row('Disk of a node, all kept on each (`warm(target="local")`)', *same(f"{terabytes:.1f} TB"))
    yield row("**Bucket**: partitions of its keys that this rate needs", *(f"{each.partitions:,}" for each in both))
    unsplit = units.blobs / units.bucket_rate / 3600
    yield row("… hours if it has one partition", *same(f"{unsplit:.0f}"))
    yield row("… hours if it has 256", *(f"{max(unsplit / 256, each.hours):.2f}" for each in both))
    yield row("**Ray Data's driver**: blocks", *same(f"{small.blocks:,}"))
    yield row("… its memory for them", *same(f"{small.blocks * units.block_memory / 1e6:,.0f} MB"))
    yield row("… its CPU, by what the nodes could do", *(f"{each.rate / each.driver_rate:.0%}" for each in both))
    yield row("… hours that it allows at least", *same(f"{units.blobs / small.driver_rate / 3600:.2f}"))
    yield row("**Head (GCS)**: names looked up at the start, `local`", *(f"{each.lookups('local'):,}" for each in both))
    yield row("… `owner`", *(f"{each.lookups('owner'):,}" for each in both))
    often = [f"{each.poll(units.refresh) / 1e6:,.0f} MB/s" for each in both]
    yield row("… list of nodes, if each actor asked every 2 s", *often)
    yield row("… as it is: seconds between two looks", *(f"{each.refresh:.0f}" for each in both))
    yield row("… and so", *(f"{each.poll(each.refresh) / 1e6:,.1f} MB/s" for each in both))
    yield row("… requests a second", *(f"{each.nodes / each.refresh:,.0f}" for each in both))
    keeper = [each.nodes / units.keeper for each in both]
    yield row("… names and nodes that a pool's keeper reads a second", *(f"{each:,.0f}" for each in keeper))
    series = units.tiers * units.metric_series + units.node_series
    yield row("**Prometheus**: time series", *(f"{each.nodes * series:,}" for each in both))
    aside = f"{units.blobs * units.digest_bytes / 1e9:.0f} GB"
    yield row("**`warm()`'s process**: digests put aside on its disk, at most", *same(aside))
    yield ""
    yield '| `routing="owner"`, rows a second of one map actor | 100 nodes | 1,000 nodes |'
    yield "| --- | ---: | ---: |"
    for batch, measured, more in ((4096, "4096", ""), (65_536, "16384", ', `max_bytes="1GB"`')):
        cells = []
        for each in both:
            rate = each.owner_rate(batch, routing[each.nodes][measured] / 1e6)
            cells.append(f"{rate:,.0f} ({each.digests_per_call(batch):.0f} digests a call)")
        yield row(f"batches of {batch:,}{more}", *cells)


def main() -> None:
    print("\n".join(report()))


if __name__ == "__main__":
    main()
