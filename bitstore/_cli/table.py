"""The commands: where each is, what the list of commands says of it, and examples of its use."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["COMMANDS", "Command"]


class Command(NamedTuple):
    """One command, or one group of commands."""

    # The module of `bitstore._cli` that has it.
    module: str
    # The name of its function there; `app`: the group of the framework.
    function: str
    # The begin of its help.
    help: str
    # Lines that a shell takes.
    examples: tuple[str, ...]


COMMANDS = {
    "init": Command(
        "init",
        "init",
        "Write a commented bitstore.toml, from URLs or from a few questions.",
        (
            "bitstore init",
            "bitstore init s3://bucket/files/ gs://other/{digest[:2]}/{digest} --algorithm sha1 --cache /data/blobs",
            "bitstore init https://host/blobs/ --algorithm sha256 -o -",
        ),
    ),
    "check": Command(
        "check",
        "check",
        "Reach each tier, and say what is wrong with it and what to do about it.",
        (
            "bitstore check --config bitstore.toml",
            "bitstore check --store s3://bucket/files/ --digest 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
            "bitstore check hashes.txt --write --json | jq '.faults[]?'",
        ),
    ),
    "show": Command(
        "check",
        "show_command",
        "Show the tiers as a tree: where their blobs lie, and how they are set.",
        (
            "bitstore show",
            "bitstore show --order",
            "bitstore show --config bitstore.toml --json",
        ),
    ),
    "get": Command(
        "get",
        "get",
        "Write the bytes of one blob to a file, or to standard output.",
        (
            "bitstore get 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12 -o blob.bin",
            "bitstore get 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12 --store s3://bucket/{digest[:2]}/{digest} | less",
        ),
    ),
    "locate": Command(
        "locate",
        "locate",
        "Tell which tiers hold a blob.",
        (
            "bitstore locate da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "bitstore locate da39a3ee5e6b4b0d3255bfef95601890afd80709 --store s3://bucket/prefix/ --json",
        ),
    ),
    "exists": Command(
        "existing",
        "exists",
        "Tell which blobs of a list are there.",
        (
            "bitstore exists hashes.txt",
            "bitstore exists hashes.txt -o report --store s3://bucket/prefix/",
        ),
    ),
    "plan": Command(
        "plan",
        "plan",
        "Tell what looking up a list will come to: hits of each tier, requests, bytes and money, with bounds.",
        (
            "bitstore plan hashes.txt",
            "bitstore plan hashes.parquet --column sha1 --sample 5000 --rate 200 --budget 25USD",
            "bitstore plan hashes.txt --sample 0 --json | jq .money",
        ),
    ),
    "fetch": Command(
        "fetch",
        "fetch",
        "Fetch every blob of a list.",
        (
            "bitstore fetch hashes.txt -o blobs",
            "bitstore fetch hashes.csv --column sha256 -o blobs.parquet --store https://host/{digest[:2]}/{digest}",
            "bitstore fetch hashes.txt -o blobs --store s3://bucket/files/ --profile team --cache /tmp/cache",
            "bitstore fetch hashes.txt -o blobs --plan --budget 25USD --budget-file spent.sqlite",
            "bitstore fetch hashes.parquet -o blobs --report report.html --report report.json",
            "bitstore fetch --retry blobs/failed.tsv -o blobs",
            "bitstore fetch hashes.txt -o blobs --json | jq -r 'select(.kind == \"missing\") | .digest'",
        ),
    ),
    "warm": Command(
        "warming",
        "warm",
        "Fill the caches with the blobs of a list.",
        (
            "bitstore warm hashes.parquet --column sha1 --dry-run",
            "bitstore warm hashes.parquet --ledger ledger --report report.html",
            "bitstore warm hashes.txt --ray auto --target owner --ledger s3-ledger",
        ),
    ),
    "put": Command(
        "put",
        "put",
        "Store files under their digests.",
        (
            "bitstore put photos scan.tif --config bitstore.toml --tier archive",
            "bitstore put photos --store s3://bucket/prefix/ --algorithm sha256",
            "bitstore put - --store gs://bucket/{digest[:2]}/{digest} --algorithm sha1",
        ),
    ),
    "verify": Command(
        "verify",
        "verify",
        "Read the blobs of a bucket or folder and check that each matches the digest in its key.",
        (
            "bitstore verify s3://bucket/prefix/ --sample 1000",
            "bitstore verify gs://bucket/{digest[:2]}/{digest}.gz --compression gzip --fraction 0.01 --seed 7",
            "bitstore verify --config bitstore.toml --tier archive",
        ),
    ),
    "index": Command(
        "index", "app", "Build and ask membership indexes: which blobs a source surely does not hold.", ()
    ),
    "misses": Command("misses", "app", "Look at ledgers of misses: what sources have said they lack.", ()),
    "cache": Command("cache", "app", "Look after the folder of a disk cache.", ()),
    "cluster": Command(
        "cluster",
        "cluster",
        "Show the pools of a Ray cluster: nodes, versions, caches, memory and ages; end those that nothing uses.",
        (
            "bitstore cluster",
            "bitstore cluster 10.0.0.7:6379 --json | jq 'select(.type == \"pool\") | .name'",
            "bitstore cluster --end-unused '2 days' --dry-run",
            "bitstore cluster --end 3f9a1c2b --yes",
        ),
    ),
    "demo": Command(
        "version",
        "demo",
        "See it work: three stores, a cache, a paid API and Ray.",
        (
            "bitstore demo",
            "bitstore demo --blobs 500 --no-ray --keep",
        ),
    ),
    "version": Command(
        "version",
        "version",
        "Show the version, and whether the native transport is used.",
        (
            "bitstore version",
            "bitstore version --json",
        ),
    ),
}
