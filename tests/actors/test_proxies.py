from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sitpayd.actors.proxies import MAX_CREDENTIAL_LEN, Proxy, ProxyScheme, parse_proxy

GOOD = {
    "http://proxy.example:3128": Proxy(ProxyScheme.HTTP, "proxy.example", 3128),
    "socks5://192.0.2.1:1080": Proxy(ProxyScheme.SOCKS5, "192.0.2.1", 1080),
    "socks5://[2001:db8::1]:1": Proxy(ProxyScheme.SOCKS5, "2001:db8::1", 1),
    "http://u:p@proxy:80": Proxy(ProxyScheme.HTTP, "proxy", 80, "u", "p"),
    "http://u%40x:p%3A%2F@proxy:80": Proxy(ProxyScheme.HTTP, "proxy", 80, "u@x", "p:/"),
    "socks5://u%3A:p@proxy:80": Proxy(ProxyScheme.SOCKS5, "proxy", 80, "u:", "p"),
}
BAD = (
    "",
    "proxy:80",
    "https://proxy:80",
    "socks4://proxy:80",
    "http://proxy",
    "http://proxy:0",
    "http://proxy:65536",
    "http://proxy:x",
    "http://:80",
    "http://proxy:80/",
    "http://proxy:80?q",
    "http://proxy:80#f",
    "http://pro xy:80",
    "http://prox\u00fc:80",
    "http://proxy\r\n:80",
    "http://[::1%25eth0]:80",
    "http://[proxy]:80",
    "http://u@proxy:80",
    "http://u:@proxy:80",
    "http://:p@proxy:80",
    "http://u%3Ax:p@proxy:80",
    "http://u:p%0d%0aX@proxy:80",
    "http://u:%C3%BC@proxy:80",
    "http://u:" + "p" * (MAX_CREDENTIAL_LEN + 1) + "@proxy:80",
    "http://" + "p" * 254 + ":80",
)


@pytest.mark.parametrize("url", GOOD)
def test_proxy_is_read(url: str) -> None:
    assert parse_proxy(url) == GOOD[url]


@pytest.mark.parametrize("url", BAD)
def test_what_is_no_proxy_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        parse_proxy(url)


@given(st.text())
@example("[::1")
@example("a:b:c@[x]]:80")
def test_refusal_is_a_sentence_that_never_repeats_what_was_written(url: str) -> None:
    told = "must say nothing"
    try:
        parse_proxy("http://secret:" + url)
    except ValueError as error:
        told = str(error)

    assert told.startswith("must ")
    assert "secret" not in told


def test_credentials_are_not_shown() -> None:
    proxy = parse_proxy("socks5://user:secret@[2001:db8::1]:1080")

    assert proxy.address == "socks5://[2001:db8::1]:1080"
    assert "user" not in repr(proxy)
    assert "secret" not in repr(proxy)
