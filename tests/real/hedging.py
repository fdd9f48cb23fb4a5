"""hedging.py FETCH WORK FRONT QUICK SLOW: requests that are sent twice, as HAProxy saw them.

HAProxy leads each first visit of a URL with the path /late to the slow origin, and all others to the
quick one. So a second request is answered at once whose first one is not, which is what it is for.
"""

import collections
import sys

import driving
from balancer import Origin, begin_haproxy
from checks import Checks, body_of, headers_of, lines_of, version_of

JOBS = 400
ATTEMPTS_A_HEDGE = 20
# One job of so many is late, which is fewer than can be paid for; at the end so many are at once,
# which is more.
LATE_EVERY = 25
LATE_AT_THE_END = 10
HEDGE_SECONDS = "0.2"
# Each of the four pieces of a slow answer.
SLOW_MILLIS = "600"
# Fewer are under way at once than may be, so that no slot is wanting for a second request.
CONCURRENCY = 64
AT_ONCE = 24


def is_at_the_end(number):
    return number >= JOBS - LATE_AT_THE_END


def jobs(front):
    for number in range(JOBS):
        is_late = number % LATE_EVERY == LATE_EVERY - 1 or is_at_the_end(number)
        path = "late" if is_late else "usual"
        yield {"id": number, "url": f"http://127.0.0.1:{front}/{path}?{number}"}, number


def drive(fetch, work, front):
    results = {}

    def judge(_, number, result):
        """Only takes it down: what it should be hangs on what the others wrote down."""
        results[number] = result

    options = ["-c", str(CONCURRENCY), "--hedge", HEDGE_SECONDS]
    with driving.Program(fetch, options, judge, f"{work}/fetch.log") as program:
        for given in jobs(front):
            driving.wait_until("few are under way", lambda: len(program.due) < AT_ONCE)
            program.feed([given])
        program.finish()
    return program, results


def account(checks, work, results):
    """Holds the results against the logs; what became of late ones, and how many were sent."""
    requests = collections.defaultdict(list)
    for line in lines_of(f"{work}/hedging.log"):
        if line.startswith("request /"):
            _, target, status, ending, server = line.split(" ")
            requests[int(target.split("?")[1])].append((server, int(status), ending))
    slow = collections.Counter(lines_of(f"{work}/slow.requests"))
    counts = collections.Counter()
    for number, result in sorted(results.items()):
        is_late = "/late" in result["url"]
        what = f"job {number}, {requests[number]}"
        found = (result["error"], result["status"], body_of(result))
        checks.equal(f"answer of {what}", found, (None, 200, f"{number}:".encode() * 2_000))
        # A second one whose connection was not there yet has not come.
        checks.true(f"attempts of {what}", 1 <= len(requests[number]) <= result["attempts"] <= 2)
        who = headers_of(result)["x-origin"]
        answers = [each for each in requests[number] if each[1:] == (200, "--")]
        checks.true(f"who answered {what}", who in [server for server, *_ in answers], who)
        line = f"GET /{'late' if is_late else 'usual'}?{number} "
        checks.equal(f"the slow one was asked for {what}", slow[line], int(is_late))
        counts["second"] += result["attempts"] - 1
        counts["late"] += is_late
        if is_late:
            counts["won"] += result["attempts"] == 2 and who == "quick"
            counts["waited for"] += result["attempts"] == 1
            counts["not paid for"] += result["attempts"] == 1 and not is_at_the_end(number)
    return counts


def main():
    fetch, work, front, quick, slow = sys.argv[1:]
    driving.end_on_signals()
    origins = [Origin("quick", quick, work), Origin("slow", slow, work, SLOW_MILLIS)]
    haproxy = begin_haproxy(work, "hedging")
    try:
        driving.listening(("127.0.0.1", int(front)), haproxy)
        program, results = drive(fetch, work, front)
    finally:
        # It writes down what it still has.
        haproxy.terminate()
        haproxy.wait()
        for origin in origins:
            origin.kill()
    checks = Checks(fetch)
    counts = account(checks, work, results)
    most = JOBS // ATTEMPTS_A_HEDGE
    checks.true("one in twenty", counts["second"] <= most, counts)
    checks.true("late ones were answered by their second request", counts["won"] > 0, counts)
    # Where the machine was busy, others were sent twice, and used up what there was.
    others = counts["second"] - counts["late"] + counts["waited for"]
    checks.true("the rest was wanting for others", counts["not paid for"] <= others, counts)
    driving.report(
        "hedging",
        program.wrong,
        f"{program.checked} of {JOBS} results accounted for, {checks.count} checks against "
        f"{version_of('haproxy', '-v')}: of {counts['late']} late ones {counts['won']} answered by "
        f"their second request and {counts['waited for']} waited for, {counts['second']} second "
        f"requests in all (at most {most}), {program.seconds():.1f} s",
    )


if __name__ == "__main__":
    main()
