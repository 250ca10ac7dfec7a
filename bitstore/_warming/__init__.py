"""Filling caches before a job: what one process (`bitstore warm`) and a cluster (`ray_integration.warm`) share."""

from __future__ import annotations

from bitstore._warming.ledger import Ledger, LedgerError
from bitstore._warming.outcome import Outcome
from bitstore._warming.report import WarmReport
from bitstore._warming.run import Warming, fill_here
from bitstore._warming.since import Since, SinceError

__all__ = ["Ledger", "LedgerError", "Outcome", "Since", "SinceError", "WarmReport", "Warming", "fill_here"]
