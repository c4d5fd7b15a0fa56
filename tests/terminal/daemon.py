"""A daemon of a few lines, in a thread: it answers what it was told to, and notes who asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

KEY: Final = "k" * 32


class FakeDaemon:
    """Answers by method and path.

    Attributes:
        answers: "GET /readyz" -> status and body; what is not there is 404.
        asked: every request, in order.
    """

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Mapping[str, object] | str]] = {
            "GET /readyz": (200, {"status": "ok"}),
            "GET /metrics": (200, "process_max_fds 65536.0\n"),
            "GET /admin/devices": (200, {"devices": [], "counts": {}, "next": None}),
        }
        self.asked: list[str] = []
        self.url = ""

    def answer(self, method: str, target: str, key: str | None) -> tuple[int, bytes]:
        """Answer a request."""
        self.asked.append(f"{method} {target}")
        path = target.partition("?")[0]
        status, body = self.answers.get(f"{method} {path}", (404, {"message": "There is none."}))
        if path.startswith("/admin") and key != KEY:
            status, body = 401, {"code": "unauthorized"}
        return status, (body if isinstance(body, str) else json.dumps(body)).encode()


@contextmanager
def fake_daemon() -> Iterator[FakeDaemon]:
    """Serve for as long as the block runs."""
    daemon = FakeDaemon()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Answer."""
            status, body = daemon.answer(self.command, self.path, self.headers.get("x-admin-key"))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        daemon.url = f"http://127.0.0.1:{server.server_port}"
        # Looks whether to end as often as this.
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield daemon
        finally:
            server.shutdown()
            thread.join()
