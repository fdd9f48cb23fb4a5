"""environment.py FETCH WORK SQUID DEAD PLAIN TLS: which proxy the environment's variables lead to.

Each case is one fetch. Nginx writes down the port that it came from, and squid the ports that it
went from: so each of them says which way it was. Nobody listens on the port DEAD.
"""

import collections
import sys

from checks import Checks, Log, body_of, headers_of, version_of

Case = collections.namedtuple("Case", "variables url is_led options", defaults=[()])


def cases(squid, dead, plain, secure):
    """Variables, what is fetched, and whether squid leads there."""
    plain_at, secure_at = plain.split("/")[2], secure.split("/")[2]
    port = plain_at.split(":")[1]
    address = f"http://127.0.0.1:{port}"
    below = f"http://a.localhost:{port}"

    def except_for(*places):
        return {"all_proxy": squid, "NO_PROXY": ",".join(places)}

    return [
        # A scheme's own, http's in lower case only.
        Case({}, plain, False),
        Case({"http_proxy": squid}, plain, True),
        Case({"HTTP_PROXY": squid}, plain, False),
        Case({"HTTP_PROXY": dead, "http_proxy": squid}, plain, True),
        Case({"http_proxy": squid}, secure, False),
        Case({"https_proxy": squid}, secure, True),
        Case({"HTTPS_PROXY": squid}, secure, True),
        Case({"https_proxy": squid}, plain, False),
        Case({"https_proxy": squid, "HTTPS_PROXY": dead}, secure, True),
        # For all that have none; one that is empty is none.
        Case({"all_proxy": squid}, plain, True),
        Case({"all_proxy": squid}, secure, True),
        Case({"ALL_PROXY": squid}, plain, True),
        Case({"ALL_PROXY": dead, "all_proxy": squid}, secure, True),
        Case({"all_proxy": dead, "http_proxy": squid}, plain, True),
        Case({"all_proxy": squid, "http_proxy": ""}, plain, False),
        Case({"HTTPS_PROXY": squid, "https_proxy": ""}, secure, False),
        # Domains, and what is below them.
        Case(except_for("localhost"), plain, False),
        Case(except_for("localhost"), secure, False),
        Case(except_for(".localhost"), plain, False),
        Case(except_for("a.test", " LocalHost "), plain, False),
        Case(except_for("localhost"), below, False),
        Case(except_for("a.localhost"), plain, True),
        Case(except_for("ocalhost", "localhost.test"), plain, True),
        Case(except_for("localhost"), address, True),
        Case(except_for("*"), secure, False),
        # Ports.
        Case(except_for(plain_at), plain, False),
        Case(except_for(plain_at), secure, True),
        Case(except_for(secure_at, "localhost:1"), plain, True),
        Case(except_for(f"*:{port}"), address, False),
        # Ranges of addresses, as they stand in URLs.
        Case(except_for("127.0.0.0/8"), address, False),
        Case(except_for("127.0.0.1"), address, False),
        Case(except_for(f"127.0.0.0/30:{port}"), address, False),
        Case(except_for("127.0.0.0/30:1"), address, True),
        Case(except_for("10.0.0.0/8", "127.0.0.2/31", "::/0"), address, True),
        Case(except_for("127.0.0.0/8"), plain, True),
        # In lower case it goes before, and what is said nearer goes before that.
        Case({**except_for("*"), "no_proxy": "a.test"}, plain, True),
        Case({**except_for("a.test"), "no_proxy": "localhost"}, plain, False),
        Case({"all_proxy": squid}, plain, False, ("--proxy", "")),
        Case({"all_proxy": dead, "NO_PROXY": "*"}, secure, True, ("--proxy", squid)),
    ]


def main():
    fetch, work, squid, dead, plain, secure = sys.argv[1:]
    squid, dead = f"http://127.0.0.1:{squid}", f"http://127.0.0.1:{dead}"
    checks = Checks(fetch, "--cacert", f"{work}/ca.pem", "--retry", "0")
    with open(f"{work}/files/text", "rb") as file:
        text = file.read()
    all_cases = cases(squid, dead, f"http://localhost:{plain}", f"https://localhost:{secure}")
    for number, case in enumerate(all_cases):
        job = {"url": f"{case.url}/ways/text?{number}"}
        (result,) = checks.run([job], *case.options, variables=case.variables)
        checks.equal(f"{case}", (result["status"], body_of(result)), (200, text))
        is_handed_on = case.is_led and case.url.startswith("http:")
        via = headers_of(result).get("via", "")
        checks.equal(f"who has answered {case}", "squid" in via, is_handed_on)
        at = squid if case.is_led else f"http://127.0.0.1:{case.url.rsplit(':', 1)[1]}"
        checks.equal(f"where it went {case}", f"http://{result['remote']}", at)
    led_count = sum(case.is_led for case in all_cases)
    led = [line.split(" ") for line in Log(f"{work}/squid/ways").new(led_count)]
    seen = [line.split(" ", 3) for line in Log(f"{work}/nginx/ways").new(len(all_cases))]
    checks.equal("requests that nginx had", len(seen), len(all_cases))
    ways = {int(target.split("?")[1]): (port, host, via) for port, host, target, via in seen}
    expected = []
    for number, case in enumerate(all_cases):
        port, host, via = ways[number]
        url = f"{case.url}/ways/text?{number}"
        at = case.url.split("/")[2]
        is_handed_on = case.is_led and case.url.startswith("http:")
        checks.equal(f"the host of {case}", host, at)
        checks.equal(f"what nginx was told of {case}", "squid" in via, is_handed_on)
        if case.is_led:
            expected.append([port, "GET", url] if is_handed_on else [port, "CONNECT", at])
    checks.equal("what squid led, and from where", sorted(led), sorted(expected))
    print(
        f"-- environment: {len(all_cases)} cases, {checks.count} checks against "
        f"{version_of('squid', '-v')}, of which it led {len(led)}"
    )


if __name__ == "__main__":
    main()
