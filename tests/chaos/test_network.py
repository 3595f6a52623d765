# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from dev.chaos.network import Network
from dev.stack import free_ports
from dev.testkit.tcp_server import TcpServer


class Echo(TcpServer):
    """Sends back what it receives."""

    def _handle(self, connection: socket.socket) -> None:
        with connection:
            while piece := connection.recv(1000):
                connection.sendall(piece)


@pytest.fixture
def network() -> Iterator[tuple[Network, int]]:
    """Yield a network in which "worker" reaches port 1 of "store", and the port that it connects to."""
    (local,) = free_ports(1)
    with Echo() as echo, Network({("worker", "store", 1): local}, {("store", 1): echo.port}) as network:
        yield network, local


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10)


def test_a_relay_carries_both_directions_until_the_end(network: tuple[Network, int]) -> None:
    with connect(network[1]) as connection:
        connection.sendall(b"x" * 300_000)
        connection.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: connection.recv(65_536), b"")) == b"x" * 300_000


def test_what_is_sent_by_a_service_that_is_cut_off_arrives_once_it_is_connected_again(
    network: tuple[Network, int],
) -> None:
    with connect(network[1]) as connection:
        connection.sendall(b"before")
        assert connection.recv(6) == b"before"
        network[0].cut_off("worker")
        connection.sendall(b"after")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(5)
        network[0].reconnect("worker")
        connection.settimeout(10)
        assert connection.recv(5) == b"after"


def test_a_new_connection_of_a_service_that_is_cut_off_gets_no_response(network: tuple[Network, int]) -> None:
    network[0].cut_off("worker")
    with connect(network[1]) as connection:
        connection.sendall(b"anybody?")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(8)


def test_a_slow_server_delays_what_it_sends(network: tuple[Network, int]) -> None:
    network[0].slow_down("store", 0.4)
    with connect(network[1]) as connection:
        began = time.monotonic()
        connection.sendall(b"slowly")
        assert connection.recv(6) == b"slowly"
        assert time.monotonic() - began >= 0.4
