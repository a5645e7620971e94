"""The checks before a node starts, and the upgrade of the database to this version's schema."""

from pathlib import Path

from app.access.api_keys import KeyFileError
from app.access.key_file import read
from app.node.cannot_start import CannotStart as CannotStart
from app.node.shared_path import shared_path
from app.node.stores import store_of
from app.outbound import masked
from app.ports.errors import SchemaTooNew, StoreUnavailable, StoreUnusable
from app.settings import Settings
from infra.process.runtime_dir import make_runtime_dir


async def prepare(settings: Settings) -> None:
    """Upgrade the database to this version's schema, unless another process holds the lease. Raises CannotStart.

    A database that is merely unavailable does not prevent the start: /v1/health reports it, and the node retries.
    """
    if settings.api_keys_file:
        try:
            read(Path(settings.api_keys_file))
        except KeyFileError as error:
            raise CannotStart(f"API_KEYS_FILE={settings.api_keys_file} cannot be used: {error}") from error
    store = store_of(settings.db_url, timescale=settings.timescale)
    if (path := store.file(settings.db_url)) is not None and path.is_dir():
        raise CannotStart(f"DB_URL names {path}, which is a folder; add the name of a file")
    folder = str(shared_path(settings).parent) if path is None else settings.runtime_dir
    try:
        make_runtime_dir(folder)
    except OSError as error:
        raise CannotStart(
            f"nothing can be written in RUNTIME_DIR={folder}: {error.strerror or error}; "
            "give this user write permission on it, or name another folder"
        ) from error
    lease = store.lease(settings.db_url)
    try:
        if await lease.try_acquire(""):
            await store.prepare(settings.db_url)
            await _check_whole(settings.db_url)
    except (SchemaTooNew, StoreUnusable) as error:
        raise CannotStart(str(error)) from error
    except StoreUnavailable:
        pass
    except OSError as error:
        if error.errno in store.no_space:
            return
        raise CannotStart(
            f"nothing can be written beside {masked(settings.db_url)}: {error.strerror or error}; "
            "give this user write permission on the folder, or set DB_URL"
        ) from error
    finally:
        await lease.release()


def require_database(db_url: str) -> None:
    """Raise CannotStart where the file of the database does not exist, which opening it would make."""
    path = store_of(db_url).file(db_url)
    if path is not None and not path.exists():
        raise CannotStart(
            f"the database {path} does not exist, so it holds nothing: go to the node's folder, or correct the URL; "
            "klinenode serve and klinenode backfill make one"
        )


async def _check_whole(db_url: str) -> None:
    """Raise CannotStart if only a part of another database was moved into this one."""
    contents = await store_of(db_url).contents(db_url)
    try:
        begun = await contents.begun()
    finally:
        await contents.close()
    if begun is not None:
        raise CannotStart(
            f"{masked(db_url)} holds a part of {begun}: run `klinenode migrate-store` again with both URLs, it goes on "
            "from where it was stopped"
        )
