"""The public names of `bitstore`, each written once: type checkers read this, `bitstore` imports a name at first use.

A name that is added here is in `bitstore.__all__`, in `dir(bitstore)` and, by `python -m tests.reference`, in
docs/reference.md.
"""

from bitstore._caches.disk import DiskCache as DiskCache
from bitstore._caches.memory import MemoryCache as MemoryCache
from bitstore._digests.api_source import DigestAPISource as DigestAPISource
from bitstore._digests.cache import DigestCache as DigestCache
from bitstore._digests.composite import DigestComposite as DigestComposite
from bitstore._digests.mixins import DigestFormatMixin as DigestFormatMixin
from bitstore._digests.mixins import VerifyDigestMixin as VerifyDigestMixin
from bitstore._digests.named import Md5APISource as Md5APISource
from bitstore._digests.named import Md5Cache as Md5Cache
from bitstore._digests.named import Md5Composite as Md5Composite
from bitstore._digests.named import Md5Store as Md5Store
from bitstore._digests.named import Sha1APISource as Sha1APISource
from bitstore._digests.named import Sha1Cache as Sha1Cache
from bitstore._digests.named import Sha1Composite as Sha1Composite
from bitstore._digests.named import Sha1FormatMixin as Sha1FormatMixin
from bitstore._digests.named import Sha1Store as Sha1Store
from bitstore._digests.named import Sha256APISource as Sha256APISource
from bitstore._digests.named import Sha256Cache as Sha256Cache
from bitstore._digests.named import Sha256Composite as Sha256Composite
from bitstore._digests.named import Sha256Store as Sha256Store
from bitstore._digests.named import VerifySha1Mixin as VerifySha1Mixin
from bitstore._digests.store import DigestStore as DigestStore
from bitstore._doctor.checking import check as check
from bitstore._doctor.reports import CheckAnswer as CheckAnswer
from bitstore._doctor.reports import CheckFault as CheckFault
from bitstore._doctor.reports import CheckReport as CheckReport
from bitstore._doctor.reports import SampleCheck as SampleCheck
from bitstore._doctor.reports import TierCheck as TierCheck
from bitstore._limits.calls import CallLimit as CallLimit
from bitstore._limits.rates import RateLimit as RateLimit
from bitstore._lookup.retry import Retry as Retry
from bitstore._packs.source import DigestReferences as DigestReferences
from bitstore._packs.source import Md5References as Md5References
from bitstore._packs.source import Sha1References as Sha1References
from bitstore._packs.source import Sha256References as Sha256References
from bitstore._raw.file import FileRaw as FileRaw
from bitstore._raw.fsspec_raw import FsspecRaw as FsspecRaw
from bitstore._raw.gs import GSRaw as GSRaw
from bitstore._raw.http import HTTPRaw as HTTPRaw
from bitstore._raw.lfs import LFSRaw as LFSRaw
from bitstore._raw.obstore_raw import ObstoreRaw as ObstoreRaw
from bitstore._raw.s3 import ANONYMOUS as ANONYMOUS
from bitstore._raw.s3 import S3Raw as S3Raw
from bitstore._tiers.composite import Composite as Composite
from bitstore._tiers.stats import Stats as Stats
from bitstore._tiers.stats import TierStats as TierStats
from bitstore.blob import Blob as Blob
from bitstore.errors import AccessDenied as AccessDenied
from bitstore.errors import BitstoreError as BitstoreError
from bitstore.errors import InvalidDataFound as InvalidDataFound
from bitstore.errors import InvalidURI as InvalidURI
from bitstore.errors import LimitReached as LimitReached
from bitstore.errors import LookupFailed as LookupFailed
from bitstore.errors import LookupTimedOut as LookupTimedOut
from bitstore.errors import NotFoundInStore as NotFoundInStore
from bitstore.errors import StoreNotAvailable as StoreNotAvailable
from bitstore.errors import TooManyRequests as TooManyRequests
from bitstore.errors import WriteConflict as WriteConflict
from bitstore.location import Location as Location
from bitstore.outline import Outline as Outline
from bitstore.store import SteppedStore as SteppedStore
from bitstore.store import Store as Store
