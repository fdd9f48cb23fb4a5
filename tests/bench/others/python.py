"""Clients in Python: python.py CLIENT URL REQUESTS AT_ONCE CA

CLIENT is aiohttp, aiohttp-uvloop, httpx or requests (with threads).
"""

import asyncio
import concurrent.futures
import json
import resource
import ssl
import sys
import time


def clocks():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime, time.monotonic(), usage.ru_nvcsw + usage.ru_nivcsw


class Work:
    def __init__(self, requests):
        self.left = requests
        self.done = self.bytes = 0
        self.took = []
        self.start = clocks()

    def take(self):
        self.left -= 1
        return self.left >= 0

    def add(self, body, began):
        self.done += 1
        self.bytes += len(body)
        self.took.append(time.monotonic() - began)

    def tell(self):
        user, system, wall, switches = (after - before for before, after in zip(self.start, clocks()))
        self.took.sort()
        print(json.dumps({
            "done": self.done,
            "failed": 0,
            "bytes": self.bytes,
            "user_us": round(user * 1e6),
            "sys_us": round(system * 1e6),
            "wall_us": round(wall * 1e6),
            "switches": switches,
            "rss_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            **{name: self.took[min(int(len(self.took) * part), len(self.took) - 1)] * 1e6
               for name, part in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999))},
        }))


def trust(authority):
    return ssl.create_default_context(cafile=authority) if authority else None


async def with_aiohttp(url, requests, at_once, authority):
    import aiohttp

    connector = aiohttp.TCPConnector(limit=at_once, ssl=trust(authority) or True)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        work = Work(requests)

        async def fetch():
            while work.take():
                began = time.monotonic()
                async with session.get(url) as response:
                    work.add(await response.read(), began)

        await asyncio.gather(*(fetch() for _ in range(at_once)))
        work.tell()


async def with_httpx(url, requests, at_once, authority):
    import httpx

    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    verify = trust(authority) or True
    async with httpx.AsyncClient(limits=limits, verify=verify, timeout=None) as client:
        work = Work(requests)

        async def fetch():
            while work.take():
                began = time.monotonic()
                work.add((await client.get(url)).content, began)

        await asyncio.gather(*(fetch() for _ in range(at_once)))
        work.tell()


def with_requests(url, requests, at_once, authority):
    import requests as library

    work = Work(requests)

    def fetch(_):
        with library.Session() as session:
            session.trust_env = False
            session.verify = authority or True
            while work.take():
                began = time.monotonic()
                work.add(session.get(url).content, began)

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        list(pool.map(fetch, range(at_once)))
    work.tell()


def main():
    client, url, requests, at_once, authority = sys.argv[1:]
    words = url, int(requests), int(at_once), authority
    if client == "requests":
        with_requests(*words)
    elif client == "httpx":
        asyncio.run(with_httpx(*words))
    elif client == "aiohttp":
        asyncio.run(with_aiohttp(*words))
    else:
        import uvloop

        uvloop.run(with_aiohttp(*words))


main()
