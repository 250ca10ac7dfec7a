"""The extension module, built by `hatch_build.py` from `src/`."""

API: int  # of what the C code offers; `bitstore._transport.native.choice.API` says which number it must have

def version() -> str:
    """The version text of the OpenSSL that is loaded."""
