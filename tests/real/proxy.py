"""A TCP proxy on loopback that breaks connections by plan.

proxy.py SEED LOG PORT...     forwards a port of its own to each PORT of 127.0.0.1

It prints its ports, and listens on them at every address of 127.0.0.0/8. What befalls a connection
follows from the seed, the address it came to and its number there. LOG gets a JSON line for each
fault at the moment it strikes: {"address", "nth", "fault", "side"}; on SIGTERM, a last line
{"connections", "planned"}.

The first of its ports takes plain HTTP, where only what HTTP can tell is corrupted: status lines
and lengths. On the others, which take TLS, any byte may be.
"""

import asyncio
import json
import logging
import random
import signal
import socket
import struct
import sys

import driving

# What may befall a connection, and how often of 100.
FAULTS = {
    "none": 62,
    "slow": 10,
    "reset": 9,
    "cut": 7,
    "corrupt": 8,
    "blackhole": 4,
}
READ_BYTES = 64 * 1024
# Where a fault strikes: in a handshake or head, in a small body, or far on.
REACHES = (600, 4_000, 70_000, 2_000_000)
SLOW_SECONDS_MAX = 1.5
PAUSE_SECONDS_MAX = 0.1
PIECES_MAX = 20


class Plan:
    """What befalls one connection: `kind`, once `at` bytes have passed towards `side`."""

    def __init__(self, seed, address, nth):
        chance = random.Random(f"{seed} {address} {nth}")
        self.kind = chance.choices(list(FAULTS), FAULTS.values())[0]
        self.side = chance.choice(["client", "client", "server"])
        self.at = chance.randrange(chance.choice(REACHES))
        self.chance = chance


class Proxy:
    def __init__(self, seed, log):
        self.seed = seed
        self.log = log
        self.seen = {}
        self.planned = dict.fromkeys(FAULTS, 0)
        self.tasks = set()

    def accept(self, port, is_tls):
        async def handle(reader, writer):
            task = asyncio.current_task()
            self.tasks.add(task)
            try:
                await Connection(self, reader, writer, is_tls).run(port)
            except (OSError, asyncio.CancelledError):
                pass
            finally:
                self.tasks.discard(task)

        return handle


class Connection:
    """One connection of a client, with that to the server behind it."""

    def __init__(self, proxy, reader, writer, is_tls):
        self.proxy = proxy
        self.client = (reader, writer)
        self.is_tls = is_tls
        self.address = writer.get_extra_info("sockname")[0]
        self.nth = proxy.seen[self.address] = proxy.seen.get(self.address, 0) + 1
        self.plan = Plan(proxy.seed, self.address, self.nth)
        self.is_over = asyncio.Event()
        self.is_dark = False
        # How long a slow connection may still pause in all.
        self.patience = SLOW_SECONDS_MAX

    async def run(self, port):
        self.proxy.planned[self.plan.kind] += 1
        server = await asyncio.open_connection("127.0.0.1", port, limit=READ_BYTES)
        ways = [
            asyncio.create_task(self.forward("client", server[0], self.client[1])),
            asyncio.create_task(self.forward("server", self.client[0], server[1])),
        ]
        over = asyncio.create_task(self.is_over.wait())
        try:
            await asyncio.wait([over, *ways], return_when=asyncio.FIRST_COMPLETED)
            if not self.is_over.is_set():
                # One side has ended; what the other still says follows.
                await asyncio.wait([over, *ways[:1]], timeout=1)
        finally:
            for task in [over, *ways]:
                task.cancel()
            await asyncio.gather(over, *ways, return_exceptions=True)
            for writer in (self.client[1], server[1]):
                writer.close()

    async def forward(self, side, reader, writer):
        """Moves bytes towards `side`, until that is over."""
        passed = 0
        while data := await reader.read(READ_BYTES):
            if self.is_dark:
                continue
            if side == self.plan.side and self.plan.kind != "none":
                data = await self.strike(data, passed, writer)
                if data is None:
                    return
            passed += len(data)
            writer.write(data)
            await writer.drain()
        if self.is_dark and side == "client":
            # Not even the server's end is told.
            await self.is_over.wait()

    async def strike(self, data, passed, writer):
        """The bytes to pass on, or none where the connection ends here."""
        plan = self.plan
        if plan.kind == "slow":
            return await self.drip(data, writer)
        before = plan.at - passed
        if plan.kind == "corrupt":
            return self.corrupt(data, before)
        if before >= len(data):
            return data
        writer.write(data[: max(before, 0)])
        self.note()
        if plan.kind == "blackhole":
            self.is_dark = True
            return b""
        await self.end(writer)
        return None

    async def end(self, writer):
        """A reset of both sides, or a FIN after the bytes that passed."""
        if self.plan.kind == "reset":
            linger = struct.pack("ii", 1, 0)
            handle = self.client[1].get_extra_info("socket")
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.client[1].transport.abort()
        else:
            await writer.drain()
        self.is_over.set()

    def corrupt(self, data, before):
        """Sets the highest bit of one byte, or clears it."""
        if self.is_tls:
            place = before if 0 <= before < len(data) else None
        else:
            place = framing_place(data, self.plan) if self.plan.side == "client" else None
        if place is None:
            return data
        self.note()
        self.plan.kind = "none"
        changed = bytearray(data)
        changed[place] ^= 0x80
        return bytes(changed)

    async def drip(self, data, writer):
        """The same bytes in some pieces, over some time."""
        if self.patience == SLOW_SECONDS_MAX:
            self.note()
        chance = self.plan.chance
        cuts = sorted(chance.randrange(len(data)) for _ in range(chance.randrange(PIECES_MAX)))
        begin = 0
        for cut in cuts:
            writer.write(data[begin:cut])
            begin = cut
            pause = chance.random() * PAUSE_SECONDS_MAX
            if self.patience > pause:
                self.patience -= pause
                await asyncio.sleep(pause)
        return data[begin:]

    def note(self):
        line = {
            "address": self.address,
            "nth": self.nth,
            "fault": self.plan.kind,
            "side": self.plan.side,
        }
        self.proxy.log.write(json.dumps(line) + "\n")


def framing_place(data, plan):
    """Where a response's head has a byte without which it is none: in its version and status, or in
    its length. A later response of the connection is as good as the first."""
    if not data.startswith(b"HTTP/1.1 200 OK\r\n") or plan.chance.random() < 0.5:
        return None
    length = data.find(b"\r\nContent-Length: ")
    if length < 0 or plan.chance.random() < 0.5:
        return plan.chance.randrange(len("HTTP/1.1 200"))
    first = length + len("\r\nContent-Length: ")
    return plan.chance.randrange(first, data.index(b"\r\n", first))


async def main():
    seed, path, *ports = sys.argv[1:]
    # It warns where a peer is gone, which is what this program is about.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    with open(path, "w", encoding="utf-8") as log:
        proxy = Proxy(seed, log)
        mine = []
        for nth, port in enumerate(ports):
            handle = driving.loopback_socket()
            mine.append(handle.getsockname()[1])
            accept = proxy.accept(int(port), nth > 0)
            await asyncio.start_server(accept, sock=handle, limit=READ_BYTES, backlog=1024)
        print("ports", *mine, flush=True)
        await ended.wait()
        for task in proxy.tasks:
            task.cancel()
        last = {"connections": sum(proxy.seen.values()), "planned": proxy.planned}
        log.write(json.dumps(last) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
