"""Which certificates an upstream is trusted by: one rule for REST, archive and sockets."""

import ssl
from functools import cache

import certifi

from app.outbound import Egress


def trusting(egress: Egress) -> ssl.SSLContext:
    """A context that trusts the certificates the settings name, or the system's and the bundled ones.

    Both of them: a company's own CA is in the system's store alone, and a bare container has the bundled ones alone.
    Raises OSError for a file that cannot be used; app/settings.py has refused it before a node starts.
    """
    return _context(egress.ca_file, egress.ca_dir)


@cache
def trusting_nobody() -> ssl.SSLContext:
    """A context for a client that never speaks TLS: cheap to make, and it accepts no certificate at all."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@cache
def _context(ca_file: str | None, ca_dir: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file, capath=ca_dir)
    if ca_file is None and ca_dir is None:
        context.load_verify_locations(certifi.where())
    return context
