"""What there is to know about the membership index of a tier."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from bitstore._digests.indexed import Indexed
from bitstore._digests.remembers import unwrapped
from bitstore._doctor.reports import CheckFault, TierCheck
from bitstore._support.sizes import rounded_size

__all__ = ["check_index"]


def check_index(check: TierCheck, store: Any) -> None:
    """Note age and size of the tier's index, and what is wrong with it. Nothing is asked."""
    source = unwrapped(store)
    state = source.index_state if isinstance(source, Indexed) else None
    if state is None:
        return
    if state.info is None:
        advice = "Build it (`bitstore index build`), or leave `index` out: until then the store is asked for each blob."
        check.faults.append(CheckFault("no-index", f"its index is not used: {state.trouble}", advice, "hint"))
        return
    hours = (datetime.now(timezone.utc) - state.info.covers_up_to).total_seconds() / 3600
    check.notes.append(
        f"its index has {state.info.count:,} digests in {rounded_size(state.bytes)}, covers up to "
        f"{state.info.covers_up_to.isoformat(timespec='seconds')} ({hours:,.1f} hours ago), and {state.noted:,} were "
        "written since"
    )
    if state.trouble is not None and not source.recheck:
        advice = "Build the index again; until then what it denies is asked for, last of all tiers."
        check.faults.append(CheckFault("index-no-proof", f"its index only orders: {state.trouble}", advice, "hint"))
