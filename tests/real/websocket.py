"""websocket.py PROGRAM WORK: drives the example `websocket` against the servers of echoes.py, and
holds what each side heard against what the other said."""

import json
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from checks import Checks, sha256
from driving import end_on_signals

RUN_SECONDS_MAX = 120
# What a server has of a close without a code, as the program's is (RFC 6455 §7.1.5).
NO_CODE = {"websockets": 1005, "aiohttp": 0}
TEXTS = ["hello", "", "caf\u00e9 \u20ac \U0001f415", "x" * 125, "y" * 126, "z\u20ac" * 25_000]
# Around the lengths at which a frame's header grows (RFC 6455 §5.2), and as large as both take.
BINARY_BYTES = [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 1 << 20]
SIDE_BY_SIDE = 16


class Server:
    """A server of echoes.py, until the end of the run."""

    def __init__(self, name):
        self.name = name
        command = [sys.executable, str(Path(__file__).with_name("echoes.py")), name]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.limit = threading.Timer(RUN_SECONDS_MAX, self.process.kill)
        self.limit.start()
        self.base = f"ws://127.0.0.1:{self.line().split()[-1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.limit.cancel()
        self.process.kill()
        self.process.wait()

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError("the server has ended")
        return line

    def record(self):
        """Of the next connection that has ended."""
        return json.loads(self.line())


class Cases:
    def __init__(self, program, work, server):
        self.checks, self.program, self.work, self.server = Checks(program), program, work, server
        self.no_code = NO_CODE[server.name]

    def run(self, path, *arguments):
        command = [self.program, self.server.base + path, *arguments]
        return subprocess.run(command, capture_output=True, check=False, timeout=RUN_SECONDS_MAX)

    def passes(self, path, messages, unanswered=()):
        """Runs the program with texts and files, and holds what it printed against those that
        are repeated."""
        done = self.run(path, *(self.argument(message) for message in [*messages, *unanswered]))
        self.checks.equal(f"{path}: exit", (done.returncode, done.stderr), (0, b""))
        contents = [m.encode() if isinstance(m, str) else m for m in messages]
        printed = b"".join(content + b"\n" for content in contents)
        self.checks.equal(f"{path}: printed", sha256(done.stdout), sha256(printed))

    def fails(self, path, *arguments):
        """Why, in the program's words."""
        done = self.run(path, *arguments)
        self.checks.true(f"{path}: fails", done.returncode > 0, done)
        return done.stderr.decode()

    def argument(self, message):
        if isinstance(message, str):
            return message
        path = f"{self.work}/{sha256(message)}"
        Path(path).write_bytes(message)
        return f"@{path}"

    def heard(self, path, messages, closed):
        """Holds what the server wrote down against what was sent."""
        record, expected = self.server.record(), []
        for message in messages:
            content = message.encode() if isinstance(message, str) else message
            kind = "text" if isinstance(message, str) else "binary"
            expected.append([kind, len(content), sha256(content)])
        self.checks.equal(f"{path}: heard", record["heard"], expected)
        asked = (record["path"], record["version"], record["extensions"])
        self.checks.equal(f"{path}: asked for", asked, (path, "13", None))
        self.checks.equal(f"{path}: closed", record["closed"], closed)
        return record

    def echoes(self, path):
        chance = random.Random(11)
        messages = [*TEXTS, *(chance.randbytes(length) for length in BINARY_BYTES), "bye"]
        self.passes(path, messages)
        self.heard(path, messages, self.no_code)
        self.passes(path, [])
        self.heard(path, [], self.no_code)

    def pings(self):
        messages = ["one", random.Random(12).randbytes(1 << 20), "two"]
        self.passes("/ping", messages)
        record = self.heard("/ping", messages, self.no_code)
        self.checks.equal("pong", record["pong"], True)

    def closes(self):
        """It has something left to send, and still answers the close as RFC 6455 §5.5.1 has it."""
        self.passes("/close", ["one"], unanswered=["two"])
        self.heard("/close", ["one"], 4001)

    def failures(self):
        why = self.fails("/abort", "one")
        self.checks.true("aborted", why.startswith("Error: "), why)
        self.heard("/abort", ["one"], None)
        why = self.fails("/refuse", "one")
        self.checks.true("refused", "403" in why, why)

    def many(self):
        """Side by side, each with its own content."""
        chance = random.Random(13)
        contents = [[chance.randbytes(100_000), f"{n}"] for n in range(SIDE_BY_SIDE)]
        with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
            list(threads.map(lambda messages: self.passes("/echo", messages), contents))
        heard = sorted(self.server.record()["heard"][1][2] for _ in contents)
        expected = sorted(sha256(messages[1].encode()) for messages in contents)
        self.checks.equal("side by side", heard, expected)


def main():
    end_on_signals()
    program, work = sys.argv[1:]
    for name in ("websockets", "aiohttp"):
        with Server(name) as server:
            cases = Cases(program, work, server)
            cases.echoes("/echo")
            also = ""
            if name == "websockets":
                cases.echoes("/fragments")
                also = ", fragments"
            cases.pings()
            cases.closes()
            cases.failures()
            cases.many()
        print(
            f"websocket: passed, {cases.checks.count} checks against {name} "
            f"{metadata.version(name)}: messages, pings, closes, refusals{also}"
        )


if __name__ == "__main__":
    main()
