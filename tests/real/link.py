"""A link between two network interfaces that loses, delays, reorders and repeats packets.

link.py SEED NAME NAME    makes two TUN interfaces of these names, whose packets it exchanges

It prints a line once they are there, to be moved to where they are wanted. On SIGTERM it says what
it did to how many packets, and they are gone.
"""

import collections
import fcntl
import heapq
import os
import random
import select
import signal
import struct
import sys
import time

# Of each packet.
LOSS = 0.01
REPEAT = 0.005
# These overtake others, for they are not delayed.
HASTE = 0.05
DELAY_SECONDS = (0.005, 0.015)
PACKET_BYTES_MAX = 65_536

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000


def interface(name):
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(handle, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return handle


class Link:
    def __init__(self, seed, handles):
        self.chance = random.Random(seed)
        self.other = {handles[0]: handles[1], handles[1]: handles[0]}
        # When, the order of arrival, where to, and what.
        self.under_way = []
        self.counts = collections.Counter()
        self.is_over = False

    def run(self):
        while not self.is_over:
            now = time.monotonic()
            while self.under_way and self.under_way[0][0] <= now:
                _, _, handle, packet = heapq.heappop(self.under_way)
                self.send(handle, packet)
            wait = max(self.under_way[0][0] - now, 0) if self.under_way else 1
            for handle in select.select(list(self.other), [], [], wait)[0]:
                self.receive(handle)

    def receive(self, handle):
        try:
            while True:
                packet = os.read(handle, PACKET_BYTES_MAX)
                self.decide(self.other[handle], packet)
        except (BlockingIOError, OSError):
            # Nothing more, or the interface is not up yet.
            pass

    def decide(self, handle, packet):
        self.counts["packets"] += 1
        chance = self.chance.random()
        if chance < LOSS:
            self.counts["lost"] += 1
            return
        times = 1
        if chance > 1 - REPEAT:
            self.counts["repeated"] += 1
            times = 2
        for _ in range(times):
            due = time.monotonic() + self.chance.uniform(*DELAY_SECONDS)
            if self.chance.random() < HASTE:
                self.counts["hurried"] += 1
                due = 0
            heapq.heappush(self.under_way, (due, self.counts["packets"], handle, packet))

    def send(self, handle, packet):
        try:
            os.write(handle, packet)
        except OSError:
            self.counts["not taken"] += 1


def main():
    seed, *names = sys.argv[1:]
    link = Link(seed, [interface(name) for name in names])

    def end(*_):
        link.is_over = True

    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    link.run()
    print("link:", ", ".join(f"{number} {what}" for what, number in link.counts.items()))


if __name__ == "__main__":
    main()
