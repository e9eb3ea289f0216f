"""Fixtures of the edge's tests: one gatewayd shared by a file, or one of the test's own."""
import base64
import hashlib

import pytest
from hypothesis import settings

from edge import Edge

KEY = base64.b64encode(b"0123456789abcdef").decode()
ACCEPT = base64.b64encode(hashlib.sha1((KEY + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()


@pytest.fixture(scope="module")
def edge():
    e = Edge()
    try:
        yield e.start_edge()
    finally:
        e.close()


@pytest.fixture
def own_edge():
    made = []

    def make(**settings):
        e = Edge(settings)
        made.append(e)
        return e.start_edge()
    yield make
    for e in made:
        e.close()


def alive(edge):
    assert edge.request("GET", "/health")[0] == 200
