"""A headless Chromium, driven as a person would: by clicks and keys at places on the page.

Spoken to over its DevTools protocol, on one WebSocket: no driver program and no library in between
that would have to fit its version. Source: the Chrome DevTools Protocol's public reference.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, cast

import trio
from websockets.trio.client import ClientConnection, connect

from tests.support.waiting import eventually

Json = dict[str, object]

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--lang=en-GB",
    "--remote-debugging-port=0",
)
# An answer to one command; a page with ten thousand devices draws in far less.
ANSWER_WITHIN_S: Final = 20.0
MAX_MESSAGE_LEN: Final = 64 * 1024 * 1024

# What a key is to the page: its code, and the text it writes.
_KEYS: Final = {
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    "Tab": (9, ""),
    "ArrowDown": (40, ""),
    "ArrowUp": (38, ""),
    "End": (35, ""),
    "Home": (36, ""),
    "PageDown": (34, ""),
    "Space": (32, " "),
}
SHIFT: Final = 8

# Before any script of a page: takes down what its policy had to stop.
_WITNESS: Final = """
globalThis.violations = [];
addEventListener("securitypolicyviolation", (event) =>
  violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


def installed() -> str | None:
    """Where Chromium is; None if this machine has none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def running(program: str, directory: Path) -> Iterator[str]:
    """Run it with an empty profile; yields the address it is spoken to at."""
    profile = directory / "profile"
    # A home of its own, too: nothing of this machine's user is read.
    environment = os.environ | {"HOME": str(directory), "TZ": "UTC"}
    with (directory / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield trio.run(_address, profile / "DevToolsActivePort", process)
    finally:
        process.terminate()
        process.wait()


async def _address(told: Path, process: subprocess.Popen[bytes]) -> str:
    async def look() -> str | None:
        assert process.poll() is None, "Chromium ended at once"
        lines = told.read_text().splitlines() if told.exists() else []
        return f"ws://127.0.0.1:{lines[0]}{lines[1]}" if len(lines) > 1 else None

    return await eventually(look, "Chromium can be spoken to")


class ScriptError(Exception):
    """An expression raised in the page."""


class Chromium:
    """The line to the browser: commands out, their answers and events in."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._count = 0
        self._waiting: dict[int, tuple[trio.Event, list[Json]]] = {}
        self.events: list[Json] = []

    async def listen(self) -> None:
        """Take in what comes, as long as there is a line."""
        async for message in self._socket:
            told = json.loads(message)
            if "id" in told:
                event, answers = self._waiting.pop(told["id"])
                answers.append(told)
                event.set()
            else:
                self.events.append(told)

    async def ask(self, method: str, session: str | None = None, **parameters: object) -> Json:
        """Give a command and wait for its result."""
        self._count += 1
        command = {"id": self._count, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        event, answers = self._waiting[self._count] = (trio.Event(), [])
        await self._socket.send(json.dumps(command))
        with trio.fail_after(ANSWER_WITHIN_S):
            await event.wait()
        assert "error" not in answers[0], (method, answers[0]["error"])
        return cast(Json, answers[0]["result"])


class Page:
    """One tab, with nothing stored from any other."""

    def __init__(self, chromium: Chromium, session: str) -> None:
        self._chromium = chromium
        self._session = session

    async def ask(self, method: str, **parameters: object) -> Json:
        """Give this tab a command."""
        return await self._chromium.ask(method, self._session, **parameters)

    async def evaluate(self, expression: str) -> object:
        """The value of a JavaScript expression in the page."""
        told = await self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in told:
            raise ScriptError(json.dumps(told["exceptionDetails"]))
        return cast(Json, told["result"]).get("value")

    # --- what a person sees ---

    async def text(self, selector: str) -> str | None:
        """What an element says where it can be seen; None: it is not there."""
        found = await self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " return e && e.checkVisibility({visibilityProperty: true}) ? e.innerText : null })()"
        )
        assert found is None or isinstance(found, str)
        return found

    async def texts(self, selector: str) -> list[str]:
        """What all such elements say that can be seen, from top to bottom."""
        found = await self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            ".filter((e) => e.checkVisibility())"
            ".sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)"
            ".map((e) => e.innerText.trim())"
        )
        assert isinstance(found, list)
        return found

    async def reads(self, selector: str, text: str, within_s: float = 20) -> str:
        """Wait until an element says this among other things; returns all it says."""
        said: str | None = None

        async def look() -> str | None:
            nonlocal said
            said = await self.text(selector)
            return said if said is not None and text in said else None

        try:
            return await eventually(look, f"{selector} says {text!r}", within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {said!r}") from None

    async def gone(self, selector: str) -> None:
        """Wait until an element cannot be seen."""

        async def look() -> bool:
            return await self.text(selector) is None

        await eventually(look, f"{selector} is gone")

    async def focused(self) -> str:
        """What has the focus: its id, else its text."""
        found = await self.evaluate("document.activeElement.id || document.activeElement.innerText")
        return str(found)

    async def size(self, width: int, height: int) -> None:
        """Be a window of this size."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    async def prefer(self, scheme: str) -> None:
        """Belong to a person who prefers `light` or `dark`."""
        await self.ask(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    async def picture(self) -> bytes:
        """What the window shows, as PNG."""
        told = await self.ask("Page.captureScreenshot", format="png")
        return base64.b64decode(str(told["data"]))

    # --- what a person does ---

    async def open(self, url: str) -> None:
        """Go to an address."""
        told = await self.ask("Page.navigate", url=url)
        assert "errorText" not in told, told

        async def loaded() -> bool:
            return await self.evaluate("document.readyState") == "complete"

        await eventually(loaded, f"{url} is loaded")

    async def click(self, selector: str) -> None:
        """Click in the middle of an element, once it can be seen and nothing covers it."""
        place = json.dumps(selector)

        async def find() -> list[float] | None:
            found = await self.evaluate(
                f"(() => {{ const e = document.querySelector({place});"
                " if (!e || !e.checkVisibility() || e.disabled) return null;"
                " e.scrollIntoView({block: 'nearest', inline: 'nearest'});"
                " const r = e.getBoundingClientRect();"
                " const [x, y] = [r.left + r.width / 2, r.top + r.height / 2];"
                " const top = document.elementFromPoint(x, y);"
                " return top && (e.contains(top) || top.contains(e)) ? [x, y] : null })()"
            )
            return cast("list[float] | None", found)

        x, y = await eventually(find, f"{selector} can be clicked")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            await self.ask(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    async def point(self, x: float, y: float) -> None:
        """Move the pointer there."""
        await self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    async def type(self, text: str) -> None:
        """Type a text into what has the focus."""
        await self.ask("Input.insertText", text=text)

    async def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key: a name such as Enter, or one character."""
        code, text = _KEYS.get(key, (ord(key[0].upper()), key))
        shared: Json = {
            "key": " " if key == "Space" else key,
            "windowsVirtualKeyCode": code,
            "modifiers": modifiers,
        }
        written = {"text": text} if text else {}
        await self.ask("Input.dispatchKeyEvent", type="keyDown", **shared, **written)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", **shared)

    # --- what went over the line, and what went wrong ---

    def told(self, method: str) -> list[str]:
        """What the browser told of this kind, as JSON; of the network only after Network.enable."""
        return [
            json.dumps(event["params"])
            for event in self._chromium.events
            if event.get("sessionId") == self._session and event["method"] == method
        ]

    async def complaints(self) -> list[str]:
        """What the page's policy stopped, and what it threw or logged as an error."""
        found = await self.evaluate("globalThis.violations")
        assert isinstance(found, list)
        thrown = self.told("Runtime.exceptionThrown")
        return [f"policy: {violation}" for violation in found] + thrown


@asynccontextmanager
async def opened_page(address: str, width: int = 1440, height: int = 900) -> AsyncIterator[Page]:
    """Open a tab of its own in the browser at this address, and close it in the end."""
    async with (
        connect(address, max_size=MAX_MESSAGE_LEN, compression=None) as socket,
        trio.open_nursery() as nursery,
    ):
        chromium = Chromium(socket)
        nursery.start_soon(chromium.listen)
        context = (await chromium.ask("Target.createBrowserContext"))["browserContextId"]
        target = await chromium.ask(
            "Target.createTarget", url="about:blank", browserContextId=context
        )
        attached = await chromium.ask(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = Page(chromium, str(attached["sessionId"]))
        await page.ask("Page.enable")
        await page.ask("Runtime.enable")
        await page.ask("Page.addScriptToEvaluateOnNewDocument", source=_WITNESS)
        # Also while another tab comes or goes.
        await page.ask("Emulation.setFocusEmulationEnabled", enabled=True)
        await page.size(width, height)
        await page.prefer("light")
        yield page
        await chromium.ask("Target.disposeBrowserContext", browserContextId=context)
        nursery.cancel_scope.cancel()
