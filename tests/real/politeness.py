"""politeness.py FETCH WORK PLAIN UPSTREAM: how gently `fetch` asks, by nginx' log of times.

Nothing here says how soon a request comes: a slow machine only makes them later. How soon at the
earliest is said for each of them.
"""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from checks import Checks, Log, headers_of, version_of
from driving import Program, listening

RATE = 20
# What comes back in that time may be saved up whatever the rate is.
SAVED_UP_SECONDS = 0.010
JOBS_A_BATCH = 10
QUIET_SECONDS = 0.4
# A pause that is asked for here, and how long an open circuit stays open.
PAUSE_SECONDS = 1
# Nginx' clock stands still while it works on events: a little is lost there.
CLOCK_SECONDS = 0.01
FAILURES = 3
POLL_SECONDS = 0.05


class Case:
    """One run or two of the program, and the log of one place in nginx."""

    def __init__(self, fetch, work, log, port):
        self.checks = Checks(fetch, "-c", "1")
        self.fetch, self.work, self.port = fetch, work, port
        self.log = Log(f"{work}/{log}.access")
        self.base = f"http://127.0.0.1:{port}"

    def seen(self, count):
        """Moment, status, host and target of each request."""
        lines = [line.split(" ") for line in self.log.new(count)]
        return [(float(moment), int(status), *rest) for moment, status, *rest in lines]

    def hold(self, seen, pausing):
        """No request came before the pause was over that the one before it had begun; how many."""
        pauses = 0
        for (before, status, _, target), (after, *_) in zip(seen, seen[1:]):
            if pausing(status, target):
                pauses += 1
                waited = after - before
                is_over = waited >= PAUSE_SECONDS - CLOCK_SECONDS
                self.checks.true("nobody asks in a pause", is_over, (status, target, waited))
        return pauses


class Rate(Case):
    """Attempts to two hosts at once, in two batches, redirects included."""

    def run(self):
        hosts = (f"127.0.0.1:{self.port}", f"localhost:{self.port}")
        results = []
        options = ["-s", "--rate", str(RATE)]

        def judge(job, _, result):
            results.append(result)
            is_right = (result["status"], result.get("body")) == (200, "a page\n")
            return None if is_right else f"{job} has another page"

        with Program(self.fetch, options, judge, f"{self.work}/rate.log") as program:
            for batch in range(2):
                # Nothing is saved up meanwhile.
                time.sleep(QUIET_SECONDS * batch)
                jobs = [job for host in hosts for job in batch_of(host, batch)]
                began = time.time()
                program.feed((job, None) for job in jobs)
                program.drain()
                attempts = sum(1 + job["url"].count("/moved/") for job in jobs)
                seen = self.seen(attempts)
                self.checks.equal("attempts that nginx saw", len(seen), attempts)
                for host in hosts:
                    self.bounded([each[0] for each in seen if each[2] == host], began)
            program.finish()
        self.checks.equal("wrong", program.wrong, [])
        self.checks.equal("results", len(results), 4 * JOBS_A_BATCH)
        return f"{4 * JOBS_A_BATCH} at most {RATE} a second to each host"

    def bounded(self, moments, began):
        """The first of them may come at once, each other one a token later than the one before."""
        slack = SAVED_UP_SECONDS + CLOCK_SECONDS
        for nth, moment in enumerate(sorted(moments)):
            soonest = nth / RATE - slack
            self.checks.true(f"number {nth}", moment - began >= soonest, (moment - began, soonest))


def batch_of(host, batch):
    """Each on a connection of its own, so that nginx looks at its clock for each."""
    for number in range(JOBS_A_BATCH):
        way = "/moved" if number % 3 == 2 else ""
        yield {
            "id": f"{host} {batch} {number}",
            "url": f"http://{host}{way}/rate/page?{batch}-{number}",
            "headers": [["Connection", "close"]],
        }


class Limited(Case):
    """A 429 of one fetch is a pause for all of them."""

    def run(self):
        jobs = [{"url": f"{self.base}/limited/page?{n}", "retries": 3} for n in range(5)]
        results = self.checks.run(jobs, "--polite")
        for result in results:
            self.checks.equal("let in", (result["status"], result["body"]), (200, "a page\n"))
        attempts = sum(result["attempts"] for result in results)
        seen = self.seen(attempts)
        statuses = sorted(status for _, status, *_ in seen)
        refused = attempts - len(jobs)
        self.checks.equal("statuses", statuses, [200] * len(jobs) + [429] * refused)
        pauses = self.hold(seen, lambda status, _: status == 429)
        self.checks.equal("pauses", pauses, refused)
        self.checks.true("some were refused", refused > 0)
        return f"{pauses} pauses by Retry-After"


class Quota(Case):
    """An answer that says that a quota is used up is followed by a pause, whatever its status."""

    def run(self):
        names = ["left", "limits", "left", "dictionary", "fields", "left", "left"]
        jobs = [{"url": f"{self.base}/quota/{name}"} for name in names]
        results = self.checks.run(jobs, "--polite")
        self.checks.equal("bodies", [result["body"] for result in results], names)
        statuses = [403 if name == "fields" else 200 for name in names]
        self.checks.equal("statuses", [result["status"] for result in results], statuses)
        self.checks.equal("a field", headers_of(results[1])["ratelimit"][:6], '"hour"')
        seen = self.seen(len(jobs))
        self.checks.equal("order", [target for *_, target in seen], [f"/quota/{n}" for n in names])
        pauses = self.hold(seen, lambda _, target: target != "/quota/left")
        self.checks.equal("pauses", pauses, 3)
        return f"{pauses} by RateLimit fields"


class Failing(Case):
    """What is behind nginx is not there, and comes later."""

    def run(self, upstream):
        checks = self.checks
        options = ["--circuit", str(FAILURES), "--circuit-time", str(PAUSE_SECONDS)]
        with subprocess.Popen(
            [*checks.command, "--jobs", "-", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as program:
            failures = [self.ask(program) for _ in range(FAILURES)]
            turned_away, trial = self.ask_until_heard(program)
            failures.append(trial)
            server = begin_upstream(upstream, self.work)
            try:
                listening(("127.0.0.1", int(upstream)), server)
                more_turned_away, first = self.ask_until_heard(program)
                answers = [first, *(self.ask(program) for _ in range(3))]
            finally:
                server.kill()
                server.wait()
            program.stdin.close()
        checks.equal("failures", [each["status"] for each in failures], [502] * (FAILURES + 1))
        pages = [(each["status"], each["body"]) for each in answers]
        checks.equal("answers", pages, [(200, "a page\n")] * 4)
        checks.true("some were turned away", turned_away)
        for row, results in ((FAILURES, turned_away), (FAILURES + 1, more_turned_away)):
            words = f"is left alone after {row} failures in a row"
            for result in results:
                error = result["error"]
                found = (error["kind"], error["phase"], result["attempts"])
                checks.equal("turned away", found, ("connect", "queue", 0))
                checks.true("why", words in error["message"], error)
        seen = self.seen(FAILURES + 1 + len(answers))
        statuses = [status for _, status, *_ in seen]
        checks.equal("as nginx saw it", statuses, [502] * (FAILURES + 1) + [200] * len(answers))
        moments = [moment for moment, *_ in seen]
        for nth in (FAILURES - 1, FAILURES):
            waited = moments[nth + 1] - moments[nth]
            is_over = waited >= PAUSE_SECONDS - CLOCK_SECONDS
            checks.true("nobody asks while the circuit is open", is_over, waited)
        count = len(turned_away) + len(more_turned_away)
        return f"a circuit that opened twice and turned {count} away"

    def ask(self, program):
        program.stdin.write(json.dumps({"url": f"{self.base}/failing/page"}) + "\n")
        program.stdin.flush()
        return json.loads(program.stdout.readline())

    def ask_until_heard(self, program):
        """The results of those that were turned away, and that of the first which was not."""
        turned_away = []
        while (result := self.ask(program))["error"] is not None:
            turned_away.append(result)
            time.sleep(POLL_SECONDS)
        return turned_away, result


def begin_upstream(port, work):
    command = [sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1"]
    with open(f"{work}/upstream.log", "w", encoding="utf-8") as log:
        command += ["--directory", f"{work}/files"]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def main():
    fetch, work, port, upstream = sys.argv[1:]
    cases = [
        (kind(fetch, work, log, port), arguments)
        for kind, log, *arguments in (
            (Rate, "rate"),
            (Limited, "limited"),
            (Quota, "quota"),
            (Failing, "failing", upstream),
        )
    ]
    with ThreadPoolExecutor(len(cases)) as threads:
        running = [threads.submit(case.run, *arguments) for case, arguments in cases]
        shown = [each.result() for each in running]
    count = sum(case.checks.count for case, _ in cases)
    server = version_of("nginx", "-v")
    print(f"politeness: passed, {count} checks against {server}: {'; '.join(shown)}")


if __name__ == "__main__":
    main()
