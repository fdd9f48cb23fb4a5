"""Makes files, drives the program over them with jobs, and checks every result.

check.py files DIRECTORY              makes the files that are served
check.py ports N                      prints N free ports of loopback
check.py drive ... BASE_URL...        runs jobs over the files, one result each, all checked
"""

import argparse
import random
import socket
import time

import driving
import files

REUSE_JOBS_MIN = 1000


def print_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    print(*(listener.getsockname()[1] for listener in sockets))


def jobs(options):
    """The jobs of a run, each with its file's name, in an order that the seed fixes."""
    chance = random.Random(options.jobs)
    for number, name in files.names(options.jobs, chance):
        if options.pause and number == options.jobs // 2:
            time.sleep(options.pause)
        prefix, headers = "", []
        way = chance.randrange(8)
        if way == 0:
            headers = [["Connection", "close"]]
        elif way == 1:
            prefix = options.close_path
        base = chance.choice(options.bases)
        job = {"id": number, "url": f"{base}{prefix}/{name}?{number}"}
        if headers:
            job["headers"] = headers
        yield job, name


def drive(options):
    digests = files.digests(options.files)
    reused = 0

    def judge(_, name, result):
        nonlocal reused
        problem = files.problem_of_body(result, *digests[name])
        if problem is None and name in ("empty", "text") and "body" not in result:
            problem = "UTF-8 that is not given as text"
        reused += problem is None and bool(result["reused"])
        return problem

    arguments = ["--cacert", options.cacert, *options.option]
    if options.concurrency:
        arguments += ["-c", str(options.concurrency)]
    with driving.Program(options.fetch, arguments, judge, options.errors) as program:
        program.feed(jobs(options))
        program.finish()
    # About a quarter of the jobs closes its connection, and each of those needs another. In a short
    # run, so do the first ones.
    few = options.jobs >= REUSE_JOBS_MIN and reused * 2 < program.checked
    if reused if options.expect_reuse == "none" else few:
        program.wrong.append(f"{reused} of {program.checked} on a reused connection")
    if program.checked != options.jobs and not program.wrong:
        program.wrong.append("not every job was given")
    driving.report(
        options.server,
        program.wrong,
        f"{program.checked} of {options.jobs} bodies checked, {reused} on reused connections, "
        f"{program.seconds():.1f} s",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("files").add_argument("directory")
    commands.add_parser("ports").add_argument("count", type=int)
    driven = commands.add_parser("drive")
    for name in ("--fetch", "--files", "--cacert", "--errors", "--server"):
        driven.add_argument(name, required=True)
    driven.add_argument("--jobs", type=int, required=True)
    driven.add_argument("--concurrency", type=int)
    driven.add_argument("--close-path", default="")
    driven.add_argument("--option", action="append", default=[], help="one more of the program")
    driven.add_argument("--expect-reuse", choices=["most", "none"], required=True)
    driven.add_argument("--pause", type=float, default=0)
    driven.add_argument("bases", nargs="+")
    options = parser.parse_args()
    if options.command == "files":
        files.make(options.directory)
    elif options.command == "ports":
        print_ports(options.count)
    else:
        driving.end_on_signals()
        drive(options)


if __name__ == "__main__":
    main()
