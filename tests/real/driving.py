"""Drives `fetch` with jobs and accounts for every result.

In go the program's options and pairs of a job and what is expected of it; out come results, each
given once to a judge, which says in words what is wrong with it, or nothing. A job without a
result, a second result of one job and a wrong exit status are wrong too.
"""

import json
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

WRONG_SHOWN_MAX = 10
RUN_SECONDS_MAX = 900
WAIT_SECONDS_MAX = 20


def one_by_one(fetch, job, pauses):
    """The results of a job that one run is given again and again, each time after a pause."""
    with subprocess.Popen(
        [fetch, "-s", "--json", "--jobs", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        results = []
        for pause in pauses:
            time.sleep(pause)
            program.stdin.write(json.dumps(job) + "\n")
            program.stdin.flush()
            results.append(json.loads(program.stdout.readline()))
        program.stdin.close()
    return results


class Program:
    """One run of `fetch --jobs - --json`, until `finish`."""

    def __init__(self, fetch, options, judge, errors, descriptors=None):
        self.judge = judge
        self.due = {}
        self.changed = threading.Condition()
        self.wrong = []
        self.checked = 0
        self.failed = 0
        self.started = time.monotonic()

        def limit():
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        with open(errors, "wb") as log:
            self.process = subprocess.Popen(
                [fetch, "--jobs", "-", "--json", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                preexec_fn=limit,
            )
        self.limit = threading.Timer(RUN_SECONDS_MAX, self.process.kill)
        self.limit.daemon = True
        self.limit.start()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.limit.cancel()
        self.process.kill()
        self.process.wait()

    def feed(self, jobs):
        """Gives it jobs, as fast as it takes them."""
        pipe = self.process.stdin
        try:
            for job, expected in jobs:
                with self.changed:
                    self.due[job["id"]] = (job, expected)
                pipe.write(json.dumps(job).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:
            self.wrong.append("the program stopped reading its jobs")

    def drain(self):
        """Waits until every job has its result."""
        with self.changed:
            while self.due and self.reader.is_alive():
                self.changed.wait(1)

    def read(self):
        for line in self.process.stdout:
            try:
                problem = self.take(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                problem = f"{type(error).__name__}: {error}"
            with self.changed:
                if problem:
                    self.wrong.append(f"{problem}: {line[:400].decode(errors='replace')}")
                else:
                    self.checked += 1
                if not self.due:
                    self.changed.notify_all()

    def take(self, result):
        with self.changed:
            job, expected = self.due.pop(result["id"], (None, None))
        if job is None:
            return "a result that is not due"
        if result["url"] != job["url"]:
            return f"not the URL {job['url']}"
        self.failed += result["error"] is not None
        return self.judge(job, expected, result)

    def finish(self):
        """The end of the input; waits for that of the program."""
        self.process.stdin.close()
        self.reader.join()
        status = self.process.wait()
        self.limit.cancel()
        if status != (1 if self.failed else 0):
            self.wrong.append(f"exit status {status} after {self.failed} failures")
        if self.due:
            some = ", ".join(str(number) for number in list(self.due)[:WRONG_SHOWN_MAX])
            self.wrong.append(f"{len(self.due)} jobs without a result: {some}")

    def seconds(self):
        return time.monotonic() - self.started


def loopback_socket():
    """A socket bound at every address, but to the loopback interface only."""
    handle = socket.socket()
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    handle.bind(("0.0.0.0", 0))
    return handle


def wait_until(what, holds):
    ends = time.monotonic() + WAIT_SECONDS_MAX
    while not holds():
        if time.monotonic() > ends:
            raise AssertionError(f"not within {WAIT_SECONDS_MAX} s: {what}")
        time.sleep(0.02)


def listening(address, server):
    """Waits until a server can be connected to, which must not have ended before."""

    def listens():
        if server.poll() is not None:
            raise AssertionError(f"{server.args} has ended with {server.returncode}")
        try:
            socket.create_connection(address).close()
            return True
        except OSError:
            return False

    wait_until(f"{address} is listened on", listens)


def report(part, wrong, text):
    """The part's last line; ends the process if anything was wrong."""
    for what in wrong[:WRONG_SHOWN_MAX]:
        print(f"{part}: {what}")
    print(f"{part}: {text}, {len(wrong)} wrong", flush=True)
    if wrong:
        sys.exit(1)


def end_on_signals():
    """SIGTERM unwinds as SIGINT does, so that what was started is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
