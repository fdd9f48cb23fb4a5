"""Rates, logins, sizes, client certificates and ranges of nginx, and what `fetch` makes of them.

guards.py files DIRECTORY                     makes the files that are served
guards.py drive FETCH WORK PLAIN TLS12 TLS13  drives FETCH against nginx on these ports
"""

import collections
import os
import sys

from checks import Checks, Log, body_of, headers_of, lines_of, version_of

RATE_JOBS = 20
# Four are let in each second, and ten retries are free of the budget.
RETRIED_JOBS = 6
LOGIN = "me:pass: word"
# Of each kind of character that a token may have (RFC 6750, section 2.1).
TOKEN = "mF_9.B5f-4.1JqM+/~="
# What nginx takes, and the most that a head has.
UPLOAD_BYTES_MAX = 100 * 1024
HEAD_BYTES_MAX = 1024


def make(directory):
    os.makedirs(directory, mode=0o755, exist_ok=True)
    with open(os.path.join(directory, "text"), "wb") as file:
        file.write("".join(f"{n} squared is {n * n}\n" for n in range(5_000)).encode())


class Guards:
    def __init__(self, fetch, work, plain, tls12, tls13):
        self.checks = Checks(fetch, "--cacert", f"{work}/ca.pem")
        self.work = work
        self.base = f"http://127.0.0.1:{plain}"
        self.secure = {"TLSv1.2": tls12, "TLSv1.3": tls13}
        with open(f"{work}/files/text", "rb") as file:
            self.text = file.read()

    def seen(self, log):
        """What nginx wrote down: time, status, target, user, range."""
        for line in lines_of(f"{self.work}/{log}.access"):
            moment, status, target, user, wanted = line.split(" ", 4)
            yield float(moment), int(status), target, user, wanted

    def rate(self):
        """A 429 is an answer where nothing is to be retried, and else a time to come again."""
        checks, url = self.checks, f"{self.base}/limited/text"
        jobs = [{"url": f"{url}?{n}", "retries": 0} for n in range(RATE_JOBS)]
        results = checks.run(jobs)
        statuses = {result["status"] for result in results}
        checks.equal("both come", statuses, {200, 429})
        for result in results:
            is_let_in = result["status"] == 200
            checks.equal("attempts", result["attempts"], 1)
            checks.equal("body", body_of(result), self.text if is_let_in else b"later\n")
            checks.equal("when", headers_of(result).get("retry-after"), None if is_let_in else "1")
        first = len(list(self.seen("limited")))
        checks.equal("nothing was repeated", first, RATE_JOBS)

        jobs = [{"url": f"{url}?again-{n}", "retries": 3} for n in range(RETRIED_JOBS)]
        results = checks.run(jobs)
        visits = collections.defaultdict(list)
        for moment, status, target, *_ in list(self.seen("limited"))[first:]:
            visits[target].append((moment, status))
        repeated = 0
        for result in results:
            target = result["url"].removeprefix(self.base)
            statuses = [status for _, status in visits[target]]
            checks.equal("let in", (result["status"], body_of(result)), (200, self.text))
            checks.equal("as nginx saw it", statuses, [429] * (result["attempts"] - 1) + [200])
            moments = [moment for moment, _ in visits[target]]
            waits = [later - sooner for sooner, later in zip(moments, moments[1:])]
            # Nginx' clock stands still while it works on events: a little is lost there.
            checks.true("Retry-After is kept", all(wait > 0.99 for wait in waits), waits)
            repeated += len(waits)
        checks.true("some were repeated", repeated > 0)
        return repeated

    def logins(self):
        checks, url = self.checks, f"{self.base}/private/text"
        jobs = [
            {"url": url},
            {"url": url, "auth": {"basic": LOGIN}},
            {"url": url, "auth": {"basic": "me:wrong"}},
            {"url": url, "auth": {"basic": "you:pass: word"}},
            {"url": url.replace("//", "//me:pass%3A%20word@")},
        ]
        results = checks.run(jobs, "-c", "1")
        statuses = [result["status"] for result in results]
        checks.equal("statuses", statuses, [401, 200, 401, 401, 200])
        for result in results:
            if result["status"] == 200:
                checks.equal("body", body_of(result), self.text)
            else:
                asked = headers_of(result)["www-authenticate"]
                checks.equal("challenge", asked, 'Basic realm="private"')
        users = [user for _, _, _, user, _ in self.seen("private")]
        checks.equal("users, as nginx saw them", users, ["-", "me", "me", "you", "me"])

    def tokens(self):
        """The right one lets in, and no other; it does not follow to another host."""
        checks, url = self.checks, f"{self.base}/token/text"
        right = {"auth": {"bearer": TOKEN}}
        jobs = [{"url": url}, {"url": url, **right}, {"url": url, "auth": {"bearer": f"{TOKEN}="}}]
        jobs.append({"url": f"{self.base}/token/away", **right})
        results = checks.run(jobs, "-c", "1")
        statuses = [result["status"] for result in results]
        checks.equal("statuses", statuses, [401, 200, 401, 401])
        checks.equal("body", body_of(results[1]), self.text)
        asked = [headers_of(result).get("www-authenticate") for result in results]
        no_token = 'Bearer realm="tokens"'
        refused = f'{no_token}, error="invalid_token"'
        checks.equal("challenges", asked, [no_token, None, refused, no_token])
        (result,) = checks.run([{"url": url}], "--bearer", TOKEN)
        checks.equal("--bearer", (result["status"], body_of(result)), (200, self.text))
        here, there = self.base.removeprefix("http://"), f"localhost:{self.base.rsplit(':', 1)[1]}"
        seen = Log(f"{self.work}/token.access").new(6)
        expected = [
            f"401 {here} /token/text -",
            f"200 {here} /token/text Bearer {TOKEN}",
            f"401 {here} /token/text Bearer {TOKEN}=",
            f"302 {here} /token/away Bearer {TOKEN}",
            f"401 {there} /token/text -",
            f"200 {here} /token/text Bearer {TOKEN}",
        ]
        checks.equal("tokens, as nginx saw them", seen, expected)

    def uploads(self):
        """Nginx takes a body, or says that it is too large; with the question, before it is sent."""
        checks = self.checks
        bodies = ["y" * UPLOAD_BYTES_MAX, "n" * (UPLOAD_BYTES_MAX + 1), "quick"]
        jobs = [
            {"url": f"{self.base}/store/{number}", "method": "PUT", "body": body}
            for number, body in enumerate(bodies)
        ]
        asking = [{**job, "expect_continue": True} for job in jobs]
        results = checks.run(asking, "-c", "1")
        statuses = [result["status"] for result in results]
        checks.equal("statuses", statuses, [201, 413, 201])
        checks.equal("connections of their own", results[2]["reused"], False)
        seen = [line.split(" ") for line in Log(f"{self.work}/store.access").new(3)]
        found = [(int(status), target, expects) for status, _, target, _, expects in seen]
        expected = [(status, f"/store/{n}", "100-continue") for n, status in enumerate(statuses)]
        checks.equal("as nginx saw them", found, expected)
        for number, body in enumerate(bodies):
            path = f"{self.work}/store/{number}"
            came = int(seen[number][3])
            if number == 1:
                checks.true("its body was not sent", came < HEAD_BYTES_MAX, came)
                checks.equal("it is not stored", os.path.exists(path), False)
                continue
            checks.true("its body was sent once", 0 < came - len(body) < HEAD_BYTES_MAX, came)
            with open(path, encoding="utf-8") as file:
                checks.equal("what is stored", file.read(), body)

    def certificates(self):
        checks = self.checks
        for version, port in self.secure.items():
            job = [{"url": f"https://localhost:{port}/who"}]
            for name, expected in (
                ("known", (200, f"{version} CN=known")),
                (None, (403, "NONE")),
            ):
                options = self.shown(name)
                result = checks.run(job * 2, "-c", "1", *options)
                found = [(each["status"], each["body"]) for each in result]
                checks.equal(f"{name} over {version}", found, [expected] * 2)
            # Nginx lets the handshake pass, and says so in an answer of its own.
            (result,) = checks.run(job, *self.shown("stranger"))
            checks.equal("stranger", result["status"], 400)
            checks.true("why", "SSL certificate error" in result["body"], result["body"])

    def shown(self, name):
        if name is None:
            return []
        return ["--cert", f"{self.work}/{name}.pem", "--key", f"{self.work}/{name}.key"]

    def ranges(self):
        checks, url, text = self.checks, f"{self.base}/open/text", self.text
        (whole,) = checks.run([{"url": url}])
        tag = headers_of(whole)["etag"]
        cases = [
            (["bytes=0-0"], None, 206, text[:1]),
            (["bytes=100-299"], None, 206, text[100:300]),
            (["bytes=-50"], None, 206, text[-50:]),
            (["bytes=5000-"], None, 206, text[5000:]),
            (["bytes=10-19"], tag, 206, text[10:20]),
            (["bytes=10-19"], '"another"', 200, text),
        ]
        jobs = []
        for wanted, validator, *_ in cases:
            headers = [["Range", value] for value in wanted]
            headers += [["If-Range", validator]] if validator else []
            jobs.append({"url": url, "headers": headers})
        for (wanted, _, status, body), result in zip(cases, checks.run(jobs)):
            checks.equal(f"{wanted}", (result["status"], body_of(result)), (status, body))
        beyond = {"url": url, "headers": [["Range", f"bytes={len(text)}-"]]}
        both = {"url": url, "headers": [["Range", "bytes=0-9,20-29"]]}
        not_there, parts = checks.run([beyond, both])
        checks.equal("beyond", not_there["status"], 416)
        checks.equal("its length", headers_of(not_there)["content-range"], f"bytes */{len(text)}")
        kind = headers_of(parts)["content-type"]
        checks.true("parts", kind.startswith("multipart/byteranges"), kind)
        for part in (text[:10], text[20:30]):
            checks.true("a part of it", b"\r\n\r\n" + part + b"\r\n--" in body_of(parts))
        asked = [wanted for *_, wanted in self.seen("open")]
        expected = ["-", *(wanted[0] for wanted, *_ in cases), "bytes=0-9,20-29"]
        expected.append(f"bytes={len(text)}-")
        checks.equal("ranges, as nginx saw them", sorted(asked), sorted(expected))


def main():
    if sys.argv[1] == "files":
        return make(sys.argv[2])
    guards = Guards(*sys.argv[2:])
    repeated = guards.rate()
    guards.logins()
    guards.tokens()
    guards.uploads()
    guards.certificates()
    guards.ranges()
    print(
        f"guards: passed, {guards.checks.count} checks against {version_of('nginx', '-v')}: "
        f"rates ({repeated} waits of a second), auth_basic, bearer tokens, sizes of uploads, client "
        "certificates, ranges"
    )
    return None


if __name__ == "__main__":
    main()
