"""What httpd's filters and CGI programs send, and what `fetch` makes of it.

cgi.py pages DIRECTORY          makes the pages that are served
cgi.py drive FETCH WORK PORT    drives FETCH against httpd
"""

import collections
import json
import os
import random
import sys

from checks import Checks, body_of, headers_of, lines_of, sha256, version_of

LINES = (1, 100, 200_000)
CODINGS = {"br": "br", "gzip": "gzip"}


def drip(count):
    return "".join(f"{number} squared is {number * number}\n" for number in range(count)).encode()


def make(directory):
    for name, content in (
        ("short", b"a short page\n"),
        ("text", drip(40_000)),
        ("noise", random.Random(7).randbytes(300_000)),
        ("zeros", bytes(500_000)),
    ):
        with open(os.path.join(directory, name), "wb") as file:
            file.write(content)


class Cases:
    def __init__(self, fetch, work, port):
        self.checks, self.work = Checks(fetch), work
        self.base = f"http://127.0.0.1:{port}"
        self.asked = collections.Counter()

    def run(self, paths, *options, **more):
        jobs = [{"url": f"{self.base}{path}", **more} for path in paths]
        self.asked.update(path.split("?")[0] for path in paths)
        return self.checks.run(jobs, *options)

    def pages(self):
        """Files, coded by httpd as it sends them."""
        checks = self.checks
        names = sorted(os.listdir(f"{self.work}/httpd/pages"))
        paths = [f"/{way}/{name}" for way in ("plain", *CODINGS) for name in names] * 3
        for path, result in zip(paths, self.run(paths)):
            _, way, name = path.split("/")
            with open(f"{self.work}/httpd/pages/{name}", "rb") as file:
                content = file.read()
            checks.equal(path, sha256(body_of(result)), sha256(content))
            headers = headers_of(result)
            coding, wanted = headers.get("content-encoding"), CODINGS.get(way)
            is_worth_it = name in ("text", "zeros")
            # Of what is very short httpd makes no gzip.
            expected = (wanted,) if wanted is None or is_worth_it else (wanted, None)
            checks.true(f"{path}: coding", coding in expected, coding)
            if wanted and is_worth_it:
                checks.true("it is smaller", result["wire_bytes"] < len(content) / 3, path)
        for path, result in zip(paths, self.run(paths[:12], decode=False)):
            coding = headers_of(result).get("content-encoding")
            checks.equal(f"{path}: not asked for", coding, None)

    def programs(self):
        """Output of no known length, chunked, coded or not, on connections that are kept."""
        checks = self.checks
        ways = {"cgi": None, "cgi-br": "br", "cgi-gzip": "gzip"}
        cases = [(way, count) for way in ways for count in LINES]
        paths = [f"/{way}/drip.cgi?{count}" for way, count in cases]
        results = self.run(paths, "-c", "3")
        for (way, count), result in zip(cases, results):
            headers = headers_of(result)
            checks.equal(f"{way} {count}", body_of(result), drip(count))
            # What ends at once httpd counts.
            framing = (headers.get("transfer-encoding"), "content-length" in headers)
            expected = (("chunked", False), (None, True))[: 2 if count < LINES[-1] else 1]
            checks.true(f"{way} {count}: framing", framing in expected, framing)
            if count > 1:
                checks.equal("coding", headers.get("content-encoding"), ways[way])
        kept = sum(result["reused"] for result in results)
        checks.true("connections are kept", kept >= len(results) - 3, kept)

    def echoes(self):
        checks = self.checks
        body = "a=1&b=\u00e9 \u2028" * 1_000
        headers = [["X-Something", "a, b;c"], ["Content-Type", "text/x-own"]]
        more = {"headers": headers, "body": body, "method": "PUT"}
        (result,) = self.run(["/cgi/echo.cgi/more/path?x=%20y&z"], "-A", "me/1", **more)
        checks.equal("status", (result["status"], result["reason"]), (201, "Echoed"))
        cookies = [value for name, value in result["headers"] if name == "Set-Cookie"]
        checks.equal("both fields", cookies, ["cgi=1; Path=/", "by=httpd; Path=/"])
        told = json.loads(result["body"])
        expected = {
            "REQUEST_METHOD": "PUT",
            "QUERY_STRING": "x=%20y&z",
            "CONTENT_TYPE": "text/x-own",
            "CONTENT_LENGTH": str(len(body.encode())),
            "HTTP_USER_AGENT": "me/1",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "PATH_INFO": "/more/path",
            "HTTP_X_SOMETHING": "a, b;c",
            "HTTP_COOKIE": None,
            "sha256": sha256(body.encode()),
        }
        checks.equal("what the program was told", told, expected)
        _, second = self.run(["/cgi/echo.cgi", "/cgi/echo.cgi"], "-c", "1")
        cookies = json.loads(second["body"])["HTTP_COOKIE"]
        checks.equal("cookies, as it saw them", cookies, "cgi=1; by=httpd")
        (head,) = self.run(["/cgi/drip.cgi?100"], method="HEAD")
        checks.equal("HEAD", (head["status"], head["bytes"]), (200, 0))

    def what_httpd_saw(self):
        """Each request once, and a coding only where one was asked for."""
        seen = collections.Counter()
        for line in lines_of(f"{self.work}/httpd/requests"):
            _, method, path, *asked, coding = line.split(" ")
            seen[path] += 1
            if coding != "-" and method != "HEAD":
                self.checks.true("asked for", any(coding in each for each in asked), line)
        self.checks.equal("requests", seen, self.asked)


def main():
    if sys.argv[1] == "pages":
        return make(sys.argv[2])
    cases = Cases(*sys.argv[2:])
    cases.pages()
    cases.programs()
    cases.echoes()
    cases.what_httpd_saw()
    print(
        f"cgi: passed, {cases.checks.count} checks against {version_of('apache2', '-v')}: "
        f"br and gzip of files and of programs, chunked, {sum(cases.asked.values())} requests"
    )
    return None


if __name__ == "__main__":
    main()
