"""Fuzzing: what parses text or bytes of others must answer with its documented errors, in bounded time."""
