"""The workloads and who takes part in each: data, and how each client is called."""

import gzip
import os
import random
import shutil
import subprocess
import sys

import rig

FOLDER = os.path.join(rig.TARGET, "release")
FETCH = os.path.join(rig.TARGET, "fetch", "release", "examples", "fetch")
MULTI = os.path.join(rig.TARGET, "multi")
VENV = os.path.join(rig.TARGET, "venv")
NODE = os.path.join(rig.TARGET, "node")
OTHERS = os.path.join(rig.HERE, "others")
LISTS = os.path.join(rig.TARGET, "lists")
# In memory, where it may be: a disk would be measured otherwise.
SCRATCH = "/dev/shm" if os.path.isdir("/dev/shm") else rig.TARGET
DOWNLOAD = os.path.join(SCRATCH, f"whippet-bench-{os.getpid()}")
GZIPPED = os.path.join(rig.TARGET, "body.gz")
PYTHON = {"aiohttp", "aiohttp-uvloop", "httpx", "requests"}

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Client:
    """One row of a table."""

    def __init__(self, name, command, share=1.0, tells=True, is_native=True, **more):
        self.name, self.command, self.share = name, command, share
        # It prints what its own section cost; else all of its process is taken.
        self.tells = tells
        # Valgrind can run it in a reasonable time.
        self.is_native = is_native and tells
        # It goes on for a second, whatever the number of requests.
        self.counts_time = more.get("counts_time", False)
        self.is_quiet = more.get("is_quiet", not tells)

        # The number of its requests is part of what it is.
        self.is_fixed = "requests" in more
        self.fixed_requests = more.get("requests")

    def requests(self, workload):
        if self.is_fixed:
            return self.fixed_requests
        return max(int(workload.requests * self.share), workload.at_once)


class Workload:
    """One table."""

    def __init__(self, key, title, at_once, requests, clients, **more):
        self.key, self.title, self.at_once, self.requests = key, title, at_once, requests
        self.clients = clients
        self.origin = more.get("origin", {})
        # For the clients of this crate.
        self.words = more.get("words", {})
        self.body = more.get("body", KIB)
        self.floor = more.get("floor", "floor")
        self.unit = more.get("unit", "µs")
        self.each = more.get("each", "requests")
        self.counts_calls = more.get("counts_calls", True)
        self.counts_instructions = more.get("counts_instructions", False)
        self.has_latencies = more.get("has_latencies", False)
        self.connections = more.get("connections", "kept")
        self.descriptors = more.get("descriptors", 1_024)
        self.rounds = more.get("rounds")
        # The part of all fetches that fails, as it should.
        self.failing = more.get("failing", 0)

    def check(self, done, connections, handshakes, resumed):
        """Whether the origin saw what the workload is about."""
        if self.connections == "kept" and connections > 2 * self.at_once + 8:
            raise rig.Missed(f"{connections} connections")
        if self.connections in ("new", "full", "resumed") and connections < done:
            raise rig.Missed(f"{connections} connections for {done} requests")
        if self.connections in ("full", "resumed") and handshakes < done:
            raise rig.Missed(f"{handshakes} handshakes for {done} requests")
        if self.connections == "full" and resumed:
            raise rig.Missed(f"{resumed} of {handshakes} sessions were resumed")
        # The first of them, as many as are under way, have nothing to resume.
        if self.connections == "resumed" and resumed < 0.9 * handshakes - self.at_once:
            raise rig.Missed(f"{resumed} of {handshakes} sessions were resumed")


def ours(program, client, **extra):
    def command(origin, requests, workload, **more):
        options = {"requests": requests, "at_once": workload.at_once, **workload.words}
        return [os.path.join(FOLDER, program), client, *rig.words(origin, **options, **extra, **more)]

    return command


def authority(origin):
    return origin.authority if origin.is_tls else ""


def libcurl(bulk=0, coding=None):
    def command(origin, requests, workload, **_):
        words = [MULTI, origin.url, str(requests), str(workload.at_once), authority(origin), str(bulk)]
        return words + ([coding] if coding else [])

    return command


def python(client):
    def command(origin, requests, workload, **_):
        words = [client, origin.url, str(requests), str(workload.at_once), authority(origin)]
        return [os.path.join(VENV, "bin", "python"), os.path.join(OTHERS, "python.py"), *words]

    return command


def undici(origin, requests, workload, **_):
    words = [NODE, origin.url, str(requests), str(workload.at_once), authority(origin)]
    return ["node", os.path.join(OTHERS, "undici.mjs"), *words]


def wrk(origin, requests, workload, **_):
    # Connecting is not to be what counts.
    seconds = 1 if workload.at_once < 1_000 else 2
    return ["wrk", "-t1", f"-c{workload.at_once}", f"-d{seconds}s", origin.url]


def curl(*more):
    def command(origin, requests, workload, **_):
        words = ["curl", "-sS", "--noproxy", "*", *more]
        if origin.is_tls:
            words += ["--cacert", origin.authority]
        if requests > 1:
            at_once = str(workload.at_once)
            words += ["--parallel", "--parallel-immediate", "--parallel-max", at_once]
            return [*words, "-o", "/dev/null", f"{origin.url}?[1-{requests}]"]
        return [*words, origin.url]

    return command


def fetch(*more):
    def command(origin, requests, workload, **_):
        words = [FETCH, "-s", "--retry", "0", *more]
        if origin.is_tls:
            words += ["--cacert", origin.authority]
        if requests == 1:
            return [*words, origin.url]
        os.makedirs(LISTS, exist_ok=True)
        path = os.path.join(LISTS, f"{origin.port}-{requests}")
        if not os.path.exists(path):
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"{origin.url}\n" * requests)
        return [*words, "--no-body", "-c", str(workload.at_once), "-i", path]

    return command


def whippet(**extra):
    return [
        Client("reactor", ours("whippet", "reactor", **extra)),
        Client("client", ours("whippet", "client", **extra)),
    ]


def floors(client="requests", **extra):
    return [Client("floor", ours("floor", client, **extra))]


def peer(name, share, **extra):
    return Client(name, ours("peers", name, **extra), share)


PARSING = Client("floor+parse", ours("floor", "requests", parse=1))
FETCHES = Client("fetch", fetch(), tells=False)
WRK = Client("wrk", wrk, tells=False, counts_time=True)


def slow_ones(share, *names):
    """Clients in slower languages, with their shares of the requests."""
    shares = {"aiohttp": 0.05, "aiohttp-uvloop": 0.06, "requests": 0.015, "httpx": 0.003}
    rows = [Client(name, python(name), shares[name] * share, is_native=False)
            for name in shares if name in names]
    if "undici" in names:
        rows.append(Client("undici", undici, 0.12 * share, is_native=False))
    return rows


def all_of(is_quick):
    workloads = [
        Workload(
            "W1", "W1: kept connections, GET of 1 KiB, 64 in flight", 64, 120_000,
            [*floors(), PARSING, *whippet(), FETCHES, WRK, peer("hyperconn", 0.6),
             peer("hyper", 0.5), peer("reqwest", 0.3), peer("ureq", 0.25), peer("miohttpc", 0.5),
             Client("libcurl", libcurl(), 0.25),
             Client("curl --parallel", curl(), 0.1, tells=False),
             *slow_ones(1, "aiohttp", "aiohttp-uvloop", "httpx", "requests", "undici")],
            counts_instructions=True, has_latencies=True,
        ),
        Workload(
            "W2", "W2: the same, 1 in flight", 1, 40_000,
            [*floors(), *whippet(), peer("hyperconn", 0.6), peer("hyper", 0.5),
             peer("reqwest", 0.4), peer("ureq", 0.4), peer("miohttpc", 0.5),
             Client("libcurl", libcurl(), 0.4),
             *slow_ones(2, "aiohttp", "aiohttp-uvloop", "requests", "undici"),
             *slow_ones(4, "httpx")],
            counts_instructions=True, words={"latency": 1},
        ),
        Workload(
            "W3", "W3: 10,000 connections, each answer after 20 ms", 10_000, 150_000,
            [*floors(), *whippet(), WRK, peer("hyper", 1), peer("reqwest", 0.7),
             peer("miohttpc", 1), Client("libcurl", libcurl(), 0.1),
             *slow_ones(3, "aiohttp-uvloop", "undici")],
            origin={"delay_ms": 20}, descriptors=16_000, counts_calls=False,
        ),
        Workload(
            "W4", "W4: a new connection for each request, 64 in flight", 64, 25_000,
            [*floors(), *whippet(), FETCHES, WRK, peer("hyper", 0.7), peer("reqwest", 0.6),
             peer("ureq", 0.4), Client("libcurl", libcurl(), 0.5),
             *slow_ones(2, "aiohttp-uvloop", "undici")],
            origin={"close": 1}, words={"close": 1}, connections="new", counts_instructions=True,
        ),
        Workload(
            "W5", "W5: HTTPS, kept connections, GET of 1 KiB, 64 in flight", 64, 100_000,
            [*floors(), PARSING, *whippet(), FETCHES, WRK, peer("hyperconn", 0.6),
             peer("hyper", 0.5), peer("reqwest", 0.3), peer("ureq", 0.2),
             Client("libcurl", libcurl(), 0.25), *slow_ones(1, "aiohttp-uvloop", "undici")],
            origin={"tls": True}, counts_instructions=True, has_latencies=True,
        ),
        Workload(
            "W6", "W6: HTTPS, a new connection each, full handshake, 16 in flight", 16, 2_000,
            [*floors(), *whippet(), FETCHES, peer("hyper", 1), peer("reqwest", 1), peer("ureq", 0.7),
             Client("libcurl", libcurl(), 0.25), *slow_ones(2.5, "aiohttp-uvloop", "undici")],
            origin={"tls": True, "close": 1}, words={"close": 1}, connections="full",
        ),
        Workload(
            # rustls keeps eight tickets of a server: more at once, and some have none.
            "W6r", "W6r: the same, sessions resumed, 8 in flight", 8, 3_000,
            [*floors(), *whippet(), FETCHES, peer("hyper", 1), peer("reqwest", 1), peer("ureq", 0.7),
             Client("libcurl", libcurl(), 0.25), *slow_ones(2.5, "undici")],
            origin={"tls": True, "close": 1, "resume": 1}, words={"close": 1, "resume": 1},
            connections="resumed",
        ),
        download("W7", "W7: 1 GiB, plain", {}),
        download("W7t", "W7t: 1 GiB, TLS", {"tls": True}),
        Workload(
            "W8", "W8: gzip, 1 MiB decoded, 8 in flight", 8, 160,
            [*whippet(), peer("reqwest", 1, decode=1), Client("libcurl", libcurl(0, "gzip"), 1),
             *slow_ones(1, "aiohttp-uvloop")],
            origin={"file": GZIPPED, "coding": "gzip"}, body=MIB, counts_calls=False,
            floor="reactor",
        ),
        Workload(
            "W9", "W9: process start and one GET", 1, 1,
            [Client("floor", ours("floor", "requests"), tells=False), Client("fetch", fetch(), tells=False),
             *(Client(name, ours("peers", name), tells=False)
               for name in ("hyperconn", "hyper", "reqwest", "ureq")),
             Client("libcurl", libcurl(), tells=False), Client("curl", curl(), tells=False),
             Client("aiohttp", python("aiohttp"), tells=False),
             Client("requests", python("requests"), tells=False),
             Client("undici", undici, tells=False)],
            rounds=15, unit="ms", each="starts", counts_calls=False,
        ),
        names(),
        share(),
    ]
    if is_quick:
        kept = {"floor", "reactor", "client", "hyper", "wrk"}
        workloads = [w for w in workloads if w.key in ("W1", "W2", "W4", "W5", "W7", "W7t")]
        for workload in workloads:
            workload.clients = [client for client in workload.clients if client.name in kept]
    return workloads


def download(key, title, origin):
    to_file = {"save": DOWNLOAD}
    return Workload(
        key, title, 1, 1,
        [*floors("download"), *whippet()[:1],
         Client("floor to a file", ours("floor", "download", **to_file)),
         Client("fetch to a file", fetch("-m", "0", "-o", DOWNLOAD), tells=False),
         peer("hyperconn", 1), peer("hyper", 1), peer("reqwest", 1, bulk=1), peer("ureq", 1),
         Client("libcurl", libcurl(bulk=1)),
         Client("curl", curl("-o", "/dev/null"), tells=False),
         Client("curl to a file", curl("-o", DOWNLOAD), tells=False)],
        origin={**origin, "body": GIB}, words={"body": GIB}, body=GIB, unit="s", each="GiB",
    )


def names():
    """Nothing but the number of fetches differs."""
    origins = 10_000
    def client(requests):
        command = ours("whippet", "names", origins=origins, failing=1)

        def with_dns(origin, _, workload, **more):
            return command(origin, requests, workload, dns=f"127.0.0.1:{origin.dns_port}", **more)

        return Client(
            f"reactor, {requests:,} fetches", with_dns, is_native=False, requests=requests)

    return Workload(
        "W10", "W10: 10,000 origins by name, 5 % of the fetches failing, 64 in flight", 64, 1,
        [client(10_000), client(1_000_000)],
        origin={"everywhere": 1, "names": 1}, floor="reactor, 10,000 fetches", connections="many",
        counts_calls=False, each="fetches", failing=0.05, rounds=2,
    )


def share():
    def client(name, **words):
        command = ours("whippet", "shared", **words)
        return Client(name, command, is_native=False, requests=64 * words["origins"])

    return Workload(
        "W11", "W11: 100 origins, one of them 50 times slower (100 ms), 64 in flight", 64, 1,
        [client("with the slow one", origins=100, slow=99), client("without it", origins=99, slow=99)],
        origin={"everywhere": 1, "delay_ms": 2, "slow": "127.0.1.99", "slow_ms": 100},
        floor="without it", connections="many", counts_calls=False, each="fetches",
    )


def prepare(is_quick):
    """Builds and installs; who cannot take part, and why."""
    skipped = {}
    os.makedirs(rig.TARGET, exist_ok=True)
    rig.build(["origin", "measure", "floor", "whippet", "peers"], "release", ["peers"])
    subprocess.run(
        ["cargo", "build", "--locked", "--release", "--example", "fetch",
         "--target-dir", os.path.join(rig.TARGET, "fetch")], cwd=rig.ROOT, check=True)
    if not rig.need("wrk", "wrk"):
        skipped["wrk"] = "not installed"
    if is_quick:
        return skipped
    rig.need("valgrind", "valgrind")
    rig.need("strace", "strace")
    if not rig.need("curl", "curl"):
        skipped.update(dict.fromkeys(("curl", "curl --parallel", "curl to a file"), "not installed"))
    compiled = rig.need("libcurl4-openssl-dev", "curl-config") and quietly(
        "cc", "-O2", "-o", MULTI, os.path.join(OTHERS, "multi.c"), "-lcurl")
    if not compiled:
        skipped["libcurl"] = "its headers are not installed"
    if not os.path.exists(os.path.join(VENV, "done")):
        if quietly(sys.executable, "-m", "venv", VENV) and quietly(
            os.path.join(VENV, "bin", "pip"), "-q", "install", "aiohttp", "uvloop", "httpx", "requests"
        ):
            open(os.path.join(VENV, "done"), "w", encoding="utf-8").close()
        else:
            skipped.update(dict.fromkeys(PYTHON, "pip does not give it"))
    os.makedirs(NODE, exist_ok=True)
    if not shutil.which("node"):
        skipped["undici"] = "node is not installed"
    elif not os.path.isdir(os.path.join(NODE, "node_modules", "undici")) and not quietly(
        "npm", "install", "--prefix", NODE, "undici@7"
    ):
        skipped["undici"] = "npm does not give it"
    compress()
    return skipped


def quietly(*command):
    try:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        return False
    if done.returncode:
        print(done.stderr, file=sys.stderr)
    return done.returncode == 0


def compress():
    """Text of words, which gets about a third of its length, the same each time."""
    chance = random.Random(1)
    lexicon = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(2_000)]
    text = " ".join(chance.choice(lexicon) for _ in range(MIB // 5))[:MIB]
    with open(GZIPPED, "wb") as file:
        file.write(gzip.compress(text.encode(), 6, mtime=0))
