"""WebSocket servers that repeat what they hear, in two packages.

echoes.py websockets    with websockets, on asyncio
echoes.py aiohttp       with aiohttp's own server

Each prints the port that it serves, and then one line for each connection that has ended: what it
asked for, what was heard on it, and the code of the client's close.

/echo        repeats each message
/ping        pings first, and repeats each message
/close       repeats one message, and closes
/abort       hears one message, and ends the connection without a close
/fragments   repeats each message in fragments (websockets alone)
"""

import asyncio
import hashlib
import json
import sys

CLOSE = (4001, "enough")
PING = bytes(range(125))
PONG_SECONDS_MAX = 20


class Record:
    """What is written down of one connection."""

    def __init__(self, path, headers):
        self.said = {
            "path": path,
            "version": headers.get("Sec-WebSocket-Version"),
            "extensions": headers.get("Sec-WebSocket-Extensions"),
            "heard": [],
            "pong": None,
            "closed": None,
        }

    def hear(self, message):
        is_text = isinstance(message, str)
        content = message.encode() if is_text else message
        digest = hashlib.sha256(content).hexdigest()
        kind = "text" if is_text else "binary"
        self.said["heard"].append([kind, len(content), digest])

    def end(self):
        print(json.dumps(self.said), flush=True)


def fragments(message):
    """Its pieces: of one, two, three … characters or bytes."""
    at, pieces = 0, []
    while at < len(message):
        length = len(pieces) + 1
        pieces.append(message[at : at + length])
        at += length
    return pieces or [message]


async def serve_websockets():
    from websockets.asyncio.server import serve
    from websockets.exceptions import ConnectionClosed

    async def repeat(socket, path, record):
        if path == "/ping":
            await asyncio.wait_for(await socket.ping(PING), PONG_SECONDS_MAX)
            record.said["pong"] = True
        async for message in socket:
            record.hear(message)
            if path == "/abort":
                return socket.transport.abort()
            await socket.send(fragments(message) if path == "/fragments" else message)
            if path == "/close":
                return await socket.close(*CLOSE)

    async def handler(socket):
        path = socket.request.path
        record = Record(path, socket.request.headers)
        try:
            await repeat(socket, path, record)
        except ConnectionClosed:
            pass
        await socket.wait_closed()
        heard = socket.protocol.close_rcvd
        record.said["closed"] = heard and heard.code
        record.end()

    def refuse(connection, request):
        return connection.respond(403, "no\n") if request.path == "/refuse" else None

    async with serve(handler, "127.0.0.1", 0, process_request=refuse) as server:
        print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


async def serve_aiohttp():
    from aiohttp import WSMsgType, web

    async def repeat(socket, request, record):
        if request.path == "/ping":
            await socket.ping(PING)
        async for message in socket:
            if message.type == WSMsgType.PONG:
                record.said["pong"] = message.data == PING
                continue
            record.hear(message.data)
            if request.path == "/abort":
                return request.transport.abort()
            is_text = message.type == WSMsgType.TEXT
            await (socket.send_str if is_text else socket.send_bytes)(message.data)
            if request.path == "/close":
                await socket.close(code=CLOSE[0], message=CLOSE[1].encode())

    async def handler(request):
        if request.path == "/refuse":
            raise web.HTTPForbidden
        record = Record(request.path, request.headers)
        socket = web.WebSocketResponse(autoping=request.path != "/ping")
        await socket.prepare(request)
        await repeat(socket, request, record)
        record.said["closed"] = socket.close_code
        record.end()
        return socket

    app = web.Application()
    app.add_routes([web.get("/{path}", handler)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"listening on port {runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve_websockets() if sys.argv[1] == "websockets" else serve_aiohttp())
