"""What the scripts share that hold the results of `fetch` against what servers wrote down.

In go jobs and options; out come results, one for each job in their order. What is not as it
should be raises, with both sides of it in words; every comparison that holds is counted.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import time

RUN_SECONDS_MAX = 60
LOG_SECONDS_MAX = 20


class Checks:
    """`fetch`, some options that every run of it has, and how many comparisons held."""

    def __init__(self, fetch, *options):
        self.command = [fetch, "-s", "--json", "--ordered", *options]
        self.count = 0

    def run(self, jobs, *options, may_fail=False, variables=None):
        """The results of jobs, all of them without an error unless they may fail; with these
        variables in the environment beside those that are there."""
        lines = "".join(json.dumps(job) + "\n" for job in jobs)
        done = subprocess.run(
            [*self.command, "--jobs", "-", *options],
            input=lines,
            capture_output=True,
            text=True,
            env={**os.environ, **(variables or {})},
            timeout=RUN_SECONDS_MAX,
            check=False,
        )
        if done.stderr:
            raise AssertionError(done.stderr)
        # Not splitlines: texts may have other ends of lines in them.
        results = [json.loads(line) for line in done.stdout.split("\n") if line]
        urls = [result["url"] for result in results]
        self.equal("one result for each job", urls, [job["url"] for job in jobs])
        failures = [(result["url"], result["error"]) for result in results if result["error"]]
        if not may_fail:
            self.equal("failures", failures, [])
        self.equal("exit status", done.returncode, 1 if failures else 0)
        return results

    def equal(self, what, found, expected):
        if found != expected:
            raise AssertionError(f"{what}: {found!r:.500} is not {expected!r:.500}")
        self.count += 1

    def true(self, what, holds, found=None):
        if not holds:
            raise AssertionError(f"{what}: {found!r:.2000}")
        self.count += 1


class Log:
    """What a server writes down, line by line, which it may do after its answer has arrived."""

    def __init__(self, path):
        self.path = path
        self.read = 0

    def new(self, count):
        """The lines since this was asked last, as soon as there are so many."""
        ends = time.monotonic() + LOG_SECONDS_MAX
        while True:
            lines = lines_of(self.path)[self.read :]
            if len(lines) >= count:
                self.read += len(lines)
                return lines
            if time.monotonic() > ends:
                raise AssertionError(f"{self.path} has {lines!r:.500}, not {count} lines")
            time.sleep(0.01)


def body_of(result):
    """The body's bytes."""
    if "body" in result:
        return result["body"].encode()
    return base64.b64decode(result["body_base64"], validate=True)


def headers_of(result):
    """The last value of each header, by its name in lower case."""
    return {name.lower(): value for name, value in result["headers"]}


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def lines_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def version_of(*command):
    """The first number with a point in what the command prints, with the program's name."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    number = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return f"{command[0]} {number.group()}"
