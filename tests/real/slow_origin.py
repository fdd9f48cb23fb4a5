"""An origin that is slow, and does not begin before many ask it at once.

slow_origin.py N        answers nobody until N connections have a request each; then each after a
                        while, in two pieces. It prints its port, and on SIGTERM how many requests
                        waited at once at most.

The body of an answer is its path, over and over.
"""

import asyncio
import logging
import random
import signal
import sys

import driving

DELAY_SECONDS_MAX = 2.0
REPEATED = 32
BACKLOG = 4096


def body_of(path):
    return path.encode() * REPEATED


class Origin:
    def __init__(self, at_once):
        self.at_once = at_once
        self.begun = asyncio.Event()
        self.waiting = 0
        self.waiting_max = 0
        self.chance = random.Random(1)

    async def answer(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1].decode()
                self.waiting += 1
                self.waiting_max = max(self.waiting_max, self.waiting)
                if self.waiting >= self.at_once:
                    self.begun.set()
                await self.begun.wait()
                await asyncio.sleep(self.chance.random() * DELAY_SECONDS_MAX)
                body = body_of(path)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                writer.write(body[:10])
                await asyncio.sleep(self.chance.random() * DELAY_SECONDS_MAX / 10)
                self.waiting -= 1
                writer.write(body[10:])
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def main():
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    origin = Origin(int(sys.argv[1]))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    handle = driving.loopback_socket()
    await asyncio.start_server(origin.answer, sock=handle, backlog=BACKLOG)
    print("port", handle.getsockname()[1], flush=True)
    await ended.wait()
    print("waited at once", origin.waiting_max, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
