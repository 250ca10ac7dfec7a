"""Old imports keep working: `from epic.bitstore import Sha1Composite, ...` gives bitstore's own names."""

from bitstore import *  # noqa: F403
