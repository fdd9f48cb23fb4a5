"""Runs `openssl s_server` in many ways, fetches from each, and checks what comes of it.

tls.py FETCH        FETCH is the program; each case is one server and one fetch, retries allowed
"""

import base64
import itertools
import json
import os
import subprocess
import sys
import tempfile

HOST = "www.a.test"
BODY = "the body\n"
ANSWER = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}"
# More than the file has.
SHORT = f"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{BODY}"
UNTIL_CLOSE = f"HTTP/1.1 200 OK\r\n\r\n{BODY}"
FETCH_SECONDS_MAX = 60
SHOWN = bool(os.environ.get("SHOW"))

CA_CONFIG = """
[ca]
default_ca = issuing
[issuing]
database = index
new_certs_dir = .
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
"""
PAST = ["-startdate", "20000101000000Z", "-enddate", "20010101000000Z"]
FUTURE = ["-startdate", "20900101000000Z", "-enddate", "20910101000000Z"]
NOW = ["-startdate", "20000101000000Z", "-enddate", "20900101000000Z"]
AUTHORITY = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
KEYS = {
    "ec": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "p384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "ed25519": ["-algorithm", "ED25519"],
    "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "rsa4096": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
    "rsa1024": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
}


def openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {' '.join(arguments)}:\n{done.stderr}")


class Maker:
    """Makes certificates in the current directory, which the files it names are in."""

    def __init__(self):
        self.numbers = itertools.count()
        write("ca.cnf", CA_CONFIG)
        write("index", "")
        write("index.attr", "unique_subject = no\n")

    def key(self, kind="ec"):
        path = f"{next(self.numbers)}.key"
        openssl("genpkey", *KEYS[kind], "-out", path)
        return path

    def root(self, name):
        key, path = self.key(), f"{name}.pem"
        extensions = itertools.chain.from_iterable(
            ("-addext", line) for line in AUTHORITY.splitlines()
        )
        # Without a configuration: the system's would add extensions of its own.
        write("empty.cnf", "[req]\ndistinguished_name = name\n[name]\n")
        openssl("req", "-x509", "-config", "empty.cnf", "-key", key, "-subj", f"/CN={name}",
                "-days", "9", *extensions, "-out", path)
        return Issuer(self, path, key, [])


class Issuer:
    def __init__(self, maker, path, key, above):
        self.maker, self.path, self.key, self.above = maker, path, key, above

    def sign(self, name, extensions, kind="ec", dates=NOW, digest="sha256"):
        key = self.maker.key(kind)
        path, request = f"{next(self.maker.numbers)}.pem", "request"
        openssl("req", "-new", "-config", "empty.cnf", "-key", key, "-subj", f"/CN={name}",
                "-out", request)
        write("extensions", extensions)
        openssl("ca", "-config", "ca.cnf", "-batch", "-notext", "-cert", self.path,
                "-keyfile", self.key, "-in", request, "-out", path, "-md", digest, *dates,
                "-extfile", "extensions")
        return path, key

    def issuer(self, name, extensions=AUTHORITY):
        path, key = self.sign(name, extensions)
        return Issuer(self.maker, path, key, [path, *self.above])

    def leaf(self, names=f"DNS:{HOST}", more="", **options):
        """The arguments that make a server show a certificate for these names."""
        extensions = f"subjectAltName={names}\n{more}" if names else more
        path, key = self.sign("a leaf", extensions, **options)
        return ["-cert", path, "-key", key, *self.chain()]

    def chain(self):
        if not self.above:
            return []
        path = f"{next(self.maker.numbers)}.chain"
        write(path, "".join(read(one) for one in self.above))
        return ["-cert_chain", path]


def certificates(root, other):
    """Name, the server's arguments, the host, and the outcome: words of a refusal, or none."""
    middle = root.issuer("middle")
    no_authority = root.issuer("no authority", "basicConstraints=critical,CA:FALSE\n")
    constraint = AUTHORITY + "nameConstraints=critical,"
    permitting = root.issuer("permitting", constraint + "permitted;DNS:a.test\n")
    excluding = root.issuer("excluding", constraint + "excluded;DNS:a.test\n")
    own = root.maker.key()
    openssl("req", "-x509", "-config", "empty.cnf", "-key", own, "-subj", "/CN=own",
            "-addext", f"subjectAltName=DNS:{HOST}", "-days", "9", "-out", "own.pem")
    weak = ["-cipher", "DEFAULT@SECLEVEL=0"]
    unknown = ["self-signed or of an issuer that is not trusted", "intermediate is missing"]
    unsupported = ["a signature or a key of a kind that is not supported"]
    return [
        ("valid", root.leaf(), HOST, None),
        ("expired", root.leaf(dates=PAST), HOST, ["expired", "days ago"]),
        ("not yet valid", root.leaf(dates=FUTURE), HOST, ["not yet valid"]),
        ("another name", root.leaf("DNS:b.test"), HOST, ["is for b.test; www.a.test was expected"]),
        ("no name", root.leaf("", "keyUsage=digitalSignature\n"), HOST, ["names no host"]),
        ("self-signed", ["-cert", "own.pem", "-key", own], HOST, unknown),
        ("of an unknown authority", other.leaf(), HOST, unknown),
        ("through an intermediate", middle.leaf(), HOST, None),
        ("without its intermediate", middle.leaf()[:4], HOST, unknown),
        ("of an issuer that is no authority", no_authority.leaf(), HOST,
         ["issuer is not an authority"]),
        ("permitted", permitting.leaf(), HOST, None),
        ("not permitted", permitting.leaf("DNS:b.test"), "b.test",
         ["its issuer may not vouch for"]),
        ("excluded", excluding.leaf(), HOST, ["its issuer may not vouch for"]),
        ("for clients", root.leaf(more="extendedKeyUsage=clientAuth\n"), HOST,
         ["not meant for servers, but for client authentication"]),
        ("for servers", root.leaf(more="extendedKeyUsage=serverAuth\n"), HOST, None),
        ("an address", root.leaf("IP:127.0.0.1"), "127.0.0.1", None),
        ("another address", root.leaf("IP:127.0.0.2"), "127.0.0.1",
         ["is for 127.0.0.2; 127.0.0.1 was expected"]),
        ("a wildcard", root.leaf("DNS:*.a.test"), HOST, None),
        ("the apex of a wildcard", root.leaf("DNS:*.a.test"), "a.test", ["is for *.a.test;"]),
        ("two labels for a wildcard", root.leaf("DNS:*.a.test"), "x.www.a.test",
         ["is for *.a.test;"]),
        ("a wildcard for an address", root.leaf("DNS:*.0.0.1"), "127.0.0.1", ["is for *.0.0.1;"]),
        ("an international name", root.leaf("DNS:xn--bcher-kva.test"), "bücher.test", None),
        ("version 1", root.leaf(""), HOST, ["not of version 3"]),
        ("RSA", root.leaf(kind="rsa"), HOST, None),
        ("RSA, 4,096 bits", root.leaf(kind="rsa4096"), HOST, None),
        ("P-384, SHA-384", root.leaf(kind="p384", digest="sha384"), HOST, None),
        ("Ed25519", root.leaf(kind="ed25519"), HOST, None),
        ("RSA, 1,024 bits", [*root.leaf(kind="rsa1024"), *weak], HOST, ["key too weak"]),
        ("signed with SHA-1", [*root.leaf(digest="sha1"), *weak], HOST, unsupported),
    ]


def handshakes(root, other):
    """Name, the server's arguments, the program's, and the outcome."""
    leaf, rsa = root.leaf(), root.leaf(kind="rsa")
    asking = ["-Verify", "3", "-verify_return_error", "-CAfile", root.path]
    old = ["-cipher", "DEFAULT@SECLEVEL=0"]
    no_version, no_suite = ["no TLS version in common"], ["no cipher suite or group in common"]

    def client(issuer, **options):
        path, key = issuer.sign("a client", "extendedKeyUsage=clientAuth\n", **options)
        return ["--cert", path, "--key", key]

    cases = [
        ("TLS 1.0", [*rsa, "-tls1", *old], [], no_version),
        ("TLS 1.1", [*rsa, "-tls1_1", *old], [], no_version),
        ("TLS 1.2", [*rsa, "-tls1_2"], [], None),
        ("TLS 1.3", [*rsa, "-tls1_3"], [], None),
        ("a suite that is not spoken", [*rsa, "-tls1_2", "-cipher", "AES128-SHA"], [], no_suite),
        ("a suite that is not spoken, TLS 1.3",
         [*leaf, "-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"], [], no_suite),
        ("a group that is not spoken", [*leaf, "-tls1_3", "-groups", "X448"], [], no_suite),
        ("a group that is not spoken, TLS 1.2",
         [*leaf, "-tls1_2", "-groups", "secp521r1"], [], no_suite),
        ("a group that is asked for again", [*leaf, "-tls1_3", "-groups", "P-384"], [], None),
        ("h2 only", [*leaf, "-alpn", "h2"], [], ["does not speak HTTP/1.1"]),
        ("h2 and HTTP/1.1", [*leaf, "-alpn", "h2,http/1.1"], [], None),
        ("records of 512 bytes", [*leaf, "-max_send_frag", "512"], [], None),
        ("another server's name",
         [*leaf, "-servername", "b.test", "-servername_fatal", "-cert2", leaf[1], "-key2", leaf[3]],
         [], ["does not serve this name"]),
    ]
    for version, missing in [("-tls1_3", "demands a client certificate"),
                             ("-tls1_2", "may demand a client certificate")]:
        server = [*leaf, version, *asking]
        cases += [
            (f"a client's certificate, {version}", server, client(root), None),
            (f"none, {version}", server, [], [missing]),
            (f"another authority's, {version}", server, client(other),
             ["does not trust the issuer of the client certificate"]),
            (f"an expired one, {version}", server, client(root, dates=PAST),
             ["takes the client certificate for expired"]),
        ]
    return cases


def pins(root):
    """Name, the server's arguments, the program's, and the outcome: keys as openssl hashes them."""
    cases = []
    for kind in ("ec", "p384", "rsa"):
        leaf = root.leaf(kind=kind)
        public, der = f"{leaf[3]}.public", f"{leaf[3]}.der"
        openssl("pkey", "-in", leaf[3], "-pubout", "-out", public)
        openssl("pkey", "-in", leaf[3], "-pubout", "-outform", "DER", "-out", der)
        openssl("dgst", "-sha256", "-binary", "-out", "hash", der)
        with open("hash", "rb") as file:
            pin = "sha256//" + base64.b64encode(file.read()).decode()
        other = "sha256//" + base64.b64encode(bytes(32)).decode()
        cases += [
            (f"its key is pinned, {kind}", leaf, ["--pinnedpubkey", f"{other};{pin}"], None),
            (f"its key's file is pinned, {kind}", leaf, ["--pinnedpubkey", public], None),
            (f"another key is pinned, {kind}", leaf, ["--pinnedpubkey", other], [pin, other]),
        ]
    return cases


def ends(root):
    """Name, the server's arguments, the file that is asked for, the error's kind, and the words."""
    return [
        (f"{name}, {version}", [*root.leaf(), version], path, kind, words)
        for version in ("-tls1_2", "-tls1_3")
        for name, path, kind, words in [
            ("a body until close, which is announced", "until-close", None, None),
            ("a body that is cut", "short", "closed", ["90 bytes early"]),
        ]
    ]


class Checker:
    def __init__(self, program, root):
        self.program, self.root = program, root
        self.checked = 0
        self.wrong = []

    def check(self, name, server, host, more, kind, words, path="body"):
        result = self.fetch(server, host, more, path)
        error = result["error"]
        if error is None:
            outcome = result["body"]
            right = words is None and outcome == BODY
        else:
            outcome = f"{error['kind']}: {error['message']}"
            right = (words is not None and error["kind"] == kind
                     and all(word in error["message"] for word in words)
                     and error["message"].isprintable())
        # A body that was cut may come whole another time; the rest is final.
        if kind != "closed" and result["attempts"] != 1:
            right, outcome = False, f"{outcome} after {result['attempts']} attempts"
        self.checked += 1
        if not right:
            self.wrong.append(f"{name}: {outcome}")
        if SHOWN:
            print(f"{name}: {outcome.strip()}")

    def fetch(self, server, host, more, path):
        command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-HTTP", *server]
        with open("server.log", "wb") as log, subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        ) as running:
            try:
                port = port_of(running)
                name = host.encode("idna").decode()
                address = [] if name[0].isdigit() else ["--resolve", f"{name}:{port}:127.0.0.1"]
                done = subprocess.run(
                    [self.program, "--json", "--cacert", self.root, "--retries", "3",
                     *address, *more, f"https://{host}:{port}/{path}"],
                    capture_output=True, timeout=FETCH_SECONDS_MAX, check=False,
                )
                return json.loads(done.stdout)
            finally:
                running.kill()


def port_of(running):
    for line in running.stdout:
        if line.startswith("ACCEPT"):
            return int(line.rsplit(":", 1)[1])
    raise RuntimeError(f"the server does not start: {read('server.log')}")


def write(path, text):
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        for path, text in [("body", ANSWER), ("short", SHORT), ("until-close", UNTIL_CLOSE)]:
            write(path, text)
        maker = Maker()
        root, other = maker.root("root"), maker.root("other")
        checker = Checker(program, root.path)
        for name, server, host, words in certificates(root, other):
            for version in ("-tls1_2", "-tls1_3"):
                server_of = [*server, version]
                checker.check(f"{name}, {version}", server_of, host, [], "certificate", words)
        for name, server, more, words in handshakes(root, other):
            checker.check(name, server, HOST, more, "tls", words)
        for name, server, more, words in pins(root):
            checker.check(name, server, HOST, more, "certificate", words)
        for name, server, path, kind, words in ends(root):
            checker.check(name, server, HOST, [], kind, words, path)
        os.chdir("/")
    for what in checker.wrong:
        print(f"wrong: {what}")
    print(f"openssl: {checker.checked} handshakes checked, {len(checker.wrong)} wrong")
    sys.exit(1 if checker.wrong else 0)


if __name__ == "__main__":
    main()
