"""Servers with accounts, and what `fetch` must do to be let in and to keep a session.

sessions.py aiohttp WORK       serves accounts, plain and over TLS with the certificates in WORK,
                               which is on the port above
sessions.py flask WORK         serves httpbin, and what Flask-HTTPAuth guards below /guarded
sessions.py passwords FOLDER   writes the files of passwords that httpd reads
sessions.py digests FOLDER     writes those that lighttpd reads
sessions.py check FETCH WORK AIOHTTP_PORT FLASK_PORT HTTPD_PORT LIGHTTPD_PORT
                               drives FETCH against them
"""

import asyncio
import base64
import hashlib
import http.cookiejar
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import urllib.request
from importlib import metadata

from checks import Checks, Log, version_of
from driving import one_by_one

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


USER, PASSWORD, REALM = "me", "hu:sh \u00e9", "private pages"
TOKEN = "a-token.of~mine"


def write_passwords(folder):
    digest = hashlib.md5(f"{USER}:{REALM}:{PASSWORD}".encode()).hexdigest()
    hashed = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
    with open(f"{folder}/digests", "w", encoding="utf-8") as file:
        file.write(f"{USER}:{REALM}:{digest}\n")
    with open(f"{folder}/passwords", "w", encoding="utf-8") as file:
        file.write(f"{USER}:{{SHA}}{hashed}\n")


def write_digests(folder):
    def line(algorithm):
        digest = hashlib.new(algorithm, f"{USER}:{REALM}:{PASSWORD}".encode()).hexdigest()
        return f"{USER}:{REALM}:{digest}\n"

    with open(f"{folder}/digests", "w", encoding="utf-8") as file:
        file.write(line("md5") + line("sha256"))
    with open(f"{folder}/digests-512", "w", encoding="utf-8") as file:
        file.write(line("sha512_256"))


def neighbours():
    """Two sockets that listen, the second on the port above the first one's."""
    while True:
        first = socket.create_server(("127.0.0.1", 0))
        try:
            return first, socket.create_server(("127.0.0.1", first.getsockname()[1] + 1))
        except OSError:
            first.close()


def serve_flask():
    from httpbin import app
    from werkzeug.middleware.dispatcher import DispatcherMiddleware
    from werkzeug.serving import make_server

    both = DispatcherMiddleware(app, {"/guarded": guarded()})
    server = make_server("127.0.0.1", 0, both, threaded=True)
    print(f"listening on port {server.port}", flush=True)
    server.serve_forever()


def guarded():
    """Answers with what the guard knows of who asks."""
    from flask import Flask, request
    from flask_httpauth import HTTPDigestAuth, HTTPTokenAuth

    app = Flask("guarded")
    app.secret_key = os.urandom(16)
    session = HTTPDigestAuth(realm=REALM, algorithm="MD5-Sess")
    # As RFC 2069 had it: without a count, or what the client has drawn.
    old = HTTPDigestAuth(realm=REALM, qop=None)
    token = HTTPTokenAuth(realm=REALM)
    for guard in (session, old):
        guard.get_password({USER: PASSWORD}.get)
    token.verify_token(lambda given: USER if given == TOKEN else None)

    @app.route("/session")
    @session.login_required
    def of_session():
        given = request.authorization
        return f"{session.username()} {given.algorithm} {given.nc}"

    @app.route("/old")
    @old.login_required
    def of_old():
        return f"{old.username()} {request.authorization.qop}"

    @app.route("/token")
    @token.login_required
    def of_token():
        return token.current_user()

    return app


async def serve_aiohttp(work):
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
    plain, secure = neighbours()
    await web.SockSite(runner, plain).start()
    await web.SockSite(runner, secure, ssl_context=tls).start()
    port = plain.getsockname()[1]
    print(f"listening on port {port}", flush=True)
    await asyncio.Event().wait()


class Sessions(Checks):
    def __init__(self, fetch, work, ports):
        super().__init__(fetch, "--cacert", f"{work}/ca.pem")
        self.fetch, self.work = fetch, work
        self.port, self.flask_port, self.httpd_port, self.lighttpd_port = ports

    def url(self, path, host="127.0.0.1"):
        return f"http://{host}:{self.port}{path}"

    def secure(self, path):
        return f"https://localhost:{self.port + 1}{path}"

    def run(self, jobs, *options, at_once=1):
        """The results of jobs: one after another, each sees what the last has set."""
        return super().run(jobs, "-c", str(at_once), *options)

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

    def digest_with_httpd(self):
        at = f"http://127.0.0.1:{self.httpd_port}"
        login = {"auth": {"digest": f"{USER}:{PASSWORD}"}}
        page = {"url": f"{at}/digest/page", **login}
        query = {"url": f'{at}/digest/page?a=1&b="2"', **login}
        results = self.run([page, page, query, page])
        self.outcomes("digest", results, [(200, 2), (200, 1), (200, 1), (200, 1)])
        self.equal("a page", {result["body"] for result in results}, {"a page"})
        wrong = {**page, "auth": {"digest": f"{USER}:wrong"}}
        stranger = {**page, "auth": {"digest": "you:wrong"}}
        results = self.run([wrong, stranger, {"url": page["url"]}, page])
        self.outcomes("wrong logins", results, [(401, 2), (401, 2), (401, 1), (200, 2)])
        away = {"url": f"{at}/away", **login}
        self.outcomes("another origin", self.run([page, away]), [(200, 2), (401, 2)])
        many = [{**page, "url": f"{page['url']}?{number}"} for number in range(300)]
        results = self.run(many, at_once=20)
        self.equal("many", {result["status"] for result in results}, {200})
        most = 300 + 20
        self.equal("few challenges", sum(result["attempts"] for result in results) <= most, True)
        once = {**page, "url": f"{at}/once/page"}
        self.outcomes("nextnonce", self.run([once] * 4), [(200, 2)] + [(200, 1)] * 3)
        with_user = f"http://{USER}:hu%3Ash%20%C3%A9@127.0.0.1:{self.httpd_port}/digest/page"
        self.outcomes("in the URL", self.run([{"url": with_user}], "--digest"), [(200, 2)])
        options = ["--digest", "-u", f"{USER}:{PASSWORD}"]
        self.outcomes("-u", self.run([{"url": page["url"]}], *options), [(200, 2)])

    def stale_nonces(self):
        job = {
            "url": f"http://127.0.0.1:{self.httpd_port}/brief/page",
            "auth": {"digest": f"{USER}:{PASSWORD}"},
        }
        results = one_by_one(self.fetch, job, (0, 0, 2.5))
        self.outcomes("a stale nonce", results, [(200, 2), (200, 1), (200, 2)])

    def basic_with_httpd(self):
        at = f"http://127.0.0.1:{self.httpd_port}/basic/page"
        elsewhere = f"http://localhost:{self.httpd_port}/basic/page"
        login = {"auth": {"basic": f"{USER}:{PASSWORD}"}}
        results = self.run([{"url": at, **login}, {"url": at}])
        self.outcomes("basic", results, [(200, 1), (401, 1)])
        netrc = f"{self.work}/netrc"
        with open(netrc, "w", encoding="utf-8") as file:
            file.write(f'machine 127.0.0.1\n  login {USER} password "{PASSWORD}"\n')
        results = self.run([{"url": at}, {"url": elsewhere}], "--netrc-file", netrc)
        self.outcomes("netrc", results, [(200, 1), (401, 1)])

    def what_httpd_saw(self):
        """No password in clear but where it was meant to be, and nothing at another origin."""
        with open(f"{self.work}/httpd/requests", encoding="utf-8") as file:
            lines = file.read().splitlines()
        for line in lines:
            status, host, path, authorization = line.split(" ", 3)
            if path.startswith("/basic/"):
                expected = ("Basic ",) if (host, status) == ("127.0.0.1", "200") else ("-", "Basic ")
            elif host == "localhost":
                expected = ("-",)
            else:
                expected = ("-", "Digest ")
            if not authorization.startswith(expected):
                raise AssertionError(f"httpd saw {line!r}")
        self.equal("requests", len(lines) > 300, True)

    def digest_with_httpbin(self):
        """Its digests need the cookie that it sets with its challenge."""
        at = f"http://127.0.0.1:{self.flask_port}/digest-auth/auth"
        for algorithm in ("MD5", "SHA-256"):
            for user, password in (("me", "hush"), ("me", "wrong")):
                job = {
                    "url": f"{at}/me/hush/{algorithm}",
                    "auth": {"digest": f"{user}:{password}"},
                }
                is_right = password == "hush"
                self.outcomes(algorithm, self.run([job]), [(200 if is_right else 401, 2)])
        login = {"auth": {"digest": "me:hush"}}
        job = {"url": f"{at}/me/hush/SHA-256/2", **login}
        statuses = [result["status"] for result in self.run([job] * 4)]
        self.equal("stale now and then", statuses, [200] * 4)

    def digest_with_flask(self):
        """MD5-sess, Digest without qop, and tokens; its nonces need the cookie, too."""
        at = f"http://127.0.0.1:{self.flask_port}/guarded"
        for path, algorithm in (("session", "MD5-Sess"), ("old", None)):
            page = {"url": f"{at}/{path}", "auth": {"digest": f"{USER}:{PASSWORD}"}}
            results = self.run([page] * 3)
            self.outcomes(path, results, [(200, 2), (200, 1), (200, 1)])
            if algorithm:
                seen = [f"{USER} {algorithm} {count:08}" for count in (1, 2, 3)]
            else:
                seen = [f"{USER} None"] * 3
            self.equal(f"{path}, as it was seen", [result["body"] for result in results], seen)
            wrong = {**page, "auth": {"digest": f"{USER}:wrong"}}
            self.outcomes(f"{path}, wrong", self.run([wrong]), [(401, 2)])
        token = {"url": f"{at}/token"}
        given = [{**token, "auth": {"bearer": value}} for value in (TOKEN, "another")]
        results = self.run([token, *given])
        self.outcomes("tokens", results, [(401, 1), (200, 1), (401, 1)])
        self.equal("whose it is", results[1]["body"], USER)

    def digest_with_lighttpd(self):
        """Each algorithm by itself; where there are two, the stronger one."""
        at = f"http://127.0.0.1:{self.lighttpd_port}"
        expected = []
        for folder in ("MD5", "SHA-256", "SHA-512-256", "SHA-256-or-MD5"):
            algorithm = folder.partition("-or-")[0]
            page = {"url": f"{at}/{folder}/page", "auth": {"digest": f"{USER}:{PASSWORD}"}}
            results = self.run([page] * 3)
            self.outcomes(folder, results, [(200, 2), (200, 1), (200, 1)])
            self.equal("a page", {result["body"] for result in results}, {"a page"})
            wrong = {**page, "auth": {"digest": f"{USER}:wrong"}}
            self.outcomes(f"{folder}, wrong", self.run([wrong]), [(401, 2)])
            of_folder = [(401, None), *[(200, algorithm)] * 3, (401, None), (401, algorithm)]
            expected += [(status, f"/{folder}/page", used) for status, used in of_folder]
        seen = []
        for line in Log(f"{self.work}/lighttpd/requests").new(len(expected)):
            status, path, given = line.split(" ", 2)
            used = re.search(r"\balgorithm=([\w-]+)", given)
            self.equal("no password", given.startswith(("-", "Digest ")), True)
            seen.append((int(status), path, used and used[1]))
        self.equal("as lighttpd saw it", seen, expected)

    def outcomes(self, what, results, expected):
        found = [(result["status"], result["attempts"]) for result in results]
        self.equal(what, found, expected)


def main():
    if sys.argv[1] == "aiohttp":
        asyncio.run(serve_aiohttp(sys.argv[2]))
    elif sys.argv[1] == "flask":
        serve_flask()
    elif sys.argv[1] == "digests":
        write_digests(sys.argv[2])
    elif sys.argv[1] == "passwords":
        write_passwords(sys.argv[2])
    else:
        checks = Sessions(*sys.argv[2:4], [int(port) for port in sys.argv[4:]])
        checks.session()
        checks.values()
        checks.files()
        checks.digest_with_httpd()
        checks.stale_nonces()
        checks.basic_with_httpd()
        checks.what_httpd_saw()
        checks.digest_with_httpbin()
        checks.digest_with_flask()
        checks.digest_with_lighttpd()
        packages = ("aiohttp", "httpbin", "Flask-HTTPAuth")
        versions = [f"{name} {metadata.version(name)}" for name in packages]
        versions += [version_of("apache2", "-v"), version_of("lighttpd", "-v")]
        print(f"sessions: passed, {checks.count} checks against {', '.join(versions)}")


if __name__ == "__main__":
    main()
