"""Drives `fetch` through HAProxy to two origins, of which one dies in mid-run and comes back.

A job is of one of three kinds: a GET with retries, a GET without, and a POST with retries, which
nobody may repeat. HAProxy's log has every request that came to it, the origins' those that came
through.
"""

import argparse
import collections
import os
import subprocess

import driving
from checks import Checks, body_of, headers_of, lines_of, version_of
from driving import listening, wait_until

RETRIES = (3, 0, 3)
CONCURRENCY = 48
# Statuses by which HAProxy says that an origin failed.
FAILED = (502, 503, 504)


class Origin:
    """A server in a process of its own, which can be killed and begun again."""

    def __init__(self, name, port, work, *more):
        self.log = f"{work}/{name}.requests"
        here = os.path.dirname(os.path.abspath(__file__))
        self.command = ["node", f"{here}/origin.js", name, port, self.log, *more]
        self.begin()

    def begin(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def seen(self):
        return collections.Counter(lines_of(self.log) if os.path.exists(self.log) else [])


def begin_haproxy(work, name="haproxy"):
    """With the configuration and the log of this name."""
    command = ["haproxy", "-db", "-f", f"{work}/{name}.conf"]
    with open(f"{work}/{name}.log", "w", encoding="utf-8") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def jobs(options):
    for number in range(options.jobs):
        job = {"id": number, "url": f"http://127.0.0.1:{options.front}/?{number}"}
        job["retries"] = RETRIES[number % len(RETRIES)]
        if number % len(RETRIES) == 2:
            job["body"] = f"this is {number}"
        yield job, number


class Run:
    def __init__(self, options):
        self.options, self.results = options, {}
        self.one = Origin("one", options.one, options.work)
        self.two = Origin("two", options.two, options.work)
        self.haproxy = begin_haproxy(options.work)

    def judge(self, _, number, result):
        """Only takes it down: what it should be hangs on what the others wrote down."""
        self.results[number] = result

    def drive(self):
        options, third = self.options, self.options.jobs // 3
        arguments = ["-c", str(CONCURRENCY)]
        errors = f"{options.work}/fetch.log"
        listening(("127.0.0.1", int(options.front)), self.haproxy)
        with driving.Program(options.fetch, arguments, self.judge, errors) as program:
            given = list(jobs(options))
            program.feed(given[: 2 * third])
            wait_until("a third of the jobs", lambda: len(self.results) >= third)
            self.two.kill()
            program.drain()
            self.before = self.two.seen()
            self.two.begin()
            wait_until("HAProxy sees it again", self.is_back)
            program.feed(given[2 * third :])
            program.finish()
        return program

    def is_back(self):
        log = "\n".join(lines_of(f"{self.options.work}/haproxy.log"))
        return "Server origins/two is UP" in log.partition("Server origins/two is DOWN")[2]

    def end(self):
        self.haproxy.terminate()
        self.haproxy.wait()
        for origin in (self.one, self.two):
            origin.kill()

    def account(self, checks):
        """Holds all three sides against one another; how many were repeated, how many failed."""
        requests = collections.defaultdict(list)
        for line in lines_of(f"{self.options.work}/haproxy.log"):
            if line.startswith("request /?"):
                _, target, status, ending, server = line.split(" ")
                requests[int(target.split("?")[1])].append((int(status), ending, server))
        seen = {"one": self.one.seen(), "two": self.two.seen()}
        counts = collections.Counter()
        for number, result in sorted(self.results.items()):
            passed = requests[number]
            is_post = number % len(RETRIES) == 2
            line = f"POST /?{number} this is {number}" if is_post else f"GET /?{number} "
            what = f"job {number}, {passed}"
            # One that died on a kept connection before its answer began HAProxy ends without a word
            # to anybody, for the client to know what may be sent again.
            silent = result["attempts"] - len(passed)
            arrived = {name: seen[name][line] for name in seen}
            may_be_silent = number < 2 * (self.options.jobs // 3)
            checks.true(f"silent of {what}", silent in (0, int(may_be_silent)), result["attempts"])
            checks.true(f"arrivals of {what}", sum(arrived.values()) <= result["attempts"], arrived)
            if is_post:
                checks.equal(f"a POST is sent once: {what}", result["attempts"], 1)
            counts["repeated"] += result["attempts"] > 1
            counts["silent"] += silent
            status, ending, server = passed[-1] if passed else (None, None, "two")
            if result["error"] is None and result["status"] == 200:
                checks.equal(f"body of {what}", body_of(result), f"{number}:".encode() * 2_000)
                checks.equal(f"end of {what}", (status, ending), (200, "--"))
                checks.equal(f"origin of {what}", headers_of(result)["x-origin"], server)
                checks.equal(f"it was at {server} once", arrived[server], 1)
                continue
            may_be_repeated = RETRIES[number % len(RETRIES)] > 0 and not is_post
            checks.equal(f"{what} was given up", may_be_repeated, False)
            checks.equal(f"who failed of {what}", server, "two")
            if result["error"]:
                counts["cut"] += 1
                checks.equal(f"error of {what}", result["error"]["kind"], "closed")
                found = (result["status"], ending)
                checks.equal(f"end of {what}", found, (200, "SD") if passed else (None, None))
            else:
                counts["refused"] += 1
                checks.true(f"status of {what}", result["status"] == status in FAILED, result)
        checks.true("only what was on the way", counts["silent"] <= CONCURRENCY, counts)
        checks.true("some were repeated", counts["repeated"] > 0)
        checks.true("some failed", counts["cut"] + counts["refused"] > 0)
        checks.true("the origin that came back was used", len(seen["two"]) > len(self.before))
        return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--fetch", "--work"):
        parser.add_argument(name, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    for name in ("front", "one", "two"):
        parser.add_argument(name)
    options = parser.parse_args()
    driving.end_on_signals()
    run = Run(options)
    try:
        program = run.drive()
    finally:
        run.end()
    checks = Checks(options.fetch)
    counts = run.account(checks)
    driving.report(
        "balancer",
        program.wrong,
        f"{program.checked} of {options.jobs} results accounted for, {checks.count} checks against "
        f"{version_of('haproxy', '-v')} and {version_of('node', '--version')}: "
        f"{counts['repeated']} repeated, {counts['cut']} cut and {counts['refused']} refused of those "
        f"that are not, {counts['silent']} ends without a word, {program.seconds():.1f} s",
    )


if __name__ == "__main__":
    main()
