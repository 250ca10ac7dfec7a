"""Limits: how many calls an API source allows, how many requests a bucket gets, what an API said it lacks."""
