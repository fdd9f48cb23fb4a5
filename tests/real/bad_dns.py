"""Has `fetch` resolve many names at once by way of dns_server.py, and checks what became of each.

A name that has an address is fetched from that address and from no other; one that has none fails
as `dns`.
"""

import argparse
import asyncio
import collections
import threading

import dns_server
import driving

CONCURRENCY = 1000
# Two servers asked twice, five seconds each, are not enough to run into them.
SECONDS = "120"
BODY = b"as planned\n"


async def answer(reader, writer):
    """An origin at every address of the loopback."""
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY))
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


class Servers(threading.Thread):
    """The name servers and the origin, on a thread of their own."""

    def __init__(self):
        super().__init__(daemon=True)
        self.names = dns_server.Server()
        self.ports = []
        self.is_ready = threading.Event()

    def run(self):
        asyncio.run(self.serve())

    async def serve(self):
        handle = driving.loopback_socket()
        await asyncio.start_server(answer, sock=handle, backlog=1024)
        await self.names.serve(self.ports)
        self.ports.append(handle.getsockname()[1])
        self.is_ready.set()
        await asyncio.Event().wait()


def jobs(count, port):
    """Each name twice, one after the other: the second joins the lookup or finds it in the cache."""
    fates = list(dns_server.FATES)
    for number in range(count):
        which = number // 2
        name = f"{fates[which % len(fates)]}-{which}.test"
        yield {"id": number, "url": f"http://{name}:{port}/{number}"}, which


class Account:
    def __init__(self, port):
        self.port = port
        self.ends = collections.Counter()

    def judge(self, job, which, result):
        fate = job["url"].split("//")[1].rsplit("-", 1)[0]
        error = result["error"]
        self.ends[fate, error and error["kind"]] += 1
        if not dns_server.FATES[fate]:
            return None if error and error["kind"] == "dns" else "a name without an address"
        if error or result["body"] != BODY.decode():
            return "not fetched"
        if result["remote"] != f"{dns_server.address_of(which)}:{self.port}":
            return f"not from {dns_server.address_of(which)}"
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fetch", required=True)
    parser.add_argument("--errors", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    options = parser.parse_args()
    driving.end_on_signals()
    servers = Servers()
    servers.start()
    servers.is_ready.wait()
    *names, port = servers.ports
    account = Account(port)
    arguments = ["-c", str(CONCURRENCY), "-m", SECONDS, "--connect-timeout", SECONDS]
    arguments += ["--dns-servers", ",".join(f"127.0.0.1:{name}" for name in names)]
    with driving.Program(options.fetch, arguments, account.judge, options.errors) as program:
        program.feed(jobs(options.jobs, port))
        program.finish()
    wrong = program.wrong
    idle = [fate for fate in dns_server.FATES if not servers.names.done[fate]]
    if idle:
        wrong.append(f"never asked for: {idle}")
    ends = {fate: number for (fate, _), number in account.ends.items()}
    driving.report(
        "misbehaving DNS",
        wrong,
        f"{program.checked} of {options.jobs} results as planned over {options.jobs // 2} names of "
        f"{len(ends)} fates, {sum(servers.names.done.values())} queries: "
        f"{program.checked - program.failed} from the right address, {program.failed} without "
        f"one, {program.seconds():.1f} s",
    )


if __name__ == "__main__":
    main()
