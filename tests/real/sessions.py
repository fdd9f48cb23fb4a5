"""A server with accounts on aiohttp, and what `fetch` must do to keep a session with it.

sessions.py serve WORK               serves, plain and over TLS with the certificates in WORK
sessions.py check FETCH WORK PORT    drives FETCH against it; TLS is on the port above
"""

import asyncio
import http.cookiejar
import json
import os
import ssl
import subprocess
import sys
import urllib.request

# A value for each kind of byte that servers put into cookies, some of which must be quoted.
VALUES = {
    "plain": "abc123",
    "spaced": "a b  c",
    "comma": "a,b",
    "semicolon": "a;b",
    "quote": 'say "hi"',
    "equals": "a=b==",
    "empty": "",
    "json": '{"a": [1, 2]}',
    "accent": "caf\u00e9",
    "long": "x" * 1000,
}


async def serve(work):
    from aiohttp import web

    async def login(request):
        form = await request.post()
        if (form.get("user"), form.get("password")) != ("me", "hush"):
            raise web.HTTPForbidden(text="who are you?")
        answer = web.HTTPSeeOther("/account/home")
        answer.set_cookie("session", "s-17", httponly=True, samesite="Lax")
        answer.set_cookie("area", "a-1", path="/account", max_age=600)
        raise answer

    async def logout(request):
        answer = web.HTTPSeeOther("/account/home")
        answer.del_cookie("session")
        raise answer

    async def home(request):
        if request.cookies.get("session") != "s-17":
            raise web.HTTPUnauthorized(text="log in first")
        return web.Response(text="hello me")

    async def show(request):
        fields = request.headers.getall("Cookie", [])
        return web.json_response({"fields": len(fields), "cookies": dict(request.cookies)})

    async def values(request):
        answer = web.json_response(None)
        for name, value in VALUES.items():
            answer.set_cookie(name, value)
        answer.set_cookie("tls-only", "1", secure=True)
        answer.set_cookie("brief", "1", max_age=0)
        answer.set_cookie("stray", "1", domain="example.com")
        answer.set_cookie("__Host-mine", "1", secure=True)
        return answer

    app = web.Application()
    app.add_routes(
        [
            web.post("/login", login),
            web.get("/logout", logout),
            web.get("/account/home", home),
            web.get("/account/show", show),
            web.get("/show", show),
            web.get("/values", values),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"{work}/server.pem", f"{work}/server.key")
    for _ in range(100):
        plain = web.TCPSite(runner, "127.0.0.1", 0)
        await plain.start()
        port = runner.addresses[0][1]
        try:
            await web.TCPSite(runner, "127.0.0.1", port + 1, ssl_context=tls).start()
            break
        except OSError:
            await plain.stop()
    print(f"listening on port {port}", flush=True)
    await asyncio.Event().wait()


class Checks:
    def __init__(self, fetch, work, port):
        self.fetch, self.work, self.port = fetch, work, port
        self.count = 0

    def url(self, path, host="127.0.0.1"):
        return f"http://{host}:{self.port}{path}"

    def secure(self, path):
        return f"https://localhost:{self.port + 1}{path}"

    def run(self, jobs, *options):
        """The results of jobs, one after another, of which each sees what the last has set."""
        lines = "".join(json.dumps(job) + "\n" for job in jobs)
        command = [self.fetch, "-s", "--json", "--ordered", "-c", "1", "--jobs", "-"]
        command += ["--cacert", f"{self.work}/ca.pem", *options]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60)
        if done.stderr:
            raise AssertionError(done.stderr)
        results = [json.loads(line) for line in done.stdout.splitlines()]
        if len(results) != len(jobs):
            raise AssertionError(f"{len(results)} results of {len(jobs)} jobs")
        return results

    def equal(self, what, found, expected):
        if found != expected:
            raise AssertionError(f"{what}: {found!r:.2000} is not {expected!r:.2000}")
        self.count += 1

    def seen(self, result):
        """The cookies that the server saw, in one field or none."""
        self.equal("status", result["status"], 200)
        seen = json.loads(result["body"])
        self.equal("fields", seen["fields"], min(1, len(seen["cookies"])))
        return seen["cookies"]

    def session(self):
        form = {"headers": [["Content-Type", "application/x-www-form-urlencoded"]]}
        login = {"url": self.url("/login"), "body": "user=me&password=hush", **form}
        home = {"url": self.url("/account/home")}
        show = {"url": self.url("/account/show")}
        jobs = [home, login, home, show, {"url": self.url("/show")}]
        jobs += [{**show, "cookies": False}, {"url": self.url("/account/show", "localhost")}]
        jobs += [{"url": self.url("/logout")}, show]
        results = self.run(jobs)
        statuses = [result["status"] for result in results]
        self.equal("statuses", statuses, [401, 200, 200, 200, 200, 200, 200, 401, 200])
        self.equal("behind the login", results[1]["body"], "hello me")
        self.equal("redirects", results[1]["redirects"][0]["status"], 303)
        both = {"session": "s-17", "area": "a-1"}
        self.equal("in the area", self.seen(results[3]), both)
        self.equal("outside of it", self.seen(results[4]), {"session": "s-17"})
        self.equal("unasked", self.seen(results[5]), {})
        self.equal("another host", self.seen(results[6]), {})
        self.equal("logged out", self.seen(results[8]), {"area": "a-1"})
        results = self.run([login, home], "--no-cookies")
        self.equal("without a jar", [result["status"] for result in results], [401, 401])

    def values(self):
        plain = [{"url": self.url(path)} for path in ("/values", "/show")]
        seen = self.seen(self.run(plain)[1])
        self.equal("values", seen, VALUES)
        over_tls = [{"url": self.secure(path)} for path in ("/values", "/show")]
        unsafe = {"url": self.url("/show", "localhost")}
        results = self.run([*over_tls, unsafe])
        secure = {"tls-only": "1", "__Host-mine": "1"}
        self.equal("values over TLS", self.seen(results[1]), {**VALUES, **secure})
        self.equal("values without it", self.seen(results[2]), VALUES)

    def files(self):
        ours, curls, pythons = (f"{self.work}/{name}" for name in ("ours", "curls", "pythons"))
        self.run([{"url": self.url("/values")}], "--cookie-jar", ours)
        curl = ["curl", "-sS", "--fail", "-b"]
        done = subprocess.run([*curl, ours, self.url("/show")], capture_output=True, check=True)
        self.equal("our file, by curl", json.loads(done.stdout)["cookies"], VALUES)
        jar = http.cookiejar.MozillaCookieJar(ours)
        jar.load(ignore_discard=True, ignore_expires=True)
        for cookie in jar:
            # Curl's way to say "as long as the session", which Python does not know.
            cookie.expires = cookie.expires or None
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        seen = json.load(opener.open(self.url("/show")))["cookies"]
        self.equal("our file, by Python", seen, VALUES)
        subprocess.run(
            ["curl", "-sS", "--fail", "-c", curls, self.url("/values")],
            capture_output=True,
            check=True,
        )
        show = [{"url": self.url("/show")}]
        self.equal("curl's file", self.seen(self.run(show, "-b", curls)[0]), VALUES)
        jar = http.cookiejar.MozillaCookieJar(pythons)
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        opener.open(self.url("/values")).read()
        jar.save(ignore_discard=True)
        self.equal("Python's file", self.seen(self.run(show, "-b", pythons)[0]), VALUES)
        self.equal("its mode", os.stat(ours).st_mode & 0o777, 0o600)


def main():
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2]))
    fetch, work, port = sys.argv[2:]
    checks = Checks(fetch, work, int(port))
    checks.session()
    checks.values()
    checks.files()
    import aiohttp

    print(f"sessions: passed, {checks.count} checks against aiohttp {aiohttp.__version__}")


if __name__ == "__main__":
    main()
