"""How many transfers: against a modelled server, with a modelled clock."""

from __future__ import annotations

import random

import pytest

from bitstore._transport.pace import Pace


class Server:
    """`places` transfers at a time take `latency` seconds each; more than that wait in line."""

    def __init__(self, latency: float, per_second: float) -> None:
        self.latency = latency
        self.per_second = per_second
        self.now = 0.0
        self.noise = random.Random(7)

    def rate(self, transfers: int) -> float:
        return min(transfers / self.latency, self.per_second) * self.noise.uniform(0.93, 1.07)

    def run(self, pace: Pace, count: int, size: int = 16_384, waiting: bool = True) -> None:
        for _ in range(count):
            self.now += 1 / self.rate(pace.limit)
            pace.ended(1, size, int(waiting))


@pytest.mark.parametrize(("latency", "per_second"), [(0.03, 10_000), (0.1, 5_000), (0.001, 20_000), (0.0005, 16_000)])
def test_the_pace_finds_nearly_all_throughput_without_waste(latency: float, per_second: float) -> None:
    server = Server(latency, per_second)
    pace = Pace(clock=lambda: server.now)
    server.run(pace, 60_000)
    needed = max(8, latency * per_second)
    assert min(pace.limit / latency, per_second) >= 0.8 * min(1024 / latency, per_second)
    assert pace.limit <= max(64, 2 * needed)


def test_the_pace_finds_a_fast_server_quickly() -> None:
    server = Server(0.03, 10_000)
    pace = Pace(clock=lambda: server.now)
    server.run(pace, 4_000)
    assert pace.limit >= 200


def test_the_pace_stays_within_its_bounds() -> None:
    server = Server(1.0, 1e9)
    pace = Pace(most=100, clock=lambda: server.now)
    server.run(pace, 20_000)
    assert pace.limit == 100
    for _ in range(100):
        server.now += 2
        pace.slow_down()
    assert pace.limit == 8


def test_the_pace_backs_off_once_per_burst_of_refusals() -> None:
    server = Server(0.03, 10_000)
    pace = Pace(first=100, clock=lambda: server.now)
    for _ in range(50):
        pace.slow_down()
    assert pace.limit == 70
    server.now += 1.5
    pace.slow_down()
    assert pace.limit == 49


def test_the_pace_does_not_grow_when_no_request_waits() -> None:
    server = Server(0.03, 10_000)
    pace = Pace(first=32, clock=lambda: server.now)
    server.run(pace, 20_000, waiting=False)
    assert pace.limit == 32


def test_the_cost_of_new_connections_does_not_stop_the_growth_of_the_pace() -> None:
    server = Server(0.03, 30_000)
    pace = Pace(clock=lambda: server.now)
    connections = pace.limit
    for _ in range(30_000):
        if connections < pace.limit:
            connections += 1
            server.now += 0.0005
        server.run(pace, 1)
    assert pace.limit >= 800
