"""What the server tells a device by itself, at the wish of a test: routes of the control API.

Notifications of every kind are written out by whoever wants them sent: the server forwards what it
has no part in.
"""

from __future__ import annotations

from quart import Response, jsonify
from quart_trio import QuartTrio

from .requests import companion_of, read_body
from .server import Server


def add_announcements(app: QuartTrio, server: Server) -> None:
    """Add the routes."""

    @app.post("/devices/<jid>/notifications")
    async def notify(jid: str) -> Response:
        device, body = companion_of(server, jid), await read_body()
        sender = body.optional_jid("from")
        node = server.router.announce(
            device, body.text("type"), body.stanzas("content"), from_=sender
        )
        return jsonify({"id": node.required_text("id")})

    @app.post("/devices/<jid>/dirty")
    async def make_dirty(jid: str) -> Response:
        device, body = companion_of(server, jid), await read_body()
        server.make_dirty(device, body.text("type"))
        return jsonify({"dirty": device.dirty})

    @app.get("/props")
    async def show_props() -> Response:
        return jsonify(server.desk.props)

    @app.put("/props")
    async def set_props() -> Response:
        server.desk.props = (await read_body()).texts()
        return jsonify(server.desk.props)
