"""The revisions of a store's folder, as Alembic reads them."""

from pathlib import Path
from types import ModuleType

from alembic.config import Config
from alembic.script import ScriptDirectory


def config_of(package: ModuleType) -> Config:
    """Alembic's configuration for the revisions in a package: `migrations`, or `migrations.postgres`."""
    config = Config()
    config.set_main_option("script_location", str(Path(package.__path__[0])).replace("%", "%%"))
    return config


def revisions(config: Config) -> tuple[str, frozenset[str]]:
    """The newest revision, and all of them."""
    scripts = ScriptDirectory.from_config(config)
    return scripts.get_current_head() or "", frozenset(each.revision for each in scripts.walk_revisions())
