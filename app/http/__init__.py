"""The HTTP face: routes, parameters, errors and the page cache."""

from importlib import import_module

from pydantic import BaseModel


def _import_descriptions_unbuilt() -> None:
    """Import FastAPI's models of an OpenAPI description so that pydantic builds them when they are first used.

    Building them takes a tenth of the processor time of a node's start, and only `/openapi.json` uses them.
    """
    BaseModel.model_config["defer_build"] = True
    import_module("fastapi.openapi.models")
    del BaseModel.model_config["defer_build"]


_import_descriptions_unbuilt()
