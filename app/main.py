"""The uvicorn target: `uvicorn app.main:create_app --factory`."""

from starlette.types import ASGIApp

from app.node.node import Node
from app.node.parts import Parts
from app.settings import load


def create_app() -> ASGIApp:
    """The ASGI application of a node with the settings of the environment. Raises SettingsError."""
    return Node(Parts(load())).app
