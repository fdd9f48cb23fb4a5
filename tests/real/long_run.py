"""Has one `fetch` run for long, and compares what it holds at a tenth of the way and at the end.

Most of the fetches go over kept connections; some close theirs, are redirected, refused, answered
with an error or with nothing. The memory (VmRSS) stays within 5 %, and there is no descriptor more.
"""

import argparse
import os
import time

import driving
import files

CONCURRENCY = 64
GROWTH_MAX = 0.05
# tcpmux: nobody listens there.
REFUSED_PORT = 1
# Kept connections are closed after 4 s.
IDLE_SECONDS_MAX = 60


def jobs(options, begin, end):
    """In each hundred every way as often as it stands here."""
    plain = f"http://127.0.0.1:{options.plain}"
    tls = f"https://127.0.0.1:{options.tls}"
    refused = f"http://127.0.0.1:{REFUSED_PORT}"
    ways = [(f"{plain}/kib-0", 200)] * 79 + [(f"{tls}/kib-0", 200)] * 5
    ways += [(f"{tls}/close/kib-0", 200)] + [(f"{plain}/close/kib-0", 200)] * 5
    ways += [(f"{plain}/moved/kib-0", 200)] * 4 + [(f"{plain}/missing", 404)] * 2
    ways += [(f"{refused}/", "connect")] * 2 + [(f"{plain}/nothing", "closed")] * 2
    for number in range(begin, end):
        # 37 has no factor in common with 100: each way comes once.
        url, expected = ways[number * 37 % len(ways)]
        yield {"id": number, "url": f"{url}?{number}"}, expected


class Holds:
    """What a process holds."""

    def __init__(self, pid):
        self.pid = pid

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def kib(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    def at_rest(self, descriptors):
        """Kibibytes and descriptors, once there are no more than these, or after a while."""
        until = time.monotonic() + IDLE_SECONDS_MAX
        while self.descriptors() > descriptors and time.monotonic() < until:
            time.sleep(0.1)
        return self.kib(), self.descriptors()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--fetch", "--files", "--cacert", "--errors"):
        parser.add_argument(name, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("plain", type=int)
    parser.add_argument("tls", type=int)
    options = parser.parse_args()
    driving.end_on_signals()
    size, digest = files.digests(options.files)["kib-0"]

    def judge(_, expected, result):
        if expected == 200:
            return files.problem_of_body(result, size, digest)
        error = result["error"]
        came_to = error["kind"] if error else result["status"]
        return None if came_to == expected else f"not {expected}"

    arguments = ["-c", str(CONCURRENCY), "--cacert", options.cacert]
    with driving.Program(options.fetch, arguments, judge, options.errors) as program:
        holds = Holds(program.process.pid)
        # The refused one leaves no connection: so many descriptors it has at rest.
        program.feed([({"id": -1, "url": f"http://127.0.0.1:{REFUSED_PORT}/"}, "connect")])
        program.drain()
        descriptors = holds.descriptors()
        program.feed(jobs(options, 0, options.jobs // 10))
        program.drain()
        early = holds.at_rest(descriptors)
        program.feed(jobs(options, options.jobs // 10, options.jobs))
        program.drain()
        late = holds.at_rest(descriptors)
        program.finish()
    wrong = program.wrong
    if abs(late[0] - early[0]) > GROWTH_MAX * early[0]:
        wrong.append(f"{early[0]} KiB became {late[0]} KiB")
    if (early[1], late[1]) != (descriptors, descriptors):
        wrong.append(f"{descriptors} descriptors became {early[1]} and {late[1]}")
    driving.report(
        "long run",
        wrong,
        f"{program.checked} results as planned; after {options.jobs // 10} of them {early[0]} KiB "
        f"and {early[1]} descriptors, after {options.jobs} {late[0]} KiB and {late[1]}, "
        f"{program.seconds():.1f} s",
    )


if __name__ == "__main__":
    main()
