"""The TLS contexts of all upstream connections: one rule for REST, archive and sockets."""

import ssl
from functools import cache

import certifi

from app.outbound import Egress


def trusting(egress: Egress) -> ssl.SSLContext:
    """A context that trusts the certificates of SSL_CERT_FILE and SSL_CERT_DIR, or the system's and the bundled ones.

    Both are needed: a company's CA is only in the system's store, and a bare container has only the bundled ones.
    Raises OSError for a file that cannot be used, which app/settings.py refuses before a node starts.
    """
    return _context(egress.ca_file, egress.ca_dir)


@cache
def trusting_nobody() -> ssl.SSLContext:
    """A context for a client that never uses TLS: cheap to create, and it accepts no certificate."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@cache
def _context(ca_file: str | None, ca_dir: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file, capath=ca_dir)
    if ca_file is None and ca_dir is None:
        context.load_verify_locations(certifi.where())
    return context
