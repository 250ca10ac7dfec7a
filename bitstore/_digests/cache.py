"""A digest store as a cache: what cannot be kept is no error."""

from __future__ import annotations

import logging

from bitstore._digests.store import DigestStore
from bitstore._support.once import warn_once
from bitstore.errors import described

__all__ = ["DigestCache"]

logger = logging.getLogger("bitstore")


class DigestCache(DigestStore):
    """A digest store whose `put` never raises for what the store did: a blob that cannot be kept is only logged.

    Inside a composite such failures are counted, and warned about once. The parameters are those of `DigestStore`:
    base_store, prefix, verify, algorithm, compression, max_blob_size.
    """

    _makes_container = True

    def put(self, digest: str, data: bytes) -> None:
        """Keep `data` if possible. Raises only `InvalidURI` and TypeError, for an invalid `digest`."""
        self._check_valid(digest)
        try:
            super().put(digest, data)
        except Exception as error:  # the promise of this class
            cause = ("could not keep", self.label, type(error))
            warn_once(logger, cause, "%r could not keep %s: %s", self, digest, described(error))

    # A composite must see the failure to count it, and write as it means to: so it takes the steps, not this `put`.
    put_steps = DigestStore.put_steps
    first_requests = DigestStore.first_requests  # lookups are those of any digest store
