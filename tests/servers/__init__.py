"""Real servers for the tests, each on loopback and on ports of its own.

Every one is a context manager: it has answered its health check when the block begins and is gone
when the block ends, also when the process that started it is killed.
"""

from tests.servers.counted_api import CountedAPI
from tests.servers.fault_proxy import FaultProxy, MakeProxy
from tests.servers.faults import (
    Action,
    Answer,
    Close,
    Corrupt,
    Cut,
    Delay,
    Empty,
    Hang,
    Hold,
    Reset,
    ResetAfter,
    Rule,
    Rules,
    Stall,
    s3_error,
)
from tests.servers.gcs import FakeGCS
from tests.servers.lfs import LFSServer
from tests.servers.moto import MotoServer
from tests.servers.s3 import Identity, SeaweedS3

__all__ = [
    "Action",
    "Answer",
    "Close",
    "Corrupt",
    "CountedAPI",
    "Cut",
    "Delay",
    "Empty",
    "FakeGCS",
    "FaultProxy",
    "Hang",
    "Hold",
    "Identity",
    "LFSServer",
    "MakeProxy",
    "MotoServer",
    "Reset",
    "ResetAfter",
    "Rule",
    "Rules",
    "SeaweedS3",
    "Stall",
    "s3_error",
]
