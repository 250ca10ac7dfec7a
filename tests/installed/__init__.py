"""The distribution as people install it: built, installed into clean environments, tried outside the checkout.

`make wheel-test` runs `python -m tests.installed`. Every environment is installed from a hashed lock.
"""
