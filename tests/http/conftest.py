"""A node that has read the list of symbols."""

import pytest

from tests.http.fakes import Node


@pytest.fixture
def node() -> Node:
    node = Node()
    node.symbols.info = b"{}"  # the list of symbols was read
    return node
