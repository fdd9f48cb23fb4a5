"""frameworks.py FETCH WORK AIOHTTP_PORT FLASK_PORT: drives FETCH against the application of
applications.py in each framework, and holds what it was told against what was sent."""

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import urllib.parse
from importlib import metadata

from applications import PIECE_BYTES, pieces
from checks import RUN_SECONDS_MAX, Checks, body_of, headers_of, sha256

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
# The same in a form of several parts, where they stand as they are, and what looks like more.
TEXTS = [field for field in FIELDS if "=" not in field[0]] + [
    ["&;%", "a&b=c;d%20e"],
    ["boundary", "\r\n--x--\r\n"],
    ["at", "@/etc/passwd"],
    ["semicolon", "a;type=b"],
]
# Names of files, and the types that follow from them.
NAMES = [
    ("plain.txt", "text/plain"),
    ("caf\u00e9 \u20ac \U0001f415.png", "image/png"),
    ("a b;c,d=e&f.bin", "application/octet-stream"),
    ("100% 'quoted'", "application/octet-stream"),
]
# What curl is given, too, and should make the same of.
CURLS = [
    ["-F", "a= b ", "-F", "a=c;type=text/html;charset=utf-8"],
    ["-F", 'a="b;c, \\"d\\" \\\\ "', "-F", "\u00e9=\u20ac"],
    ["-F", "a=@FILE", "-F", "b=@FILE;type=x/y", "-F", "c=@FILE;filename=d.html"],
    ["-F", 'a=@"FILE";filename="b;c,d";type=image/gif', "-F", "e=<FILE"],
    ["-F", "a=text;filename=b.pdf", "--form-string", "c=@d;type=e"],
    ["-F", "a=@-", "-F", "b=c"],
    ["-F", "a=<-"],
    ["-d", "a=b", "--data-urlencode", "c=d e&f", "--data-urlencode", "g@FILE", "-d", "h"],
    ["--data-urlencode", "=~*'()-._\u00e9", "--data-urlencode", "@FILE"],
]
LARGE_BYTES = 5_000_000
PIECES = (0, 1, 5, 128)


class Cases:
    def __init__(self, fetch, work, port):
        self.checks, self.fetch, self.work = Checks(fetch), fetch, work
        self.base = f"http://127.0.0.1:{port}"

    def told(self, *arguments, program=None, given=b""):
        """What the application was told by one request from the command line."""
        done = subprocess.run(
            [program or self.fetch, "-s", *arguments],
            input=given,
            capture_output=True,
            timeout=RUN_SECONDS_MAX,
            check=False,
        )
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

    def multipart(self, hears):
        """Texts and files of several parts. `hears`: what the framework makes of a name."""
        checks, chance = self.checks, random.Random(6)
        contents = [chance.randbytes(size) for size in (0, 1, 70_000, LARGE_BYTES)]
        arguments, files = [], []
        for (name, kind), content in zip(NAMES, contents):
            path = self.file(name, content)
            arguments += ["-F", f'files=@"{path}"']
            said = {"bytes": len(content), "sha256": sha256(content)}
            files.append(["files", name, kind, said])
        arguments += ["-F", f'own "name"=@"{path}";filename="\u00fc \\"q\\".txt";type=x/y;z=1']
        files.append([hears('own "name"'), hears('\u00fc "q".txt'), "x/y;z=1", files[-1][3]])
        for name, text in TEXTS:
            arguments += ["--form-string", f"{name}={text}"]
        value = self.file("value", "a text\r\n\u00e9".encode())
        arguments += ["-F", f"value=<{value}"]
        told = self.told(*arguments, f"{self.base}/upload")
        checks.equal("texts", told["fields"], [*TEXTS, ["value", "a text\r\n\u00e9"]])
        checks.equal("files", told["files"], files)
        framing = (told["method"], told["coding"], int(told["length"]) > 2 * LARGE_BYTES)
        checks.equal("framing", framing, ("POST", None, True))

    def like_curl(self):
        """What curl is given, and says to the application, so does fetch."""
        path = self.file("file.svg", "<svg> &\u00e9\n".encode())
        for given in CURLS:
            arguments = [argument.replace("FILE", path) for argument in given]
            where = f"{self.base}/{'upload' if given[0] == '-F' else 'body'}"
            curls, ours = (
                self.told(*arguments, where, program=program, given=b"standard input\n")
                for program in ("curl", self.fetch)
            )
            for told in (curls, ours) if given[0] == "-F" else ():
                # The boundary is each one's own.
                told["type"], told["length"] = told["type"].split(";")[0], None
            self.checks.equal(f"as curl has {given}", ours, curls)

    def uploads(self):
        """Files with their length; standard input in chunks, whatever it is."""
        checks, content = self.checks, random.Random(7).randbytes(LARGE_BYTES)
        path, digest = self.file("upload \u00e9", content), sha256(content)
        told = self.told("-T", path, f"{self.base}/body/")
        checks.equal("-T FILE", (told["bytes"], told["sha256"]), (LARGE_BYTES, digest))
        found = (told["method"], told["path"], told["type"], told["length"], told["coding"])
        expected = ("PUT", "/body/upload \u00e9", None, str(LARGE_BYTES), None)
        checks.equal("how it was sent", found, expected)
        for given in (content, b"short", b""):
            told = self.told("-T", "-", f"{self.base}/body", given=given)
            checks.equal("-T -", (told["bytes"], told["sha256"]), (len(given), sha256(given)))
            found = (told["method"], told["length"], told["coding"])
            checks.equal("how it was sent", found, ("PUT", None, "chunked"))
        told = self.told("--expect-continue", "-T", path, f"{self.base}/body")
        found = (told["expect"], told["bytes"], told["sha256"])
        checks.equal("asked before", found, ("100-continue", LARGE_BYTES, digest))

    def both_ways(self):
        """What comes back piece by piece while standard input goes on, and an upload without an
        end that is refused."""
        checks, chance = self.checks, random.Random(8)
        with self.uploading("/echo") as program:
            for size in [1, 100, 10_000, 100_000] * 5:
                piece = chance.randbytes(size)
                program.stdin.write(piece)
                program.stdin.flush()
                back = program.stdout.read(size)
                checks.equal("a piece comes back", sha256(back), sha256(piece))
            program.stdin.close()
            checks.equal("the end", (program.stdout.read(), program.wait()), (b"", 0))
        content = chance.randbytes(4 * LARGE_BYTES)
        with self.uploading("/echo") as program:
            writer = threading.Thread(target=write_all, args=[program.stdin, content])
            writer.start()
            back = program.stdout.read()
            writer.join()
            checks.equal("all of it", sha256(back), sha256(content))
            checks.equal("its end", program.wait(), 0)
        with self.uploading("/refuse", "--json", "--no-body") as program:
            writer = threading.Thread(target=write_without_end, args=[program.stdin])
            writer.start()
            result = json.loads(program.stdout.read())
            writer.join()
            found = (result["status"], result["error"], program.wait())
            checks.equal("refused early", found, (413, None, 0))

    @contextlib.contextmanager
    def uploading(self, path, *options):
        """A run that sends what is written into it, and is ended if it hangs."""
        command = [self.fetch, "-s", *options, "-T", "-", f"{self.base}{path}"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as program:
            limit = threading.Timer(RUN_SECONDS_MAX, program.kill)
            limit.start()
            try:
                yield program
            finally:
                limit.cancel()
                program.kill()

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


def write_all(pipe, content):
    pipe.write(content)
    pipe.close()


def write_without_end(pipe):
    """Without a buffer, in which something would be left when nobody reads any more."""
    with contextlib.suppress(BrokenPipeError):
        while True:
            os.write(pipe.fileno(), bytes(65536))


def main():
    fetch, work, *ports = sys.argv[1:]
    for name, port in zip(("aiohttp", "flask"), ports):
        cases = Cases(fetch, work, port)
        cases.forms()
        cases.bodies()
        # A quotation mark is sent as browsers send it, which werkzeug knows.
        mark = "%22" if name == "aiohttp" else '"'
        cases.multipart(lambda text, mark=mark: text.replace('"', mark))
        cases.like_curl()
        cases.uploads()
        if name == "aiohttp":
            cases.both_ways()
        cases.streams()
        cases.visits()
        server = "" if name == "aiohttp" else f" on werkzeug {metadata.version('werkzeug')}"
        print(
            f"frameworks: passed, {cases.checks.count} checks against {name} "
            f"{metadata.version(name)}{server}: forms, files, standard input, streamed downloads, "
            "cookies"
        )


if __name__ == "__main__":
    main()
