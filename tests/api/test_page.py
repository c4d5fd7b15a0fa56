"""The admin page's files. What the page does stands in tests/browser."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from tests.support.front import Front

PAGE = resources.files("sitpayd.api").joinpath("page")
NAMES = sorted(entry.name for entry in PAGE.iterdir())
PATHS = ["/admin/", *(f"/admin/page/{name}" for name in NAMES)]


@pytest.mark.parametrize("path", PATHS)
async def test_file_may_run_nothing_but_the_pages_own_scripts(front: Front, path: str) -> None:
    """T-29: whatever a device is called, the browser has no way to run it."""
    headers = (await front.ask("GET", path)).headers

    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "data: 'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", PATHS)
async def test_file_is_sent_again_only_when_it_has_changed(front: Front, path: str) -> None:
    first = await front.ask("GET", path)
    etag = first.headers["etag"]
    again = await front.ask("GET", path, headers={"if-none-match": etag})
    other = await front.ask("GET", path, headers={"if-none-match": '"of another version"'})

    assert first.headers.getlist("cache-control") == ["no-cache"]
    assert (again.status_code, await again.get_data(), again.headers["etag"]) == (304, b"", etag)
    assert (other.status_code, await other.get_data()) == (200, await first.get_data())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("app.js", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
async def test_file_says_what_it_is(front: Front, name: str, kind: str) -> None:
    answer = await front.ask("GET", f"/admin/page/{name}")

    assert answer.headers["content-type"] == kind


async def test_page_is_html(front: Front) -> None:
    answer = await front.ask("GET", "/admin/")

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert (await answer.get_data(True)).startswith("<!doctype html>")


async def test_address_without_its_slash_leads_to_the_page(front: Front) -> None:
    answer = await front.ask("GET", "/admin")

    assert (answer.status_code, answer.headers["location"]) == (308, "admin/")


@pytest.mark.parametrize("name", ["nothing.js", "..%2fpage.py", "%2e%2e", "app.js%00"])
async def test_there_is_no_other_file(front: Front, name: str) -> None:
    answer = await front.ask("GET", f"/admin/page/{name}")

    assert answer.status_code == 404


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith(".svg")])
def test_file_names_no_other_site(name: str) -> None:
    text = PAGE.joinpath(name).read_text("utf-8")

    assert re.findall(r"https?://|[\"'(]//", text) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".js")])
def test_script_makes_no_markup(name: str) -> None:
    """T-29: everything is written as text."""
    text = PAGE.joinpath(name).read_text("utf-8")

    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text) == []
    )


def test_page_has_no_script_or_style_of_its_own() -> None:
    text = PAGE.joinpath("index.html").read_text("utf-8")

    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son[a-z]+=", text) == []
