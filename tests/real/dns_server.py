"""A DNS server on loopback that misbehaves by name.

It answers over UDP and TCP for names as `lost-17.test`: the first label says what it does, and the
number which address the name has. What each does is in FATES; `address_of` is the address.

Two serve together and share what was seen: some fates depend on how often a name and type were
asked for, by whichever of the two.
"""

import asyncio
import collections
import random
import socket
import struct

A, CNAME, SOA, AAAA = 1, 5, 6, 28
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
TTL_SECONDS = 300
LATE_SECONDS = 1.0
# Past the five seconds after which a query is given up.
TOO_LATE_SECONDS = 6.0

# What becomes of a name; whether it has an address in the end.
FATES = {
    "good": True,
    "alias": True,
    "late": True,
    "twice": True,
    "truncated": True,
    "forged": True,
    "foreign": True,
    "garbage": True,
    "half": True,
    "failing-once": True,
    "refused-once": True,
    "lost-once": True,
    "too-late-once": True,
    "cut-tcp-once": True,
    "failing": False,
    "missing": False,
    "empty": False,
    "loop": False,
    "self-loop": False,
    "forged-only": False,
    "lost": False,
}


def address_of(number):
    return f"127.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def labels(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


class Query:
    def __init__(self, data):
        (self.id,) = struct.unpack_from("!H", data)
        at, parts = 12, []
        while length := data[at]:
            parts.append(data[at + 1 : at + 1 + length].decode())
            at += length + 1
        self.name = ".".join(parts)
        (self.kind,) = struct.unpack_from("!H", data, at + 1)
        self.question = data[12 : at + 5]
        label = self.name.split(".")[0]
        self.fate, _, number = label.rpartition("-")
        self.number = int(number) if number.isdigit() else 0

    def reply(self, records=(), rcode=NOERROR, **other):
        """A message; `other` changes its id, question, or says that it is truncated."""
        flags = 0x8180 | rcode | (0x0200 if other.get("truncated") else 0)
        question = other.get("question", self.question)
        number = other.get("id", self.id)
        head = struct.pack("!HHHHHH", number, flags, 1, len(records), 0, 0)
        return head + question + b"".join(records)

    def record(self, data, kind=A, name=None):
        owner = labels(name) if name else b"\xc0\x0c"
        return owner + struct.pack("!HHIH", kind, 1, TTL_SECONDS, len(data)) + data

    def address(self, address=None, name=None):
        return self.record(socket.inet_aton(address or address_of(self.number)), name=name)

    def truth(self):
        """Every name has one IPv4 address and no other."""
        return self.reply([self.address()] if self.kind == A else [])


class Server:
    """Sends for each query any number of messages, each after a while."""

    def __init__(self):
        self.asked = collections.Counter()
        self.done = collections.Counter()
        self.chance = random.Random(1)
        # A port that nobody asks.
        self.elsewhere = None

    def messages(self, query, is_tcp):
        """Pairs of seconds and a message; `None` closes a TCP connection."""
        key = (query.name, query.kind)
        self.asked[key] += 1
        self.done[query.fate] += 1
        plan = getattr(self, query.fate.replace("-", "_"), self.missing)
        return list(plan(query, self.asked[key] == 1, is_tcp))

    def good(self, query, *_):
        yield 0, query.truth()

    def alias(self, query, *_):
        name = f"alias-{query.number}.elsewhere.test"
        records = [query.record(labels(name), CNAME)]
        if query.kind == A:
            records.append(query.address(name=name))
        yield 0, query.reply(records)

    def late(self, query, *_):
        yield self.chance.random() * LATE_SECONDS, query.truth()

    def twice(self, query, *_):
        yield 0, query.truth()
        yield 0, query.truth()
        yield 0.02, query.truth()

    def truncated(self, query, _, is_tcp):
        yield 0, query.truth() if is_tcp else query.reply(truncated=True)

    def forgeries(self, query):
        lie = [query.address("127.0.0.66")] if query.kind == A else []
        other = labels(f"other-{query.number}.test") + query.question[-4:]
        yield 0, query.reply(lie, id=query.id ^ self.chance.randrange(1, 1 << 16))
        yield 0, query.reply(lie, question=other)
        yield 0, query.reply(lie, question=query.question[:-4] + struct.pack("!HH", 16, 1))

    def forged(self, query, *_):
        yield from self.forgeries(query)
        yield 0.05, query.truth()

    def forged_only(self, query, *_):
        yield from self.forgeries(query)

    def foreign(self, query, *_):
        """A lie comes from another port, too: see `Datagrams`."""
        yield 0.05, query.truth()

    def garbage(self, query, *_):
        yield 0, self.chance.randbytes(self.chance.randrange(64))
        yield 0.01, query.truth()

    def half(self, query, *_):
        """The other family is never answered for."""
        if query.kind == A:
            yield 0, query.truth()

    def failing_once(self, query, is_first, _):
        yield 0, query.reply(rcode=SERVFAIL) if is_first else query.truth()

    def refused_once(self, query, is_first, _):
        yield 0, query.reply(rcode=REFUSED) if is_first else query.truth()

    def lost_once(self, query, is_first, _):
        if not is_first:
            yield 0, query.truth()

    def too_late_once(self, query, is_first, _):
        yield TOO_LATE_SECONDS if is_first else 0, query.truth()

    def cut_tcp_once(self, query, is_first, is_tcp):
        if not is_tcp:
            yield 0, query.reply(truncated=True) if is_first else query.truth()
        else:
            yield 0, None

    def failing(self, query, *_):
        yield 0, query.reply(rcode=SERVFAIL)

    def missing(self, query, *_):
        yield 0, query.reply(rcode=NXDOMAIN)

    def empty(self, query, *_):
        yield 0, query.reply()

    def loop(self, query, *_):
        names = [query.name, f"a-{query.number}.test", f"b-{query.number}.test"]
        pairs = zip(names, names[1:] + names[:1])
        yield 0, query.reply([query.record(labels(to), CNAME, of) for of, to in pairs])

    def self_loop(self, query, *_):
        yield 0, query.reply([query.record(labels(query.name), CNAME)])

    def lost(self, *_):
        return []

    async def serve(self, ports):
        """Begins to listen on two ports of its own, which it appends."""
        loop = asyncio.get_running_loop()
        self.elsewhere, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        for _ in range(2):
            tcp = await asyncio.start_server(self.stream, "127.0.0.1", 0)
            port = tcp.sockets[0].getsockname()[1]
            await loop.create_datagram_endpoint(
                lambda: Datagrams(self), local_addr=("127.0.0.1", port)
            )
            ports.append(port)

    async def stream(self, reader, writer):
        try:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            query = Query(await reader.readexactly(size))
            for seconds, message in self.messages(query, True):
                await asyncio.sleep(seconds)
                if message is not None:
                    writer.write(struct.pack("!H", len(message)) + message)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server):
        self.server = server
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, source):
        loop = asyncio.get_running_loop()
        query = Query(data)
        if query.fate == "foreign" and query.kind == A:
            lie = query.reply([query.address("127.0.0.66")])
            self.server.elsewhere.sendto(lie, source)
        for seconds, message in self.server.messages(query, False):
            if seconds:
                loop.call_later(seconds, self.transport.sendto, message, source)
            else:
                self.transport.sendto(message, source)
