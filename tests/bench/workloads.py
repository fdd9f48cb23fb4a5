"""The workloads and who takes part in each: data, and how each client is called."""

import gzip
import json
import os
import random
import shutil
import subprocess
import sys

import nginx
import rig

# Where the programs are run from.
FOLDER = os.path.join(rig.TARGET, "programs")
FETCH = os.path.join(FOLDER, "fetch")
MULTI = os.path.join(FOLDER, "multi")
VENV = os.path.join(rig.TARGET, "venv")
NODE = os.path.join(rig.TARGET, "node")
OTHERS = os.path.join(rig.HERE, "others")
LISTS = os.path.join(rig.TARGET, "lists")
# In memory, where it may be: a disk would be measured otherwise.
SCRATCH = "/dev/shm" if os.path.isdir("/dev/shm") else rig.TARGET
DOWNLOAD = os.path.join(SCRATCH, f"whippet-bench-{os.getpid()}")
GZIPPED = os.path.join(rig.TARGET, "body.gz")
PYTHON = {"aiohttp", "aiohttp-uvloop", "httpx", "requests"}

# From here on a table is about them, and says what one takes.
MANY_CONNECTIONS = 1_000
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Client:
    """One row of a table."""

    def __init__(self, name, command, share=1.0, tells=True, **more):
        self.name, self.command, self.share = name, command, share
        # It prints what its own section cost; else all of its process is taken.
        self.tells = tells
        # How what it printed is read; and where it printed a line for each fetch.
        self.said = more.get("said", rig.last_json if tells else None)
        self.times = more.get("times")
        # It goes on for so long, whatever the number of requests.
        self.seconds = more.get("seconds")
        # Of the requests under valgrind; 0: none.
        self.counted_share = more.get("counted_share", 1)

        # The number of its requests, where that is part of what it is.
        self.fixed_requests = more.get("requests")

    def amount(self, workload):
        """Requests of a run, or seconds, where it counts those."""
        if self.seconds:
            return self.seconds
        if self.fixed_requests:
            return self.fixed_requests
        return max(int(workload.requests * self.share), workload.at_once)


class Workload:
    """One table."""

    def __init__(self, key, title, at_once, requests, clients, **more):
        self.key, self.title, self.at_once, self.requests = key, title, at_once, requests
        self.clients = clients
        self.server = more.get("server", own_origin)
        self.origin = more.get("origin", {})
        # For the clients of this crate.
        self.words = more.get("words", {})
        self.body = more.get("body", KIB)
        self.floor = more.get("floor", "floor")
        self.unit = more.get("unit", "µs")
        self.each = more.get("each", "requests")
        # Requests of a short run under valgrind and of a long one, the same where there is but one
        # request; none: nothing is counted.
        self.counted = more.get("counted")
        self.has_latencies = more.get("has_latencies", False)
        self.connections = more.get("connections", "kept")
        self.descriptors = more.get("descriptors", 1_024)
        self.rounds = more.get("rounds")
        # The part of all fetches that fails, as it should.
        self.failing = more.get("failing", 0)

    def serve(self):
        return self.server(**self.origin)

    def check(self, done, connections, handshakes=0, resumed=0):
        """Whether the origin saw what the workload is about."""
        if self.connections == "kept" and connections > 2 * self.at_once + 8:
            raise rig.Missed(f"{connections} connections")
        # What the table is about; fewer in flight are fewer where a client is quick.
        if self.at_once >= MANY_CONNECTIONS and connections < 0.9 * self.at_once:
            raise rig.Missed(f"no more than {connections} connections")
        if self.connections in ("new", "full", "resumed") and connections < done:
            raise rig.Missed(f"{connections} connections for {done} requests")
        if self.connections in ("full", "resumed") and handshakes < done:
            raise rig.Missed(f"{handshakes} handshakes for {done} requests")
        if self.connections == "full" and resumed:
            raise rig.Missed(f"{resumed} of {handshakes} sessions were resumed")
        # The first of them, as many as are under way, have nothing to resume.
        if self.connections == "resumed" and resumed < 0.9 * handshakes - self.at_once:
            raise rig.Missed(f"{resumed} of {handshakes} sessions were resumed")


def own_origin(**options):
    return rig.Origin(FOLDER, **options)


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


def wrk(origin, seconds, workload, **_):
    words = ["-t1", f"-c{workload.at_once}", f"-d{seconds}s", "-s", os.path.join(OTHERS, "wrk.lua")]
    return ["wrk", *words, origin.url]


def curl(*more):
    def command(origin, requests, workload, latency=0):
        words = ["curl", "-sS", "--noproxy", "*", *more]
        if latency:
            words += ["-w", "%{time_total}\\n"]
        if origin.is_tls:
            words += ["--cacert", origin.authority]
        if requests > 1:
            at_once = str(workload.at_once)
            words += ["--parallel", "--parallel-immediate", "--parallel-max", at_once]
            return [*words, "-o", "/dev/null", f"{origin.url}?[1-{requests}]"]
        return [*words, origin.url]

    return command


def fetch(*more):
    def command(origin, requests, workload, latency=0):
        words = [FETCH, "-s", "--retry", "0", *more]
        if latency:
            words += ["--json"]
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
FETCHES = Client(
    "fetch", fetch(), tells=False,
    times=lambda line: json.loads(line)["timings"]["total"])
CURLS = Client("curl --parallel", curl(), 0.1, tells=False, times=float)
WRK = Client("wrk", wrk, tells=False, said=rig.last_json, seconds=1)
# Connecting is not to be what counts.
LONG_WRK = Client("wrk", wrk, tells=False, said=rig.last_json, seconds=2)


def whole(name, command, counted_share=1):
    """A process from its start to its end."""
    return Client(name, command, tells=False, counted_share=counted_share)


def slow_ones(share, *names, is_counted=False):
    """Clients in slower languages, with their shares of the requests."""
    shares = {"aiohttp": 0.05, "aiohttp-uvloop": 0.06, "requests": 0.015, "httpx": 0.003, "undici": 0.12}
    # Enough of them for compilers that work meanwhile.
    counted_shares = {"httpx": 0.1, "undici": 1}
    return [
        Client(name, undici if name == "undici" else python(name), shares[name] * share,
               counted_share=counted_shares.get(name, 0.2) if is_counted else 0)
        for name in names
    ]


def all_of(is_quick):
    workloads = [
        Workload(
            "W1", "W1: kept connections, GET of 1 KiB, 64 in flight", 64, 100_000,
            [*floors(), PARSING, *whippet(), FETCHES, WRK, peer("hyperconn", 0.6),
             peer("hyper", 0.5), peer("reqwest", 0.3), peer("ureq", 0.25), peer("miohttpc", 0.5),
             Client("libcurl", libcurl(), 0.25), CURLS,
             *slow_ones(1, "aiohttp", "aiohttp-uvloop", "httpx", "requests", "undici", is_counted=True)],
            counted=(1_000, 3_000), has_latencies=True,
        ),
        Workload(
            "W2", "W2: the same, 1 in flight", 1, 25_000,
            [*floors(), *whippet(), FETCHES, peer("hyperconn", 0.6), peer("hyper", 0.5),
             peer("reqwest", 0.4), peer("ureq", 0.4), peer("miohttpc", 0.5),
             Client("libcurl", libcurl(), 0.4),
             *slow_ones(2, "aiohttp", "aiohttp-uvloop", "requests", "undici"),
             *slow_ones(4, "httpx")],
            counted=(1_000, 3_000), has_latencies=True, words={"latency": 1},
        ),
        Workload(
            "W3", "W3: 10,000 connections, each answer after 20 ms", 10_000, 150_000,
            # Not fetch: it takes jobs in as it goes, and needs fewer connections for them.
            [*floors(), *whippet(), LONG_WRK, peer("hyper", 1), peer("reqwest", 0.7),
             peer("miohttpc", 1), Client("libcurl", libcurl(), 0.1),
             *slow_ones(2, "aiohttp-uvloop"), *slow_ones(1.5, "undici")],
            origin={"delay_ms": 20}, descriptors=16_000, has_latencies=True,
        ),
        Workload(
            "W4", "W4: a new connection for each request, 64 in flight", 64, 25_000,
            [*floors(), *whippet(), FETCHES, WRK, peer("hyper", 0.7), peer("reqwest", 0.6),
             peer("ureq", 0.4), Client("libcurl", libcurl(), 0.5),
             *slow_ones(2, "aiohttp-uvloop", "undici")],
            origin={"close": 1}, words={"close": 1}, connections="new", counted=(1_000, 3_000),
            has_latencies=True,
        ),
        Workload(
            "W5", "W5: HTTPS, kept connections, GET of 1 KiB, 64 in flight", 64, 80_000,
            [*floors(), PARSING, *whippet(), FETCHES, WRK, peer("hyperconn", 0.6),
             peer("hyper", 0.5), peer("reqwest", 0.3), peer("ureq", 0.2),
             Client("libcurl", libcurl(), 0.25), *slow_ones(1, "aiohttp-uvloop", "undici")],
            origin={"tls": True}, counted=(1_000, 3_000), has_latencies=True,
        ),
        Workload(
            "W6", "W6: HTTPS, a new connection each, full handshake, 16 in flight", 16, 2_000,
            [*floors(), *whippet(), FETCHES, peer("hyper", 1), peer("reqwest", 1), peer("ureq", 0.7),
             Client("libcurl", libcurl(), 0.25), *slow_ones(2.5, "aiohttp-uvloop", "undici")],
            origin={"tls": True, "close": 1}, words={"close": 1}, connections="full",
            counted=(100, 300), has_latencies=True,
        ),
        Workload(
            # rustls keeps eight tickets of a server: more at once, and some have none.
            "W6r", "W6r: the same, sessions resumed, 8 in flight", 8, 3_000,
            [*floors(), *whippet(), FETCHES, peer("hyper", 1), peer("reqwest", 1), peer("ureq", 0.7),
             Client("libcurl", libcurl(), 0.25), *slow_ones(2.5, "undici")],
            origin={"tls": True, "close": 1, "resume": 1}, words={"close": 1, "resume": 1},
            connections="resumed", counted=(100, 300), has_latencies=True,
        ),
        download("W7", "W7: 1 GiB, plain", {}, counted=(1, 1)),
        # AES of a GiB takes valgrind minutes.
        download("W7t", "W7t: 1 GiB, TLS", {"tls": True}, counted=None),
        Workload(
            "W8", "W8: gzip, 1 MiB decoded, 8 in flight", 8, 160,
            [*whippet(), FETCHES, peer("reqwest", 1, decode=1),
             Client("libcurl", libcurl(0, "gzip"), 1), *slow_ones(1, "aiohttp-uvloop")],
            origin={"file": GZIPPED, "coding": "gzip"}, body=MIB, floor="reactor", counted=(16, 48),
        ),
        Workload(
            "W9", "W9: process start and one GET", 1, 1,
            [whole(name, command, share)
             for name, command, share in (
                 ("floor", ours("floor", "requests"), 1),
                 ("fetch", fetch(), 1),
                 *((name, ours("peers", name), 1) for name in ("hyperconn", "hyper", "reqwest", "ureq")),
                 ("libcurl", libcurl(), 1),
                 ("curl", curl(), 1),
                 ("aiohttp", python("aiohttp"), 0),
                 ("requests", python("requests"), 0),
                 ("undici", undici, 0),
             )],
            rounds=15, unit="ms", each="starts", counted=(1, 1),
        ),
        names(),
        share(),
        *of_nginx(),
    ]
    if is_quick:
        kept = {"floor", "reactor", "client", "hyper", "wrk"}
        workloads = [w for w in workloads if w.key in ("W1", "W2", "W4", "W5", "W7", "W7t")]
        for workload in workloads:
            workload.clients = [client for client in workload.clients if client.name in kept]
    return workloads


def of_nginx():
    """What W1, W4 and W5 come to where a server has other work than ours."""
    clients = [*floors(), *whippet(), FETCHES, WRK, peer("hyperconn", 0.6), peer("hyper", 0.5),
               peer("reqwest", 0.4), peer("ureq", 0.3), Client("libcurl", libcurl(), 0.25)]
    of_new = [client for client in clients if client.name != "hyperconn"]
    shared = {"server": nginx.Nginx, "has_latencies": True}
    return [
        Workload("W1n", "W1n: as W1, from nginx", 64, 40_000, clients, **shared),
        Workload("W4n", "W4n: as W4, from nginx", 64, 10_000, of_new, **shared,
                 origin={"close": True}, words={"close": 1}, connections="new"),
        Workload("W5n", "W5n: as W5, from nginx", 64, 40_000, clients, **shared, origin={"tls": True}),
    ]


def download(key, title, origin, counted):
    to_file = {"save": DOWNLOAD}
    return Workload(
        key, title, 1, 1,
        [*floors("download"), *whippet()[:1],
         Client("floor to a file", ours("floor", "download", **to_file)),
         whole("fetch to a file", fetch("-m", "0", "-o", DOWNLOAD)),
         peer("hyperconn", 1), peer("hyper", 1), peer("reqwest", 1, bulk=1), peer("ureq", 1),
         Client("libcurl", libcurl(bulk=1)),
         whole("curl", curl("-o", "/dev/null")),
         whole("curl to a file", curl("-o", DOWNLOAD))],
        origin={**origin, "body": GIB}, words={"body": GIB}, body=GIB, unit="s", each="GiB",
        counted=counted, rounds=9,
    )


def names():
    """Nothing but the number of fetches differs."""
    origins = 10_000
    def client(requests):
        command = ours("whippet", "names", origins=origins, failing=1)

        def with_dns(origin, _, workload, **more):
            return command(origin, requests, workload, dns=f"127.0.0.1:{origin.dns_port}", **more)

        return Client(f"reactor, {requests:,} fetches", with_dns, requests=requests)

    return Workload(
        "W10", "W10: 10,000 origins by name, 5 % of the fetches failing, 64 in flight", 64, 1,
        [client(10_000), client(1_000_000)],
        origin={"everywhere": 1, "names": 1}, floor="reactor, 10,000 fetches", connections="many",
        each="fetches", failing=0.05,
    )


def share():
    def client(name, **words):
        command = ours("whippet", "shared", **words)
        return Client(name, command, requests=64 * words["origins"])

    return Workload(
        "W11", "W11: 100 origins, one of them 50 times slower (100 ms), 64 in flight", 64, 1,
        [client("with the slow one", origins=100, slow=99), client("without it", origins=99, slow=99)],
        origin={"everywhere": 1, "delay_ms": 2, "slow": "127.0.1.99", "slow_ms": 100},
        floor="without it", connections="many", each="fetches",
    )


def prepare(is_quick):
    """Builds and installs; who cannot take part, and why."""
    skipped = {}
    os.makedirs(FOLDER, exist_ok=True)
    ours = ["origin", "measure", "floor", "whippet", "peers"]
    built = rig.build(ours, "release", ["peers"])
    for_fetch = os.path.join(rig.TARGET, "fetch")
    subprocess.run(
        ["cargo", "build", "--locked", "--release", "--example", "fetch", "--target-dir", for_fetch],
        cwd=rig.ROOT, check=True)
    install(*(os.path.join(built, program) for program in ours))
    install(os.path.join(for_fetch, "release", "examples", "fetch"))
    if not rig.need("wrk", "wrk"):
        skipped["wrk"] = "not installed"
    if not (rig.need("nginx", "nginx") and rig.need("openssl", "openssl")):
        skipped["nginx"] = "not installed"
    if is_quick:
        return skipped
    rig.need("valgrind", "valgrind")
    rig.need("strace", "strace")
    if not rig.need("curl", "curl"):
        skipped.update(dict.fromkeys(("curl", "curl --parallel", "curl to a file"), "not installed"))
    compiled = os.path.join(rig.TARGET, "multi")
    if rig.need("libcurl4-openssl-dev", "curl-config") and quietly(
        "cc", "-O2", "-o", compiled, os.path.join(OTHERS, "multi.c"), "-lcurl"
    ):
        install(compiled)
    else:
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


def install(*programs):
    """Copies them. A file as a linker wrote it is in the kernel's cache piece by piece, and a
    process of it takes 16 % longer to start than one of a copy, as which programs are installed."""
    for program in programs:
        shutil.copy(program, FOLDER)


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
