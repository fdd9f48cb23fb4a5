"""Kills `fetch` at random moments while it writes bodies to files, and looks at what is left.

A file under its final name is whole. Files under temporary names may be there.
"""

import argparse
import collections
import hashlib
import os
import random
import re
import shutil
import threading
import time

import driving
import files

CONCURRENCY = 32
# Of each run; it is killed long before the last one.
JOBS = 20_000
RESULTS_BEFORE_MAX = 300
SECONDS_MORE_MAX = 0.03
# The larger ones more often than elsewhere, for they take several writes.
NAMES = ["empty", "kib-0", "text", *["64kib-0", "64kib-1"] * 14, "10mib-0"]
PART = re.compile(r"^\.fetch-\d+-\d+\.part$")


def jobs(options, chance):
    for number in range(JOBS):
        name = chance.choice(NAMES)
        yield {"id": number, "url": f"http://127.0.0.1:{options.port}/{name}?{number}"}, name


def kill_once(options, seed):
    """Lets it begin and kills it; what was wrong before that."""
    chance = random.Random(seed)
    results = chance.randrange(RESULTS_BEFORE_MAX)

    def judge(_, name, result):
        return "not fetched" if result["error"] or result["status"] != 200 else None

    arguments = ["-c", str(CONCURRENCY), "-o", options.output + "/"]
    with driving.Program(options.fetch, arguments, judge, options.errors) as program:
        feeder = threading.Thread(target=program.feed, args=(jobs(options, chance),), daemon=True)
        feeder.start()
        while program.checked < results and not program.wrong and program.process.poll() is None:
            time.sleep(0.0005)
        time.sleep(chance.random() * SECONDS_MORE_MAX)
        wrong = list(program.wrong)
        if program.process.poll() is not None:
            wrong.append(f"it ended by itself: {program.process.returncode}")
        program.process.kill()
        program.process.wait()
        feeder.join()
    return wrong


def look(options, digests, found):
    """What is wrong with the files that are left. Counts them."""
    for entry in os.scandir(options.output):
        with open(entry.path, "rb") as file:
            content = file.read()
        if PART.match(entry.name):
            found["temporary"] += 1
            continue
        size, digest = digests[entry.name.split(".")[0]]
        found["whole"] += 1
        if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
            yield f"{entry.name} has {len(content)} bytes of {size}, or others"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--fetch", "--files", "--errors", "--output", "--seed"):
        parser.add_argument(name, required=True)
    parser.add_argument("--times", type=int, required=True)
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    driving.end_on_signals()
    digests = files.digests(options.files)
    found, wrong, begin = collections.Counter(), [], time.monotonic()
    for nth in range(options.times):
        os.mkdir(options.output)
        wrong += kill_once(options, f"{options.seed} {nth}")
        before = found["temporary"]
        wrong += look(options, digests, found)
        found["torn"] += found["temporary"] > before
        shutil.rmtree(options.output)
    if not found["torn"] or not found["whole"]:
        wrong.append("never killed in the middle of a file")
    driving.report(
        "kills",
        wrong,
        f"{options.times} kills (seed {options.seed}), {found['torn']} of them amid files: "
        f"{found['whole']} files are whole, {found['temporary']} have a temporary name, "
        f"{time.monotonic() - begin:.1f} s",
    )


if __name__ == "__main__":
    main()
