"""The files that servers serve, and what is known of them."""

import base64
import hashlib
import os

KIB = 1024
MIB = 1024 * KIB
# Name, bytes, and how many of 1,000 jobs ask for it. The largest are as large as a collected body
# may be by default.
FILES = [
    ("empty", 0, 250),
    ("kib-0", KIB, 200),
    ("kib-1", KIB, 200),
    ("text", KIB, 100),
    ("64kib-0", 64 * KIB, 124),
    ("64kib-1", 64 * KIB, 124),
    ("10mib-0", 10 * MIB, 1),
    ("10mib-1", 10 * MIB, 1),
]


def make(directory):
    os.makedirs(directory, mode=0o755, exist_ok=True)
    for name, size, _ in FILES:
        content = text(size) if name == "text" else os.urandom(size)
        with open(os.path.join(directory, name), "wb") as file:
            file.write(content)


def text(size):
    """UTF-8 with what JSON escapes: quotes, controls, a NUL; characters of 1 to 4 bytes."""
    pattern = 'a "b" \\ \r\n\t\x00\x1f\x7f é \u2028 € \U0001f415 '.encode()
    content = (pattern * (size // len(pattern) + 1))[: size - 3]
    content = content.decode(errors="ignore").encode()
    return content + b"." * (size - len(content))


def digests(directory):
    """The size and the SHA-256 of each, by name."""
    known = {}
    for name, _, _ in FILES:
        with open(os.path.join(directory, name), "rb") as file:
            content = file.read()
        known[name] = (len(content), hashlib.sha256(content).hexdigest())
    return known


def problem_of_body(result, size, digest):
    """What is wrong with an answer that should be this body, or nothing."""
    if result["error"] is not None or result["status"] != 200:
        return f"not fetched ({result['error'] or result['status']})"
    if ("body" in result) == ("body_base64" in result):
        return "not exactly one of body and body_base64"
    if "body" in result:
        body = result["body"].encode()
    else:
        body = base64.b64decode(result["body_base64"], validate=True)
    if len(body) != size or result["bytes"] != size:
        return f"{len(body)} bytes, said to be {result['bytes']}, of {size}"
    if hashlib.sha256(body).hexdigest() != digest:
        return "the SHA-256 differs"
    return None


def names(count, chance):
    """Names of files with a number each, as often as the table says, shuffled."""
    pile = []
    for number in range(count):
        if not pile:
            pile = [name for name, _, share in FILES for _ in range(share)]
            chance.shuffle(pile)
        yield number, pile.pop()
