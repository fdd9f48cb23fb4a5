"""node.py FETCH LOG PORT: what Node's server sends beside plain answers, and how long it keeps
connections; LOG is where it writes down the requests."""

import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from checks import Checks, Log, headers_of, sha256, version_of
from driving import one_by_one

# More of them a response may not have.
INTERIM_MAX = 5
# Node keeps a connection for 5 s.
KEPT_SECONDS = (1.0, 3.0)
DOUBTFUL_SECONDS = (4.0, 4.9, 4.98, 5.0, 5.02, 5.1)
LATE_SECONDS = (5.6, 6.5)


class Cases:
    def __init__(self, fetch, log, port):
        self.checks, self.fetch, self.log = Checks(fetch), fetch, Log(log)
        self.base = f"http://127.0.0.1:{port}"

    def seen(self):
        """The requests that the server had since this was asked last, each written down before its
        answer."""
        return [json.loads(line) for line in self.log.new(0)]

    def hints(self):
        checks = self.checks
        counts = [0, 1, 2, INTERIM_MAX] * 10
        jobs = [{"url": f"{self.base}/hints?{count}"} for count in counts]
        for count, result in zip(counts, checks.run(jobs, "-c", "4")):
            found = (result["status"], result["body"], result["attempts"])
            checks.equal("the answer", found, (200, f"after {count} hints", 1))
            checks.equal("no hint is in it", headers_of(result).get("link"), None)
        mixed = checks.run([{"url": f"{self.base}/mixed?{n}"} for n in range(3)])
        for number, result in enumerate(mixed):
            checks.equal("behind all kinds", (result["status"], result["body"]), (203, f"{number}"))
            checks.equal("its own fields", headers_of(result)["x-of"], "answer")
        asked = {line["url"] for line in self.seen()}
        checks.equal("asked for", asked, {each["url"].removeprefix(self.base) for each in jobs + mixed})
        too_many = {"url": f"{self.base}/hints?{INTERIM_MAX + 1}"}
        one_more, next_one = checks.run(
            [too_many, {"url": f"{self.base}/who"}], "-c", "1", may_fail=True
        )
        checks.equal("too many", one_more["error"]["kind"], "malformed")
        checks.equal("and not on that connection", next_one["reused"], False)
        self.seen()

    def trailers(self):
        checks = self.checks
        counts = [0, 1, 1_000]
        results = checks.run([{"url": f"{self.base}/trailers?{count}"} for count in counts])
        for count, result in zip(counts, results):
            body = "".join(f"{number}\n" for number in range(count))
            checks.equal("body", (result["status"], result["body"]), (200, body))
            trailers = [["X-Pieces", str(count)], ["X-Sum", str(sum(range(count)))]]
            checks.equal("trailers", result["trailers"], [*trailers, ["X-Accent", "caf\u00e9"]])
            checks.equal("not among headers", headers_of(result).get("x-sum"), None)
        (plain,) = checks.run([{"url": f"{self.base}/who"}])
        checks.equal("without any", plain["trailers"], [])
        self.seen()

    def sent_trailers(self):
        """Trailers behind bodies, none and small and many chunks, as the server had them."""
        checks = self.checks
        bodies = ["", "hello", "".join(f"line {number}\n" for number in range(30_000))]
        fields = [["X-Sum", "7"], ["x-sum", "8"], ["X-Empty", ""], ["X-Last", "the end; of=it"]]
        jobs = [{"url": f"{self.base}/sent", "body": body, "trailers": fields} for body in bodies]
        results = checks.run(jobs, "-c", "1")
        joined = {"x-sum": "7, 8", "x-empty": "", "x-last": "the end; of=it"}
        lines = [line for line in self.seen() if "trailers" in line]
        checks.equal("requests with trailers", len(lines), len(jobs))
        for body, result, line in zip(bodies, results, lines):
            found = (result["status"], json.loads(result["body"]))
            checks.equal("trailers, as it was answered", found, (200, joined))
            checks.equal("in order, and as written", line["trailers"], fields)
            checks.equal("framing", line["framing"], "chunked")
            checks.equal("the body before them", line["sum"], sha256(body.encode()))
        reused = [result["reused"] for result in results]
        checks.equal("the connection goes on", reused[1:], [True, True])
        self.seen()

    def expectations(self):
        """A body waits for the server's word, for a second at the most, and stays here if that is
        no: 417 alone is asked again, without the question."""
        checks = self.checks
        body = "".join(f"line {number}\n" for number in range(30_000))
        digest = sha256(body.encode())
        targets = ["/go-on", "/silent", "/refuse?413", "/refuse?417", "/who"]
        jobs = [{"url": f"{self.base}{target}", "expect_continue": True} for target in targets]
        for job in jobs[:4]:
            job["body"] = body
        results = checks.run(jobs, "-c", "1")
        found = [(result["status"], result["body"]) for result in results[:4]]
        expected = [(200, digest), (200, digest), (413, "not that"), (200, digest)]
        checks.equal("answers", found, expected)
        attempts = [result["attempts"] for result in results]
        checks.equal("attempts", attempts, [1, 1, 1, 2, 1])
        checks.equal("what was refused is not on a connection again", results[3]["reused"], False)
        lines = self.log.new(6)
        seen = {line["url"]: line for line in map(json.loads, lines) if "expects" in line}
        plain = [line["url"] for line in map(json.loads, lines) if "expects" not in line]
        checks.equal("asked", sorted(seen), sorted(targets[:4]))
        checks.equal("without a question", plain, ["/refuse?417", "/who"])
        for target, line in seen.items():
            # Where the machine was away for a second, it has come unasked.
            is_patient = line["unasked"] == 0 or line["waited"] > 900
            checks.true(f"nothing comes unasked for {target}", is_patient, line)
            is_whole = line["body"] == (0 if "refuse" in target else len(body))
            checks.true(f"the body of {target}", is_whole or line["unasked"], line)

    def upgrades(self):
        """Standard input goes to the server as it is, and comes back; the end of it is heard."""
        checks = self.checks
        for length in (0, 1, 3_000_000):
            said = random.randbytes(length)
            words = [self.fetch, "-s", "--upgrade", "echo/1", f"{self.base}/echo?{length}"]
            ran = subprocess.run(words, input=said, capture_output=True, timeout=60)
            checks.equal("it ended well", (ran.returncode, ran.stderr), (0, b""))
            checks.equal(f"{length} bytes came back", sha256(ran.stdout), sha256(said + b"good-bye"))
            (line,) = self.seen()
            found = (line["url"], line["protocol"])
            checks.equal("the server was asked", found, (f"/echo?{length}", "echo/1"))

    def after(self, seconds):
        """Two requests of one run with a pause between them; the results."""
        return one_by_one(self.fetch, {"url": f"{self.base}/who?{seconds}"}, (0, seconds))

    def keeping(self):
        """The reused connection is the one that the server saw used again, or there is none."""
        checks = self.checks
        pauses = [*KEPT_SECONDS, *DOUBTFUL_SECONDS, *LATE_SECONDS]
        with ThreadPoolExecutor(len(pauses)) as threads:
            runs = list(threads.map(self.after, pauses))
        seen = {}
        for line in self.seen():
            seen.setdefault(line["url"], []).append((line["socket"], line["nth"]))
        kept = 0
        for seconds, results in zip(pauses, runs):
            for result in results:
                found = (result["error"], result["status"], result["attempts"])
                checks.equal(f"after {seconds} s", found, (None, 200, 1))
            checks.equal("it says how long", headers_of(results[0])["keep-alive"], "timeout=5")
            first, second = seen[f"/who?{seconds}"]
            is_same = second == (first[0], 2)
            checks.true("one connection, or two", is_same or second[1] == 1, (first, second))
            checks.equal("reused, on both sides", results[1]["reused"], is_same)
            kept += is_same
            if seconds in KEPT_SECONDS:
                checks.equal(f"kept for {seconds} s", is_same, True)
            if seconds in LATE_SECONDS:
                checks.equal(f"kept for {seconds} s", is_same, False)
        return kept, len(pauses)


def main():
    cases = Cases(*sys.argv[1:])
    cases.hints()
    cases.trailers()
    cases.sent_trailers()
    cases.expectations()
    cases.upgrades()
    kept, runs = cases.keeping()
    print(
        f"node: passed, {cases.checks.count} checks against {version_of('node', '--version')}: "
        f"102 and 103, trailers both ways, expectations, an upgrade, {kept} of {runs} connections used again around the 5 s"
    )


if __name__ == "__main__":
    main()
