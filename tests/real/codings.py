"""Content codings, ranges and downloads that go on, against a server that was set up for them.

codings.py files DIRECTORY            makes the files that are served
codings.py drive ... BASE_URL         fetches them in every coding, and checks every body
"""

import argparse
import base64
import glob
import gzip
import hashlib
import json
import os
import subprocess

# Where a server codes, and what it says of it.
CODINGS = {
    "plain": None,
    "gzip": "gzip",
    "gz": "gzip",
    "br": "br",
    "zst": "zstd",
    "twice": "br, gzip",
}
MIB = 1024 * 1024
RUNS_MAX = 60


def make(directory):
    os.makedirs(directory, mode=0o755, exist_ok=True)
    lines = [f"{n} squared is {n * n}\n" for n in range(60_000)]
    contents = {
        "short": b"a short text\n",
        "text": "".join(lines).encode(),
        "noise": os.urandom(MIB),
        "zeros": bytes(700_000),
    }
    for name, content in contents.items():
        with open(os.path.join(directory, name), "wb") as file:
            file.write(content)


def read(directory, name):
    with open(os.path.join(directory, name), "rb") as file:
        return file.read()


def body_of(result):
    if "body" in result:
        return result["body"].encode()
    return base64.b64decode(result["body_base64"], validate=True)


def run_jobs(fetch, jobs):
    """The results, by the jobs' ids."""
    lines = "".join(json.dumps(job) + "\n" for job in jobs)
    arguments = [fetch, "-s", "--json", "-m", "300", "--jobs", "-"]
    done = subprocess.run(arguments, input=lines.encode(), capture_output=True, check=False)
    results = {result["id"]: result for result in map(json.loads, done.stdout.splitlines())}
    assert len(results) == len(jobs), done.stderr
    return results


def headers_of(result):
    return {name.lower(): value for name, value in result["headers"]}


def check_codings(options, contents):
    """Every file in every coding, several times at once."""
    cases = [(way, name, turn) for way in CODINGS for name in contents for turn in range(8)]
    jobs = [
        {"id": number, "url": f"{options.base}/{way}/{name}?{turn}"}
        for number, (way, name, turn) in enumerate(cases)
    ]
    results = run_jobs(options.fetch, jobs)
    for number, (way, name, _) in enumerate(cases):
        result = results[number]
        where = f"{way}/{name}"
        assert result["error"] is None, (where, result["error"])
        assert body_of(result) == contents[name], where
        assert result["bytes"] == len(contents[name]), where
        assert headers_of(result).get("content-encoding") == CODINGS[way], where
        if way != "plain" and name in ("text", "zeros"):
            assert result["wire_bytes"] < result["bytes"] / 2, where
    return len(cases)


def check_left_alone(options, contents):
    """What is not to be decoded, or cannot be."""
    text = contents["text"]
    jobs = [
        {"id": "off", "url": f"{options.base}/gz/text", "decode": False},
        {"id": "off-dynamic", "url": f"{options.base}/gzip/text", "decode": False},
        {"id": "unknown", "url": f"{options.base}/unknown/text"},
        {"id": "head", "url": f"{options.base}/gzip/text", "method": "HEAD"},
        {
            "id": "range",
            "url": f"{options.base}/plain/text",
            "headers": [["Range", "bytes=1000-1999"]],
        },
        {
            "id": "coded-range",
            "url": f"{options.base}/gz/text",
            "headers": [["Range", "bytes=1000-1999"]],
        },
    ]
    results = run_jobs(options.fetch, jobs)
    assert gzip.decompress(body_of(results["off"])) == text
    # No Accept-Encoding was sent, so nginx did not code.
    assert body_of(results["off-dynamic"]) == text
    assert body_of(results["unknown"]) == text
    assert results["head"]["error"] is None and results["head"]["bytes"] == 0
    assert headers_of(results["head"])["content-encoding"] == "gzip"
    assert (results["range"]["status"], body_of(results["range"])) == (206, text[1000:2000])
    coded = read(os.path.join(options.work, "gz"), "text")[1000:2000]
    assert (results["coded-range"]["status"], body_of(results["coded-range"])) == (206, coded)
    return len(jobs)


def check_download(options, contents):
    """A slow file: nginx sends a fifth of it at once, and a run has no time for more."""
    path = os.path.join(options.work, "download")
    checksum = hashlib.sha256(contents["text"]).hexdigest()
    arguments = [options.fetch, "-s", "--continue", "--retry", "0", "-m", "0.2", "-o", path]
    arguments += ["--checksum", f"sha256:{checksum}", f"{options.base}/slow/text"]
    runs = 1
    while subprocess.run(arguments, stderr=subprocess.DEVNULL, check=False).returncode != 0:
        assert not os.path.exists(path), "a partial file has the final name"
        runs += 1
        assert runs <= RUNS_MAX, "it does not get on"
    assert read(options.work, "download") == contents["text"]
    assert not glob.glob(os.path.join(options.work, ".download.fetch-*"))
    statuses = [line.split('"')[2].split()[0] for line in open(f"{options.work}/slow.access")]
    assert runs > 1 and "206" in statuses, (runs, statuses)
    return runs


def drive(options):
    names = sorted(os.listdir(options.files))
    contents = {name: read(options.files, name) for name in names}
    coded = check_codings(options, contents)
    alone = check_left_alone(options, contents)
    runs = check_download(options, contents)
    print(f"nginx: {coded} bodies in {len(CODINGS)} ways, {alone} left alone, a download in {runs} runs")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("files").add_argument("directory")
    driven = commands.add_parser("drive")
    for name in ("--fetch", "--files", "--work"):
        driven.add_argument(name, required=True)
    driven.add_argument("base")
    options = parser.parse_args()
    if options.command == "files":
        make(options.directory)
    else:
        drive(options)


if __name__ == "__main__":
    main()
