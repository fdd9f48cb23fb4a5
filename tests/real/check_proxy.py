"""Drives `fetch` through proxy.py and holds every result against what the proxy did.

Each address that the proxy has is asked by a few jobs. A success has the right body. Each failed
attempt needs a connection of its own to that address that the proxy broke, and the error that ended
a job one whose fault explains its kind.
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys

import driving
import files

JOBS_PER_ADDRESS = 4
# Addresses that are asked at about the same time.
ADDRESSES_AT_ONCE = 100
TIMEOUT_SECONDS = 8
CONCURRENCY = 256

# What kinds of error a fault may lead to: over plain HTTP, and over TLS.
PLAIN = {
    "reset": {"closed"},
    "cut": {"closed"},
    "corrupt": {"malformed"},
    "blackhole": {"timeout"},
}
TLS = {
    "reset": {"closed", "tls"},
    "cut": {"closed", "tls"},
    # A length that was made larger is waited for.
    "corrupt": {"tls", "certificate", "closed", "timeout"},
    "blackhole": {"timeout"},
}


def address(number):
    return f"127.{16 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def jobs(options, ports):
    """A job, and the name of the file it asks for."""
    chance = random.Random(options.seed)
    for number, name in files.names(options.jobs, chance):
        window = number // (ADDRESSES_AT_ONCE * JOBS_PER_ADDRESS) * ADDRESSES_AT_ONCE
        at = window + chance.randrange(ADDRESSES_AT_ONCE)
        job = {"id": number, "timeout": TIMEOUT_SECONDS, "retries": chance.choice([0, 0, 1, 3])}
        port = ports[at % 3]
        if at % 3 == 0:
            job["url"] = f"http://{address(at)}:{port}/{name}?{number}"
        else:
            job["url"] = f"https://localhost:{port}/{name}?{number}"
            job["resolve"] = {f"localhost:{port}": address(at)}
        yield job, (address(at), at % 3 > 0, name)


class Account:
    """What is known of each address: attempts that failed, and errors that ended jobs."""

    def __init__(self, options):
        self.digests = files.digests(options.files)
        self.attempts = collections.Counter()
        self.errors = collections.defaultdict(list)
        self.kinds = collections.Counter()
        self.is_tls = {}
        self.retried = 0

    def judge(self, job, expected, result):
        at, self.is_tls[at], name = expected[0], expected[1], expected[2]
        error = result["error"]
        self.attempts[at] += result["attempts"] - (error is None)
        if error is None:
            self.retried += result["attempts"] > 1
            return files.problem_of_body(result, *self.digests[name])
        self.errors[at].append((job["id"], error))
        self.kinds[error["kind"]] += 1
        return None

    def unexplained(self, faults):
        """Failures for which the proxy gave no reason, in words."""
        for at, attempts in self.attempts.items():
            broken = [fault for fault in faults[at] if fault != "slow"]
            if attempts > len(broken):
                yield f"{at}: {attempts} attempts failed, the proxy broke only {broken}"
            explains = TLS if self.is_tls[at] else PLAIN
            for number, error in unmatched(self.errors[at], broken, explains):
                yield f"{at}: job {number}: {error} is not explained by {faults[at]}"


def unmatched(errors, faults, explains):
    """The errors that are left when as many as possible have a fault of their own."""
    owner = {}

    def place(error, tried):
        for nth, fault in enumerate(faults):
            if nth not in tried and error[1]["kind"] in explains[fault]:
                tried.add(nth)
                if nth not in owner or place(owner[nth], tried):
                    owner[nth] = error
                    return True
        return False

    return [error for error in errors if not place(error, set())]


def start_proxy(options):
    here = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, os.path.join(here, "proxy.py"), options.seed, options.log]
    proxy = subprocess.Popen([*command, *options.ports], stdout=subprocess.PIPE, text=True)
    return proxy, [int(port) for port in proxy.stdout.readline().split()[1:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--fetch", "--files", "--cacert", "--errors", "--log", "--seed"):
        parser.add_argument(name, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("ports", nargs=3, help="of nginx: plain, TLS, TLS")
    options = parser.parse_args()
    driving.end_on_signals()
    account = Account(options)
    proxy, ports = start_proxy(options)
    try:
        arguments = ["-c", str(CONCURRENCY), "--cacert", options.cacert]
        with driving.Program(options.fetch, arguments, account.judge, options.errors) as program:
            program.feed(jobs(options, ports))
            program.finish()
    finally:
        proxy.send_signal(signal.SIGTERM)
        proxy.wait()
    faults, struck = collections.defaultdict(list), collections.Counter()
    with open(options.log, encoding="utf-8") as log:
        *lines, last = map(json.loads, log)
    for line in lines:
        faults[line["address"]].append(line["fault"])
        struck[line["fault"]] += 1
    wrong = program.wrong + list(account.unexplained(faults))
    missing = [fault for fault in ("slow", *PLAIN) if not struck[fault]]
    if missing:
        wrong.append(f"no connection was made to suffer {missing}")
    driving.report(
        "fault proxy",
        wrong,
        f"{program.checked} of {options.jobs} results accounted for over {last['connections']} "
        f"connections (seed {options.seed}; struck: {dict(struck)}): "
        f"{program.checked - program.failed} bodies right, {account.retried} of them retried, "
        f"{program.failed} failures explained {dict(account.kinds)}, {program.seconds():.1f} s",
    )


if __name__ == "__main__":
    main()
