"""The checks of the way to the exchange: REST, sockets, archive, proxy, certificates, IPv6, clock."""

from typing import Final

from app.doctor.finding import Finding, fail, ok, warn
from app.ports.probes import Families, Reached, Step

AHEAD_MS_WARN: Final = 1_000  # /v1/health reports a larger error of the clock as well
AHEAD_MS_FAIL: Final = 60_000  # a minute: logs, certificates and every other program on the machine are wrong too

_NEXT: Final = {
    Step.NAME: "check the name in {setting}, and the resolver of this machine (/etc/resolv.conf)",
    Step.CONNECT: "check {setting}, the firewall, and whether this network blocks the exchange; "
    "where it does, set HTTPS_PROXY",
    Step.PROXY: "see the finding `proxy`",
    Step.TLS: "see the finding `certificates`",
    Step.ANSWER: "check that {setting} names the exchange, and try again in a minute",
}
_RESTRICTED: Final = (403, 451)  # what the exchange answers to countries that it does not serve
_STAND_DOWN: Final = (418, 429)


def upstream(check: str, setting: str, reached: Reached) -> Finding:
    """Whether the host of a setting answers."""
    if reached.failed is not None:
        advice = _NEXT[reached.failed].format(setting=setting)
        return fail(check, f"{reached.url} cannot be reached: {reached.reason}", advice)
    if reached.status in _RESTRICTED:
        return fail(
            check,
            f"{reached.url} answers {reached.status}: it refuses this network",
            "use a network, or a proxy (HTTPS_PROXY), in a country that the exchange serves",
        )
    if reached.status in _STAND_DOWN:
        return warn(
            check,
            f"{reached.url} answers {reached.status}: too many requests from this address",
            "stop other programs that ask the exchange from here; the node waits as long as it is told to",
        )
    way = f" by {reached.proxy}" if reached.proxy else ""
    return ok(check, f"{reached.url} answers{way} in {reached.elapsed_ms} ms")


def standing_down(check: str, until_ms: int, reason: str, now_ms: int) -> Finding:
    """The finding instead of a request while the exchange has told us to stay away."""
    return warn(
        check,
        f"the exchange has told this address to stay away for another {(until_ms - now_ms) // 1000} s: {reason}",
        "wait; nothing is sent before, not even by this check. Stop other programs that ask the exchange from here",
    )


def proxy(reached: list[Reached], faults: list[str]) -> Finding:
    """Whether the proxies of the settings let requests through."""
    if faults:
        return fail("proxy", "; ".join(faults), "correct the setting, or empty it to go without a proxy")
    used = sorted({each.proxy for each in reached if each.proxy})
    if not used:
        return ok("proxy", "no proxy is used")
    if failed := [each for each in reached if each.failed is Step.PROXY]:
        return fail(
            "proxy",
            f"the proxy {failed[0].proxy} does not let requests through: {failed[0].reason}",
            "check that it runs, and its address, user and password in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY; "
            "NO_PROXY names hosts that need none",
        )
    return ok("proxy", f"requests pass {', '.join(used)}")


def certificates(reached: list[Reached], faults: list[str], ca_file: str | None) -> Finding:
    """Whether the certificates of all upstreams are trusted."""
    if faults:
        return fail("certificates", "; ".join(faults), "correct SSL_CERT_FILE or SSL_CERT_DIR, or empty it")
    if failed := [each for each in reached if each.failed is Step.TLS]:
        whose = f"SSL_CERT_FILE={ca_file} does not have its CA" if ca_file else "no CA that this machine trusts made it"
        return fail(
            "certificates",
            f"the certificate of {failed[0].url} is not trusted, {whose}: {failed[0].reason}",
            "set SSL_CERT_FILE to the CA of your company's proxy, or empty it to trust the usual ones; check the clock",
        )
    return ok("certificates", f"trusted by {ca_file}" if ca_file else "trusted by the system's and the bundled CAs")


def ipv6(families: Families | None) -> Finding:
    """Whether IPv6 addresses of the exchange lead nowhere while IPv4 works. None: a proxy resolves the name."""
    if families is None:
        return ok("ipv6", "the proxy chooses the addresses")
    host = families.host
    if families.v6 is None:
        return ok("ipv6", f"{host} is reached by IPv4")
    if families.v6_failed is None:
        return ok("ipv6", f"{host} is reached by IPv6 ({families.v6})")
    if families.is_v6_absent:
        return ok("ipv6", f"this machine has no IPv6, {host} is reached by IPv4")
    if families.v4 is not None and families.v4_failed is None:
        return warn(
            "ipv6",
            f"{host} has the IPv6 address {families.v6}, which leads nowhere ({families.v6_failed}); IPv4 works",
            "the node goes on with IPv4 after a quarter of a second; repair the IPv6 route, or turn IPv6 off here",
        )
    return warn(
        "ipv6",
        f"{host} is reached neither by IPv6 ({families.v6_failed}) nor by IPv4 ({families.v4_failed or 'no address'})",
        "see the findings of the exchange",
    )


def clock(reached: Reached | None) -> Finding:
    """Whether this machine's clock agrees with the exchange's."""
    if reached is None or reached.clock_ahead_ms is None:
        return warn("clock", "the exchange has not said what time it is", "see the findings of the exchange")
    off_ms = reached.clock_ahead_ms
    sentence = f"this machine's clock is {abs(off_ms):,} ms {'ahead of' if off_ms > 0 else 'behind'} the exchange's"
    advice = "set up NTP (timedatectl set-ntp true), and check that it is synchronised (timedatectl)"
    sure_ms = abs(off_ms) - reached.elapsed_ms // 2  # the exchange told its time at some moment of the request
    if sure_ms > AHEAD_MS_FAIL:
        return fail("clock", sentence, advice)
    if sure_ms > AHEAD_MS_WARN:
        return warn("clock", sentence, advice)
    return ok("clock", sentence)
