"""Drives `fetch` over a bad link to nginx, plain and TLS, and checks every body."""

import argparse
import random

import driving
import files

CONCURRENCY = 128
# A lost SYN alone costs a second, then two, four, eight.
SECONDS = "600"


def jobs(options):
    chance = random.Random(options.jobs)
    for number, name in files.names(options.jobs, chance):
        # One large body is enough: with losses it takes as long as all others.
        if name.startswith("10mib"):
            name = "64kib-0"
        name = "10mib-0" if number == 0 else name
        way = "/close" if chance.random() < 0.1 else ""
        if chance.random() < 0.5:
            url = f"http://{options.address}:{options.plain}{way}/{name}?{number}"
        else:
            url = f"https://localhost:{options.tls}{way}/{name}?{number}"
        resolve = {f"localhost:{options.tls}": options.address}
        yield {"id": number, "url": url, "resolve": resolve}, name


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--fetch", "--files", "--cacert", "--errors"):
        parser.add_argument(name, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("address")
    parser.add_argument("plain", type=int)
    parser.add_argument("tls", type=int)
    options = parser.parse_args()
    driving.end_on_signals()
    digests = files.digests(options.files)

    def judge(_, name, result):
        return files.problem_of_body(result, *digests[name])

    arguments = ["-c", str(CONCURRENCY), "-m", SECONDS, "--connect-timeout", SECONDS]
    arguments += ["--cacert", options.cacert]
    with driving.Program(options.fetch, arguments, judge, options.errors) as program:
        program.feed(jobs(options))
        program.finish()
    driving.report(
        "lossy link",
        program.wrong,
        f"{program.checked} of {options.jobs} bodies right, {program.seconds():.1f} s",
    )


if __name__ == "__main__":
    main()
