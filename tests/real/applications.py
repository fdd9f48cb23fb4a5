"""One application, in two frameworks: it says what it was sent, sets cookies and streams.
Of a body it says how long it was, and its hash.

applications.py aiohttp    serves it with aiohttp's own server
applications.py flask      serves it with Flask, on werkzeug's server

Each prints the port that it serves.
"""

import asyncio
import hashlib
import json
import sys
import time

PIECE_BYTES = 64 * 1024


def pieces(count):
    """What is streamed: `count` pieces, each of another byte."""
    for number in range(count):
        yield bytes([number % 251]) * PIECE_BYTES


class Content:
    """How much came, and its hash."""

    def __init__(self, piece=b""):
        self.bytes, self.digest = 0, hashlib.sha256()
        self.take(piece)

    def take(self, piece):
        self.bytes += len(piece)
        self.digest.update(piece)

    def said(self):
        return {"bytes": self.bytes, "sha256": self.digest.hexdigest()}


def told(request, content, fields=(), files=()):
    """What the application says of a request."""
    headers = request.headers
    return {
        "method": request.method,
        "path": request.path,
        "type": headers.get("Content-Type"),
        "length": headers.get("Content-Length"),
        "coding": headers.get("Transfer-Encoding"),
        "expect": headers.get("Expect"),
        "fields": fields,
        "files": files,
        **content.said(),
    }


async def serve_aiohttp():
    from aiohttp import web

    async def form(request):
        fields = [[name, value] for name, value in (await request.post()).items()]
        return web.json_response(told(request, Content(), fields))

    async def upload(request):
        fields, files = [], []
        async for part in await request.multipart():
            content, text = Content(), b""
            while piece := await part.read_chunk():
                content.take(piece)
                text += piece if part.filename is None else b""
            kind = part.headers.get("Content-Type")
            if part.filename is None:
                fields.append([part.name, text.decode()])
            else:
                files.append([part.name, part.filename, kind, content.said()])
        return web.json_response(told(request, Content(), fields, files))

    async def body(request):
        content = Content()
        async for piece in request.content.iter_any():
            content.take(piece)
        return web.json_response(told(request, content))

    async def echo(request):
        answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        await answer.prepare(request)
        async for piece in request.content.iter_any():
            await answer.write(piece)
        return answer

    async def refuse(request):
        raise web.HTTPRequestEntityTooLarge(0, 1)

    async def stream(request):
        answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        await answer.prepare(request)
        for piece in pieces(int(request.query["pieces"])):
            await answer.write(piece)
            await asyncio.sleep(float(request.query.get("pause", "0")))
        return answer

    async def cut(request):
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        await answer.write(b"a beginning")
        request.transport.abort()
        return answer

    async def enter(request):
        answer = web.HTTPSeeOther("/visits")
        answer.set_cookie("visits", "0", path="/", httponly=True)
        raise answer

    async def visits(request):
        count = int(request.cookies["visits"]) + 1
        answer = web.Response(text=str(count))
        answer.set_cookie("visits", str(count), path="/", httponly=True)
        return answer

    app = web.Application()
    app.add_routes(
        [
            web.post("/form", form),
            web.post("/upload", upload),
            web.post("/body", body),
            web.put("/body{name:.*}", body),
            web.put("/echo", echo),
            web.put("/refuse", refuse),
            web.get("/stream", stream),
            web.get("/cut", cut),
            web.post("/enter", enter),
            web.get("/visits", visits),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"listening on port {runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


def serve_flask():
    from flask import Flask, Response, redirect, request
    from werkzeug.serving import WSGIRequestHandler, make_server

    app = Flask("application")

    def said(*heard):
        return json.dumps(told(request, *heard))

    @app.post("/form")
    def form():
        fields = [[name, value] for name, value in request.form.items(multi=True)]
        return said(Content(), fields)

    @app.post("/upload")
    def upload():
        fields = [[name, value] for name, value in request.form.items(multi=True)]
        files = []
        for name, file in request.files.items(multi=True):
            content = Content()
            while piece := file.read(PIECE_BYTES):
                content.take(piece)
            files.append([name, file.filename, file.headers.get("Content-Type"), content.said()])
        return said(Content(), fields, files)

    @app.post("/body")
    @app.put("/body", defaults={"name": ""})
    @app.put("/body/<path:name>")
    def body(name=""):
        content = Content()
        while piece := request.stream.read(PIECE_BYTES):
            content.take(piece)
        return said(content)

    @app.get("/stream")
    def stream():
        count, pause = int(request.args["pieces"]), float(request.args.get("pause", "0"))

        def slowly():
            for piece in pieces(count):
                yield piece
                time.sleep(pause)

        return Response(slowly(), mimetype="application/octet-stream")

    @app.get("/cut")
    def cut():
        def begin():
            yield b"a beginning"
            raise ConnectionError("this was planned")

        return Response(begin())

    @app.post("/enter")
    def enter():
        answer = redirect("/visits", 303)
        answer.set_cookie("visits", "0", httponly=True)
        return answer

    @app.get("/visits")
    def visits():
        count = int(request.cookies["visits"]) + 1
        answer = Response(str(count))
        answer.set_cookie("visits", str(count), httponly=True)
        return answer

    # It speaks HTTP/1.0 unless it is told; then it keeps connections and sends chunks.
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"listening on port {server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "aiohttp":
        asyncio.run(serve_aiohttp())
    else:
        serve_flask()
