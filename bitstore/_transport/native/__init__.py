"""The native transport: sockets, heads, TLS and digests in C, where the extension module `_core` was built."""
