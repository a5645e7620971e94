"""The application factory for uvicorn: `uvicorn app.main:create_app --factory`."""

from starlette.types import ASGIApp

from app.node.node import Node
from app.node.parts import Parts
from app.settings import load


def create_app() -> ASGIApp:
    """The ASGI application of a node with settings from the environment and .env. Raises SettingsError."""
    return Node(Parts(load())).app
