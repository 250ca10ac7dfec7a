"""How a store is asked without a thread of its own: a lookup written as a generator of steps.

A lookup does no I/O. It *yields* what it needs (an HTTP request, a blocking call, a pause) and is *sent* the answer.
What it returns is the result:

    def lookup(self, key):
        response = yield Request(self.profile, self.url(key))  # an HTTP exchange; the answer is a `Response`
        if response.status == 503:
            yield Sleep(1.0)
            response = yield Request(self.profile, self.url(key))
        data = yield Call(zlib.decompress, response.body)  # may block, so a worker thread runs it
        return Found(data, "my-bucket")

A driver performs the steps. There are two: `bitstore._lookup.run` performs one step after another in the caller's
thread (`get`), and `bitstore._lookup.loop` keeps thousands of lookups in one thread and resumes each when its answer
is there (`get_many`). That is the whole difference between the two calls: the lookup is the same code.

An error of a step is raised at its `yield`, so `try`/`except` work as in any function. `yield from` runs another
lookup and is its result. Three rules:

1. Never block between two yields: `Call` is there for what blocks.
2. Never yield while a lock is held: the lookup may be resumed late, or never.
3. Clean up in `finally`: a generator may be closed at any yield. When the time of a lookup is up, `Cancelled` is
   raised at the yield; it is no `Exception`, so that no store takes it for a failure of its own.
"""

from bitstore.steps._file_body import BodyReader, FileBody
from bitstore.steps._protocols import (
    OVERWRITE,
    CountsRequests,
    DescribesInSteps,
    DownloadsInSteps,
    ExistsInSteps,
    FileSink,
    GetsByKey,
    GetsInSteps,
    HashesInSteps,
    HasVersions,
    OpensInSteps,
    PutsInSteps,
    RangesInSteps,
    RequestCounts,
    Scope,
    Write,
)
from bitstore.steps._request import (
    EARLY,
    ERROR_BYTES,
    NO_HEADERS,
    PRINTABLE,
    REFUSED,
    TIMED_OUT,
    TOO_LARGE,
    TRICKLE,
    Profile,
    Request,
    Response,
    Room,
    Signer,
    Sink,
    TransferError,
)
from bitstore.steps._steps import (
    Call,
    Cancelled,
    Found,
    Landing,
    Sleep,
    Step,
    Steps,
    Stored,
    Together,
    Wait,
)

__all__ = [
    "EARLY",
    "ERROR_BYTES",
    "NO_HEADERS",
    "OVERWRITE",
    "PRINTABLE",
    "REFUSED",
    "TIMED_OUT",
    "TOO_LARGE",
    "TRICKLE",
    "BodyReader",
    "Call",
    "Cancelled",
    "CountsRequests",
    "DescribesInSteps",
    "DownloadsInSteps",
    "ExistsInSteps",
    "FileBody",
    "FileSink",
    "Found",
    "GetsByKey",
    "GetsInSteps",
    "HasVersions",
    "HashesInSteps",
    "Landing",
    "OpensInSteps",
    "Profile",
    "PutsInSteps",
    "RangesInSteps",
    "Request",
    "RequestCounts",
    "Response",
    "Room",
    "Scope",
    "Signer",
    "Sink",
    "Sleep",
    "Step",
    "Steps",
    "Stored",
    "Together",
    "TransferError",
    "Wait",
    "Write",
]
