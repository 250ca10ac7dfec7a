"""Misses that last: which blobs a source has said it lacks, in a file of a machine and in parts that a cluster shares.

`entries` says what is recorded, `file` where a machine keeps it, `share` where a cluster does. `ledger` puts the two
together. A record is a *miss* (the source said that it lacks a digest) or a *void* (misses of a digest, or of all of a
source, do not count up to a moment). Misses and voids may be merged in any order, and as often as one likes: the result
is the same. That is why no record of any process is lost.
"""
