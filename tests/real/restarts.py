"""Restarts nginx under the jobs of `fetch`.

restarts.py ... CONF PORT     nginx is started with CONF, which listens on PORT

First it is told to reload, several times: every job succeeds, though none is retried. Then it is
killed, with all its processes, and started again after a while, several times: jobs with retries
succeed, or fail as closed or not connected to while it was down.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import threading
import time

import driving
import files

CONCURRENCY = 64
RETRIES = 6
# How long it is left to serve between two reloads and between two kills, and how long it is away.
RELOAD_SECONDS = 1.0
UP_SECONDS = 2.5
DOWN_SECONDS = 0.7
# A result is read this much later than it was come to, at most: less than it serves between kills.
LAG_SECONDS = 1.5


class Nginx:
    def __init__(self, options):
        self.options = options
        self.process = None

    def start(self):
        """Returns once it answers."""
        command = ["nginx", "-p", os.path.dirname(self.options.conf), "-e", self.options.log]
        # In a group of its own: killed as one.
        self.process = subprocess.Popen(
            [*command, "-c", self.options.conf], start_new_session=True
        )
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.options.port)).close()
                return
            except ConnectionRefusedError:
                if self.process.poll() is not None:
                    raise SystemExit("nginx does not start") from None
                time.sleep(0.01)

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def kill(self):
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()


class Phase:
    """One run of `fetch` while nginx is restarted `times` times by `restart`."""

    def __init__(self, options, retries):
        self.digests = files.digests(options.files)
        self.options = options
        self.retries = retries
        self.is_over = threading.Event()
        # From when to when nginx was away.
        self.away = []
        self.kinds = {}
        self.retried = 0

    def jobs(self):
        """As many as there is time for, but at least those asked for."""
        number = 0
        while number < self.options.jobs or not self.is_over.is_set():
            for _, name in files.names(100, random.Random(number)):
                # The large ones would be most of the time.
                name = "64kib-0" if name.startswith("10mib") else name
                url = f"http://127.0.0.1:{self.options.port}/{name}?{number}"
                yield {"id": number, "url": url, "retries": self.retries}, name
                number += 1

    def judge(self, _, name, result):
        error = result["error"]
        if error is None:
            self.retried += result["attempts"] > 1
            return files.problem_of_body(result, *self.digests[name])
        if error["kind"] not in ("connect", "closed"):
            return "neither closed nor not connected to"
        end = time.monotonic()
        begin = end - result["timings"]["total"] - LAG_SECONDS
        if not any(begin <= up and down <= end for down, up in self.away):
            return "failed while nginx was there"
        self.kinds[error["kind"]] = self.kinds.get(error["kind"], 0) + 1
        return None

    def run(self, times, up_seconds, restart):
        arguments = ["-c", str(CONCURRENCY)]
        options = self.options
        with driving.Program(options.fetch, arguments, self.judge, options.errors) as program:
            feeder = threading.Thread(target=program.feed, args=(self.jobs(),), daemon=True)
            feeder.start()
            for _ in range(times):
                time.sleep(up_seconds)
                restart(self)
            time.sleep(up_seconds)
            self.is_over.set()
            feeder.join()
            program.finish()
        return program


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--fetch", "--files", "--errors", "--log"):
        parser.add_argument(name, required=True)
    parser.add_argument("--jobs", type=int, required=True, help="of each phase, at least")
    parser.add_argument("--times", type=int, required=True, help="restarts in each phase")
    parser.add_argument("conf")
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    driving.end_on_signals()
    nginx = Nginx(options)

    def kill_and_start(phase):
        down = time.monotonic()
        # A failure may be told before the list is longer: the end is not known yet.
        phase.away.append((down, float("inf")))
        nginx.kill()
        time.sleep(DOWN_SECONDS)
        nginx.start()
        phase.away[-1] = (down, time.monotonic())

    try:
        nginx.start()
        reloaded = Phase(options, 0)
        program = reloaded.run(options.times, RELOAD_SECONDS, lambda _: nginx.reload())
        driving.report(
            "reload",
            program.wrong,
            f"{program.checked - program.failed} of {program.checked} bodies right over "
            f"{options.times} reloads without a retry, {program.seconds():.1f} s",
        )
        killed = Phase(options, RETRIES)
        program = killed.run(options.times, UP_SECONDS, kill_and_start)
        if not killed.retried and not program.failed:
            program.wrong.append("no job noticed that nginx was killed")
        driving.report(
            "kill -9 and start",
            program.wrong,
            f"{program.checked} results accounted for over {options.times} kills: "
            f"{program.checked - program.failed} bodies right, {killed.retried} of them retried, "
            f"{program.failed} failed while it was down {killed.kinds}, {program.seconds():.1f} s",
        )
    finally:
        nginx.kill()


if __name__ == "__main__":
    main()
