"""sockets.py FETCH WORK PLAIN TLS12 TLS13: how connections are made, as `fetch` is told it, as
nginx and the kernel saw it, and as `fetch -v` says it."""

import collections
import json
import re
import socket
import subprocess
import sys

from checks import Checks, Log, lines_of, version_of

Seen = collections.namedtuple(
    "Seen", "status method target host peer port tls name connection nth received sent"
)
CLOSE = {"headers": [["Connection", "close"]]}


class Sockets:
    def __init__(self, fetch, work, plain, tls12, tls13):
        self.checks = Checks(fetch, "--cacert", f"{work}/ca.pem", "-c", "1")
        self.fetch, self.work = fetch, work
        self.plain, self.tls12, self.tls13 = plain, tls12, tls13
        self.base = f"http://127.0.0.1:{plain}"
        self.may_bind_devices = may_bind_devices()
        self.log = Log(f"{work}/nginx/access")

    def seen(self, count):
        """The requests that nginx had since this was asked last, which are so many."""
        lines = self.log.new(count)
        self.checks.equal("requests that came to nginx", len(lines), count)
        return [Seen(*line.split(" ")) for line in lines]

    def one(self, what, url, *options):
        """One request that came to nginx: the body of its answer, and what nginx saw of it."""
        (result,) = self.checks.run([{"url": url}], *options)
        self.checks.equal(what, result["status"], 200)
        (seen,) = self.seen(1)
        self.checks.equal(f"{what}, on both sides", result["body"].split()[0], seen.peer)
        return result, seen

    def none(self, what, url, kind, words, *options):
        """One request that fails before there is a request, for a reason."""
        (result,) = self.checks.run([{"url": url}], *options, may_fail=True)
        error = result["error"] or {"kind": None, "message": ""}
        self.checks.equal(f"the error of {what}", error["kind"], kind)
        self.checks.true(f"the words of {what}", words in error["message"], error)
        self.seen(0)

    def paths(self):
        """Over the file system: the URL's host is a name in the request, and nothing else."""
        checks = self.checks
        path = f"{self.work}/plain.sock"
        jobs = [{"url": f"http://any.test{target}"} for target in ("/here", "/moved/here?2")]
        jobs.append({"url": "http://127.0.0.1:1/here", "body": "hello"})
        results = checks.run(jobs, "--unix-socket", path)
        hosts = ["any.test", "any.test", "127.0.0.1:1"]
        bodies = [f"unix: {host} \n" for host in hosts]
        checks.equal("bodies", [result["body"] for result in results], bodies)
        checks.equal("redirects", [len(result["redirects"]) for result in results], [0, 1, 0])
        checks.equal("addresses", [result["remote"] for result in results], [None] * 3)
        seen = self.seen(4)
        checks.equal("peers", {each.peer for each in seen}, {"unix:"})
        asked = [f"{each.method} {each.target}" for each in seen]
        expected = ["GET /here", "GET /moved/here?2", "GET /here?2", "POST /here"]
        checks.equal("requests", asked, expected)
        # A connection belongs to the origin that it was made for, whatever the path is.
        found = [int(each.nth) for each in seen]
        checks.equal("one connection for each origin", found, [1, 2, 3, 1])
        checks.equal("reused", [result["reused"] for result in results], [False, True, False])
        both = ("--unix-socket", f"{self.work}/both.sock")
        _, secure = self.one("TLS", "https://localhost/here", *both)
        checks.equal("its version and name", (secure.tls, secure.name), ("TLSv1.3", "localhost"))
        missing = f"{self.work}/no.sock"
        self.none("no socket", "http://any.test/here", "connect", missing, "--unix-socket", missing)
        self.none("another name", "https://any.test/here", "certificate", "any.test", *both)

    def places(self):
        """From an address, or through an interface."""
        checks, url = self.checks, f"{self.base}/here"
        _, seen = self.one("the system's choice", url)
        checks.equal("its address", seen.peer, "127.0.0.1")
        for address in ("127.0.0.7", "127.20.30.40"):
            result, seen = self.one("from an address", url, "--interface", address)
            checks.equal("the address", seen.peer, address)
            checks.equal("who answered", result["remote"], f"127.0.0.1:{self.plain}")
        for name, words in (("192.0.2.1", "192.0.2.1"), ("::1", "family"), ("none-0", "none-0")):
            self.none(f"no way from {name}", url, "connect", words, "--interface", name)
        if self.may_bind_devices:
            self.one("through an interface", url, "--interface", "lo")
            return "lo"
        self.none("an interface", url, "connect", "interface lo", "--interface", "lo")
        return "lo, which the system refuses"

    def kernel(self):
        """What the kernel is told of a connection before it is made, and what it has then."""
        checks = self.checks
        usual = self.options()
        checks.equal("by default", usual, {"TCP_NODELAY": "[1]"})
        checks.equal("gathering", self.options("--no-tcp-nodelay"), {"TCP_NODELAY": "[0]"})
        probes = {"SO_KEEPALIVE": "[1]", "TCP_KEEPIDLE": "[70]", "TCP_KEEPINTVL": "[70]"}
        probes["TCP_KEEPCNT"] = "[9]"
        checks.equal("probes", self.options("--keepalive-time", "70"), {**usual, **probes})
        limit = {"TCP_USER_TIMEOUT": "[2500]"}
        checks.equal("a limit", self.options("--tcp-user-timeout", "2.5"), {**usual, **limit})
        if self.may_bind_devices:
            device = {"SO_BINDTODEVICE": '"lo"'}
            checks.equal("an interface", self.options("--interface", "lo"), {**usual, **device})
        self.seen(4 + self.may_bind_devices)
        checks.equal("no timer", self.timer(), None)
        name, seconds = self.timer("--keepalive-time", "70")
        checks.equal("the timer", name, "keepalive")
        # It runs from when something came last.
        checks.true("its time", 0 < seconds <= 70, seconds)
        self.seen(2)

    def options(self, *said):
        """The options that the one socket was given which connects to nginx, all of them taken."""
        log = f"{self.work}/strace"
        traced = ["strace", "-o", log, "-e", "trace=setsockopt,connect"]
        command = [*traced, self.fetch, "-s", *said, f"{self.base}/here"]
        subprocess.run(command, check=True, capture_output=True)
        options, connected = collections.defaultdict(dict), []
        for line in lines_of(log):
            if found := re.match(r"setsockopt\((\d+), \w+, (\w+), (.+), \d+\) += 0$", line):
                descriptor, name, value = found.groups()
                options[descriptor][name] = value.removesuffix("\\0")
            elif found := re.match(rf"connect\((\d+), .*htons\({self.plain}\)", line):
                connected.append(found.group(1))
        self.checks.equal("connections", len(connected), 1)
        return options[connected[0]]

    def timer(self, *options):
        """What runs for the connection that a run keeps after its first request."""
        command = [self.fetch, "-s", "--json", "--jobs", "-", *options]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as program:
            program.stdin.write(json.dumps({"url": f"{self.base}/here"}) + "\n")
            program.stdin.flush()
            self.checks.equal("status", json.loads(program.stdout.readline())["status"], 200)
            command = ["ss", "-Htno", "state", "established", f"( dport = :{self.plain} )"]
            shown = subprocess.run(command, capture_output=True, text=True, check=True)
            program.stdin.close()
        self.checks.equal("connections", len(shown.stdout.splitlines()), 1)
        found = re.search(r"timer:\((\w+),(?:(\d+)min)?(?:([\d.]+)sec)?", shown.stdout)
        return found and (found[1], 60 * int(found[2] or 0) + float(found[3] or 0))

    def detours(self):
        """Led elsewhere: the request and the certificate stay those of the URL."""
        checks, plain = self.checks, self.plain
        targets = ("/here", "/moved/here", "/here?3")
        jobs = [{"url": f"http://a.test:81{target}"} for target in targets]
        jobs.append({"url": f"{self.base}/here?4"})
        results = checks.run(jobs, "--connect-to", f"a.test:81:localhost:{plain}")
        checks.equal("one place", {result["remote"] for result in results}, {f"127.0.0.1:{plain}"})
        asked = [(each.target, each.host) for each in self.seen(5)]
        led = [(target, "a.test:81") for target in ("/here", "/moved/here", "/here", "/here?3")]
        checks.equal("hosts", asked, [*led, ("/here?4", f"127.0.0.1:{plain}")])
        everything = ("--connect-to", f"::127.0.0.1:{self.tls13}")
        _, seen = self.one("everything is led", "https://localhost/here", *everything)
        checks.equal("as it was asked", (seen.host, seen.name), ("localhost", "localhost"))
        checks.equal("where it came", seen.port, self.tls13)
        refused = "is for localhost, 127.0.0.1; a.test was expected"
        self.none("another name", "https://a.test/here", "certificate", refused, *everything)

    def names(self):
        """Another name is asked for, and must be the certificate's."""
        checks, at = self.checks, f"127.0.0.1:{self.tls13}"
        _, seen = self.one("an address", f"https://{at}/here")
        checks.equal("no name is asked for", seen.name, "-")
        _, seen = self.one("with a name", f"https://{at}/here", "--tls-name", "localhost")
        checks.equal("the name", (seen.name, seen.host), ("localhost", at))
        led = ("--connect-to", f"::{at}")
        _, seen = self.one("another host", "https://a.test/here", *led, "--tls-name", "localhost")
        checks.equal("name and host", (seen.name, seen.host), ("localhost", "a.test"))
        wrong = ("--tls-name", "b.test")
        self.none(
            "a wrong name", f"https://{at}/here", "certificate", "b.test was expected", *wrong
        )

    def versions(self):
        """The least version that is taken, with servers that have one or both."""
        old, new = f"https://localhost:{self.tls12}/here", f"https://localhost:{self.tls13}/here"
        both = ("--unix-socket", f"{self.work}/both.sock")
        for url, version, *options in (
            (old, "TLSv1.2"),
            (old, "TLSv1.2", "--tlsv1.2"),
            (new, "TLSv1.3", "--tlsv1.2"),
            (new, "TLSv1.3", "--tlsv1.3"),
            ("https://localhost/here", "TLSv1.3", "--tlsv1.2", *both),
            ("https://localhost/here", "TLSv1.3", "--tlsv1.3", *both),
        ):
            result, seen = self.one(f"{options}", url, *options)
            self.checks.equal(f"{options} with {url}", seen.tls, version)
            self.checks.equal("as it was answered", result["body"].split()[2], version)
        self.none("too old", old, "tls", "no TLS version in common", "--tlsv1.3")
        errors = lines_of(f"{self.work}/nginx/errors")
        refused = [line for line in errors if "unsupported protocol" in line]
        self.checks.equal("what nginx refused", len(refused), 1)

    def said(self):
        """What -v says of each request and its connection is what nginx wrote down of them."""
        checks = self.checks
        jobs = [{"url": f"{self.base}/here?0"}, {"url": f"{self.base}/moved/here?1"}]
        jobs += [{"url": f"{self.base}/here?2", **CLOSE}, {"url": f"{self.base}/here?3"}]
        done = subprocess.run(
            [self.fetch, "-v", "-s", "-c", "1", "--json", "--ordered", "--jobs", "-"],
            input="".join(json.dumps(job) + "\n" for job in jobs),
            capture_output=True,
            text=True,
            check=True,
        )
        numbers, expected = {}, []
        for each in self.seen(5):
            number = numbers.setdefault(each.connection, len(numbers))
            bytes_both_ways = (int(each.received), int(each.sent))
            of_it = (f"{each.method} {each.target}", int(each.status), *bytes_both_ways)
            expected.append((number, each.nth != "1", f"127.0.0.1:{each.port}", *of_it))
        checks.equal("what is said", list(requests_said(done.stderr)), expected)
        reused = [json.loads(line)["reused"] for line in done.stdout.splitlines()]
        checks.equal("connections, as nginx counted them", len(numbers), 2)
        checks.equal("reused", reused, [False, True, True, False])


def requests_said(text):
    """Of each request that -v tells of: its connection, whether that was taken again, its other
    end, the request, the status, and the bytes that it added to what went over it and came."""
    counted = collections.defaultdict(lambda: (0, 0))
    for line in text.splitlines():
        if found := CONNECTED.match(line):
            peer, number, is_again = found[1], int(found[2]), False
        elif found := TAKEN_AGAIN.match(line):
            number, peer, is_again = int(found[1]), found[2], True
        elif found := REQUEST.match(line):
            request = found[1]
        elif found := STATUS.match(line):
            status = int(found[1])
        elif found := COUNTED.match(line):
            before, after = counted[number], (int(found[1]), int(found[2]))
            counted[number] = after
            added = (after[0] - before[0], after[1] - before[1])
            yield number, is_again, peer, request, status, *added


CONNECTED = re.compile(r"\* \[\d+\] Connected to (\S+) \(#(\d+),")
TAKEN_AGAIN = re.compile(r"\* \[\d+\] Connection #(\d+) to (\S+) is taken again")
REQUEST = re.compile(r"> \[\d+\] (\S+ \S+) HTTP/1.1")
STATUS = re.compile(r"< \[\d+\] HTTP/1.1 (\d+)")
COUNTED = re.compile(r"\* \[\d+\] Connection #\d+ .*[:;] (\d+) B sent, (\d+) B received")


def may_bind_devices():
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        except PermissionError:
            return False
        return True


def main():
    cases = Sockets(*sys.argv[1:])
    cases.paths()
    interface = cases.places()
    cases.kernel()
    cases.detours()
    cases.names()
    cases.versions()
    cases.said()
    print(
        f"sockets: passed, {cases.checks.count} checks against {version_of('nginx', '-v')} and the "
        f"kernel: paths, local addresses, an interface ({interface}), probes and limits, detours, "
        "names and versions of TLS, -v"
    )


if __name__ == "__main__":
    main()
