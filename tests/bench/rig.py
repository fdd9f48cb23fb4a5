"""What the benchmark and the guard share: building, origins, and counting what a client does."""

import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "bench")
CORES = sorted(os.sched_getaffinity(0))
# The client has the first core for itself, the origin the last.
CLIENT_CORE, ORIGIN_CORE = CORES[0], CORES[-1]
SECONDS_MAX = 180
ALLOCATORS = {"malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign", "memalign"}


class Missed(Exception):
    """A figure that cannot be had, and why."""


def need(package, command):
    """Installs a Debian package unless the command is there; whether it is there now."""
    if shutil.which(command):
        return True
    script = os.path.join(ROOT, ".ci", "need")
    return subprocess.run([script, package, command], stdout=subprocess.DEVNULL).returncode == 0


def build(programs, profile, features=()):
    """Builds programs of this crate; the folder that they are in."""
    command = ["cargo", "build", "--locked", "--profile", profile, "--target-dir", TARGET]
    command += ["--manifest-path", os.path.join(HERE, "Cargo.toml")]
    for program in programs:
        command += ["--bin", program]
    if features:
        command += ["--features", ",".join(features)]
    subprocess.run(command, check=True)
    return os.path.join(TARGET, profile)


def allow_descriptors(wanted):
    """For this process and those that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(f"{wanted} descriptors are needed, {hard} may be had: ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def pin(core):
    return lambda: os.sched_setaffinity(0, {core})


class Origin:
    """An origin of this crate's, on its own core, until the block is left."""

    def __init__(self, folder, **options):
        self.work = tempfile.TemporaryDirectory()
        self.authority = os.path.join(self.work.name, "authority.pem")
        if options.pop("tls", False):
            options["tls"] = self.authority
        if "gate" in options:
            for name in ("ask", "told"):
                os.mkfifo(os.path.join(self.work.name, name))
            options["gate"] = self.work.name
        self.is_tls = "tls" in options
        words = [f"{key}={int(value) if value is True else value}" for key, value in options.items()]
        self.process = subprocess.Popen(
            [os.path.join(folder, "origin"), "origin", *words],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=pin(ORIGIN_CORE),
        )
        self.port, self.counters_port, self.dns_port = map(int, self.process.stdout.readline().split())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        self.work.cleanup()

    @property
    def url(self):
        return f"{'https' if self.is_tls else 'http'}://127.0.0.1:{self.port}/"

    def words(self):
        """Nothing that a client does not know."""
        return {}

    def counters(self):
        """Requests, connections, handshakes, and those of them that took up a session."""
        with socket.create_connection(("127.0.0.1", self.counters_port)) as stream:
            return [int(word) for word in stream.makefile().read().split()]


def words(origin, **options):
    """The command line that this crate's clients share."""
    options = {"url": origin.url, **origin.words(), **options}
    if origin.is_tls:
        options["ca"] = origin.authority
    return [f"{key}={int(value) if value is True else value}" for key, value in options.items()]


def last_json(text):
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if not lines:
        raise Missed("it said nothing")
    return json.loads(lines[-1])


def quantiles(seconds):
    """Of latencies, in the words of this crate's clients."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {name: ordered[min(int(len(ordered) * part), len(ordered) - 1)] * 1e6
            for name, part in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999))}


def run(command, seconds=SECONDS_MAX, quiet=False):
    """Runs a command on the client's core; what it printed, and on standard error."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if quiet else out,
                stderr=err,
                timeout=seconds,
                preexec_fn=pin(CLIENT_CORE),
            )
        except subprocess.TimeoutExpired as late:
            raise Missed(f"not done after {seconds} s") from late
        out.seek(0)
        err.seek(0)
        printed, complaints = out.read(), err.read()
    if done.returncode != 0:
        said = complaints.strip().splitlines() or ["nothing"]
        raise Missed(f"it ended with {done.returncode} and said: {said[-1][:200]}")
    return printed, complaints


def measured(folder, command, quiet=False):
    """As `run`; what it printed, and what the whole process cost."""
    with tempfile.NamedTemporaryFile("r") as file:
        began = time.monotonic()
        measure = os.path.join(folder, "measure")
        printed, _ = run([measure, file.name, *command], quiet=quiet)
        wall_us = round((time.monotonic() - began) * 1e6)
        return printed, {**json.load(file), "wall_us": wall_us}


def instructions(command):
    """Instructions in user space, by valgrind; and what the command printed."""
    (counted, _), printed = instructions_and_allocations(command)
    return counted, printed


def instructions_and_allocations(command):
    """The same, and how often the C library's allocator was called."""
    with tempfile.NamedTemporaryFile(mode="r") as profile:
        printed, complaints = run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile.name}", *command],
            seconds=600,
        )
        allocations = allocator_calls(profile)
    found = re.search(r"Collected : (\d+)", complaints)
    if not found:
        raise Missed("valgrind counted nothing")
    return [int(found[1]), allocations], printed


def allocator_calls(profile):
    """The calls in a file of callgrind's. A name stands behind its number the first time only."""
    numbers, count, is_allocator = set(), 0, False
    for line in profile:
        if found := re.match(r"c?fn=\((\d+)\)(?: (\w+)$)?", line):
            if found[2] in ALLOCATORS:
                numbers.add(found[1])
            is_allocator = line.startswith("c") and found[1] in numbers
        elif is_allocator and line.startswith("calls="):
            count += int(line[len("calls="):].split()[0])
    return count


def calls(command):
    """System calls by name, of all threads, by strace; and what the command printed."""
    with tempfile.NamedTemporaryFile(mode="r") as table:
        printed, _ = run(["strace", "-f", "-c", "-U", "calls,name", "-o", table.name, "--", *command])
        counted = {}
        for line in table:
            found = re.match(r"\s*(\d+)\s+([a-z_0-9]+)$", line)
            if found and found[2] != "total":
                counted[found[2]] = int(found[1])
    if not counted:
        raise Missed("strace counted nothing")
    return counted, printed


def calls_in_all(command):
    """System calls of all kinds, counted by the kernel where it lets us, else by strace; and what
    the command printed."""
    with tempfile.NamedTemporaryFile(mode="r") as table:
        perf = ["perf", "stat", "-e", "raw_syscalls:sys_enter", "-x,", "-o", table.name, "--"]
        try:
            printed, _ = run([*perf, *command])
            found = re.search(r"^(\d+),", table.read(), re.MULTILINE)
            return [int(found[1])], printed
        except (Missed, FileNotFoundError, TypeError):
            counted, printed = calls(command)
            return [sum(counted.values())], printed
