"""Which proxy each upstream is reached through; passwords are never shown."""

import pytest

from app.outbound import Proxy, is_exempt, is_loopback, masked, proxy_of, url_of


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("proxy", Proxy("http", "proxy", 80)),
        ("HTTPS://Proxy.example/", Proxy("https", "proxy.example", 443)),
        ("socks5h://127.0.0.1", Proxy("socks5h", "127.0.0.1", 1080)),
        ("socks5://u:p%40ss@[::1]:9050", Proxy("socks5", "::1", 9050, "u", "p@ss")),
        ("u:p@proxy:1", Proxy("http", "proxy", 1, "u", "p")),
    ],
)
def test_a_proxy_is_read_with_and_without_a_scheme(text: str, proxy: Proxy) -> None:
    read = proxy_of(text)
    assert read == proxy
    assert proxy_of(url_of(read)) == read, "its URL names the same proxy"
    assert "p@ss" not in repr(read)


@pytest.mark.parametrize(
    "text",
    [
        "socks4://u:geheim@proxy:1",
        "ftp://proxy:1",
        "http://u:geheim@proxy:port",
        "http://u:geheim@proxy:0",
        "http://u:geheim/x@proxy:1",
        "http://u:geheim@[::1",
        "http://u:geheim\N{FULLWIDTH COLON}@proxy:1",
        "http://u:geheim@proxy:1 # main",
        "http://",
        "://geheim",
        "http://********@proxy:1",
        "http://u:" + "geheim" * 50 + "@proxy:1",
    ],
)
def test_what_is_no_proxy_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        proxy_of(text)
    assert "geheim" not in str(caught.value)
    assert "geheim" not in repr(caught.value.__cause__)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://proxy:1", "http://proxy:1"),
        ("http://u:p@proxy:1", "http://********@proxy:1"),
        ("u:p@proxy:1", "********@proxy:1"),
        ("u:p://@proxy:1", "********@proxy:1"),
        ("http://u:p://x@y@proxy:1", "http://********@proxy:1"),
        ("socks5://token@proxy", "socks5://********@proxy"),
    ],
)
def test_credentials_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    ("no_proxy", "url", "exempt"),
    [
        ("fapi.binance.com", "https://fapi.binance.com", True),
        ("binance.com", "wss://fstream.binance.com", True),
        (".binance.com", "https://fapi.binance.com", True),
        ("*.binance.com", "https://fapi.binance.com", True),
        ("FAPI.Binance.COM", "https://fapi.binance.com", True),
        ("nance.com", "https://fapi.binance.com", False),
        ("*", "https://fapi.binance.com", True),
        ("a.test, b.test c.test", "http://c.test:80", True),
        ("exchange.test:8080", "http://exchange.test:8080", True),
        ("exchange.test:8080", "http://exchange.test", False),
        ("exchange.test:443", "wss://exchange.test", True),
        ("exchange.test.", "https://exchange.test", True),
        ("10.0.0.0/8", "http://10.1.2.3:80", True),
        ("10.0.0.0/8", "http://11.1.2.3:80", False),
        ("10.1.2.3", "http://10.1.2.3:80", True),
        ("fd00::/8", "http://[fd00::1]:80", True),
        ("[fd00::1]:81", "http://[fd00::1]:81", True),
        ("[fd00::1]:81", "http://[fd00::1]:80", False),
        ("fd00::1", "http://[fd00::1]:80", True),
        ("http://exchange.test", "http://exchange.test", True),
        ("https://exchange.test:8443/", "https://exchange.test:8443", True),
        ("", "https://exchange.test", False),
        (" , ", "https://exchange.test", False),
        ("10.0.0.0/99", "http://10.1.2.3", False),
    ],
)
def test_no_proxy_names_what_is_asked_directly(no_proxy: str, url: str, exempt: bool) -> None:
    assert is_exempt(no_proxy, url) is exempt


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("sandbox.localhost", True),
        ("localhost.example", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_loopback_has_many_names(host: str, ours: bool) -> None:
    assert is_loopback(host) is ours
