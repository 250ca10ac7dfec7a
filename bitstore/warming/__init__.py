"""Filling caches before a job: what one process (`bitstore warm`) and a cluster (`ray_integration.warm`) share."""

from __future__ import annotations

from bitstore.warming.here import fill_here
from bitstore.warming.ledger import Ledger, LedgerError
from bitstore.warming.outcome import Outcome
from bitstore.warming.report import WarmReport
from bitstore.warming.run import Warming

__all__ = ["Ledger", "LedgerError", "Outcome", "WarmReport", "Warming", "fill_here"]
