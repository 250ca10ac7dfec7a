"""`python -m bitstore` is the `bitstore` command."""

from __future__ import annotations

import sys

from bitstore._cli import main

if __name__ == "__main__":
    sys.exit(main())
