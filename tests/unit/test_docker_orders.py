"""What the executor of Docker is told."""

from __future__ import annotations

import pytest

from mesocosm.docker.orders import Orders
from mesocosm.docker.values import DockerError


def test_orders_are_taken_out_of_the_environment() -> None:
    orders = Orders("podman", "tcp://[::1]:2376", "mesos-1", ("--net=none", "an image", "a\nb"), {"KEY": "'ä'"}, 1.5)
    environment = {"PATH": "/bin", **orders.environment()}
    assert Orders.take(environment) == orders
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize("said", [{}, {"MESOCOSM_DOCKER_ORDERS": "["}, {"MESOCOSM_DOCKER_ORDERS": '{"name": "x"}'}])
def test_no_orders(said: dict[str, str]) -> None:
    with pytest.raises(DockerError, match=r"MESOCOSM_DOCKER_ORDERS has no orders: .*started by an agent"):
        Orders.take(said)
