"""The contestants: each module has `start(job)`, which returns what fetches.

A fetcher takes an iterator of digests, fetches all of them, and returns `{"blobs": ..., "bytes": ...}`: what it has
got. It may add `seconds` and `cpu` where it knows better than its caller what to count, and figures of its own.
`DISTRIBUTIONS` names the packages whose versions the results should tell.

They run in environments of their own: none imports anything of this repository but its siblings (and `bitstore`,
where that is the contestant).
"""
