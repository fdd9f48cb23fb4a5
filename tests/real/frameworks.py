"""frameworks.py FETCH WORK AIOHTTP_PORT FLASK_PORT: drives FETCH against the application of
applications.py in each framework, and holds what it was told against what was sent."""

import hashlib
import json
import random
import subprocess
import sys
import urllib.parse
from importlib import metadata

from applications import PIECE_BYTES, pieces
from checks import Checks, body_of, headers_of, sha256

FORM = "application/x-www-form-urlencoded"
# What forms have to escape, and what they need not.
FIELDS = [
    ["plain", "value"],
    ["spaces and +", "a b  c+d"],
    ["&=;%", "a&b=c;d%20e"],
    ["empty", ""],
    ["twice", "first"],
    ["twice", "second"],
    ["accents", "caf\u00e9 \u20ac \U0001f415"],
    ["lines", "one\r\ntwo"],
]
LARGE_BYTES = 3_000_000
PIECES = (0, 1, 5, 128)


class Cases:
    def __init__(self, fetch, work, port):
        self.checks, self.fetch, self.work = Checks(fetch), fetch, work
        self.base = f"http://127.0.0.1:{port}"

    def told(self, *arguments):
        """What the application was told by one request from the command line."""
        command = [self.fetch, "-s", *arguments]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        self.checks.equal("exit status", (done.returncode, done.stderr), (0, b""))
        return json.loads(done.stdout)

    def file(self, name, content):
        path = f"{self.work}/{name}"
        with open(path, "wb") as file:
            file.write(content)
        return path

    def forms(self):
        """Urlencoded by the caller, as curl's -d has it: the text, or a file's bytes."""
        checks, encoded = self.checks, urllib.parse.urlencode([tuple(field) for field in FIELDS])
        headers = [["Content-Type", FORM]]
        job = {"url": f"{self.base}/form", "body": encoded, "headers": headers}
        for result in checks.run([job] * 3, "-c", "1"):
            told = json.loads(result["body"])
            checks.equal("fields", (told["method"], told["fields"]), ("POST", FIELDS))
            checks.equal("framing", (told["length"], told["coding"]), (str(len(encoded)), None))
        file = self.file("form", encoded.encode())
        for data in (encoded, f"@{file}"):
            told = self.told("-H", f"Content-Type: {FORM}", "-d", data, f"{self.base}/form")
            checks.equal("fields of -d", told["fields"], FIELDS)

    def bodies(self):
        """Bytes of all kinds, from jobs and from files, on one connection and on several."""
        checks, chance = self.checks, random.Random(5)
        large = chance.randbytes(LARGE_BYTES)
        path = self.file("large", large)
        told = self.told("-X", "PUT", "-d", f"@{path}", f"{self.base}/body")
        found = (told["method"], told["bytes"], told["sha256"])
        checks.equal("-d @FILE", found, ("PUT", LARGE_BYTES, sha256(large)))
        checks.equal("its length", (told["length"], told["coding"]), (str(LARGE_BYTES), None))
        empty = self.file("nothing", b"")
        checks.equal("an empty file", self.told("-d", f"@{empty}", f"{self.base}/body")["bytes"], 0)
        texts = ["", "text", "\x00\r\n\u20ac" * 1_000, "x" * 200_000] * 5
        jobs = [{"url": f"{self.base}/body", "body": text} for text in texts]
        for text, result in zip(texts, checks.run(jobs, "-c", "4")):
            told, content = json.loads(result["body"]), text.encode()
            found = (told["bytes"], told["length"], told["sha256"])
            checks.equal("a body", found, (len(content), str(len(content)), sha256(content)))

    def streams(self):
        """Downloads of no known length, some of them slow; and one that is cut."""
        checks = self.checks
        jobs = [{"url": f"{self.base}/stream?pieces={count}"} for count in PIECES]
        jobs += [{"url": f"{self.base}/stream?pieces=5&pause=0.05"}] * 4
        for job, result in zip(jobs, checks.run(jobs)):
            count = int(job["url"].split("=")[1].split("&")[0])
            content = b"".join(pieces(count))
            checks.equal(job["url"], sha256(body_of(result)), sha256(content))
            checks.equal("framing", headers_of(result).get("transfer-encoding"), "chunked")
        path = f"{self.work}/download"
        count = 256
        url = f"{self.base}/stream?pieces={count}"
        command = [self.fetch, "-s", "-o", path, url]
        subprocess.run(command, check=True, timeout=60)
        digest = hashlib.sha256(b"".join(pieces(count))).hexdigest()
        with open(path, "rb") as file:
            content = file.read()
        found = (len(content), sha256(content))
        checks.equal("a download", found, (count * PIECE_BYTES, digest))
        (cut,) = checks.run([{"url": f"{self.base}/cut"}], may_fail=True)
        checks.equal("cut short", (cut["error"] or {}).get("kind"), "closed")
        checks.equal("what came of it", (cut["status"], cut["body"]), (200, "a beginning"))

    def visits(self):
        """A cookie that each answer sets anew, from behind a redirect on."""
        checks = self.checks
        enter = {"url": f"{self.base}/enter", "method": "POST"}
        jobs = [enter, *[{"url": f"{self.base}/visits"}] * 4, enter, enter]
        results = checks.run(jobs, "-c", "1")
        counts = [result["body"] for result in results]
        checks.equal("visits", counts, ["1", "2", "3", "4", "5", "1", "1"])
        hops = [[hop["status"] for hop in result["redirects"]] for result in results]
        checks.equal("redirects", hops, [[303], [], [], [], [], [303], [303]])


def main():
    fetch, work, *ports = sys.argv[1:]
    for name, port in zip(("aiohttp", "flask"), ports):
        cases = Cases(fetch, work, port)
        cases.forms()
        cases.bodies()
        cases.streams()
        cases.visits()
        server = "" if name == "aiohttp" else f" on werkzeug {metadata.version('werkzeug')}"
        print(
            f"frameworks: passed, {cases.checks.count} checks against {name} "
            f"{metadata.version(name)}{server}: forms, bodies, streamed downloads, cookies"
        )


if __name__ == "__main__":
    main()
