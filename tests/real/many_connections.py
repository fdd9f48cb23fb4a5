"""Has `fetch` wait on many connections at once, against slow_origin.py, and checks every body."""

import argparse
import os
import resource
import signal
import subprocess
import sys

import driving
import slow_origin

# Each has another port of its own side: to one address there are about 28,000.
OWN_DESCRIPTORS = 200
SECONDS = "300"


def jobs(options, port):
    for number in range(options.jobs):
        path = f"/{number}"
        yield {"id": number, "url": f"http://127.0.0.1:{port}{path}"}, path


def judge(_, path, result):
    if result["error"] is not None or result["status"] != 200:
        return "not fetched"
    return None if result["body"].encode() == slow_origin.body_of(path) else "another body"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--fetch", "--errors"):
        parser.add_argument(name, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--at-once", type=int, required=True)
    options = parser.parse_args()
    driving.end_on_signals()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    descriptors = options.at_once + OWN_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and hard < descriptors:
        options.at_once = hard - OWN_DESCRIPTORS
        print(f"many connections: {descriptors} descriptors are needed, {hard} may be had: "
              f"{options.at_once} connections at once")
        descriptors = hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    here = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, os.path.join(here, "slow_origin.py"), str(options.at_once)]
    origin = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(origin.stdout.readline().split()[-1])
        arguments = ["-c", str(options.at_once), "-m", SECONDS, "--connect-timeout", SECONDS]
        with driving.Program(options.fetch, arguments, judge, options.errors) as program:
            program.feed(jobs(options, port))
            program.finish()
    finally:
        origin.send_signal(signal.SIGTERM)
    at_once = int(origin.communicate()[0].split()[-1])
    wrong = program.wrong
    if at_once < options.at_once:
        wrong.append(f"only {at_once} waited at once")
    driving.report(
        "many connections",
        wrong,
        f"{program.checked} of {options.jobs} bodies right, {at_once} waited for at once, "
        f"{program.seconds():.1f} s",
    )


if __name__ == "__main__":
    main()
