"""nginx as an origin: a server that people have, and which takes longer for a response than the
client does.

In go the options of a workload; out comes an origin with the face of `rig.Origin`. What it saw, it
tells by its `stub_status`.
"""

import contextlib
import os
import re
import socket
import ssl
import subprocess
import tempfile
import time

import rig

CONFIGURATION = """
{user}
daemon off;
worker_processes 1;
pid {work}/pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    default_type text/plain;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=16;
    keepalive_requests 1000000000;
    keepalive_timeout {keep_alive_seconds};
    server {{
        listen 127.0.0.1:{port} {tls};
        {certificate}
        root {work}/files;
    }}
    server {{
        listen unix:{work}/status;
        location / {{ stub_status; }}
    }}
}}
"""
CERTIFICATE = "ssl_protocols TLSv1.3; ssl_certificate {0}/server.pem; ssl_certificate_key {0}/server.key;"
BODY_BYTES = 1_024
START_SECONDS_MAX = 20
# For another port, where one was taken meanwhile.
START_ATTEMPTS = 3


class Nginx:
    """One worker, on the origin's core, until the block is left."""

    def __init__(self, tls=False, close=False):
        self.is_tls, self.is_closing = tls, close
        self.directory = tempfile.TemporaryDirectory()
        self.authority = self.path("authority.pem")
        os.mkdir(self.path("files"))
        with open(self.path("files/index.html"), "w", encoding="utf-8") as file:
            file.write("x" * BODY_BYTES)
        if tls:
            self.certify()
        self.process = self.start()
        # Of connections and requests of its own.
        self.times_asked = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.directory.cleanup()

    @property
    def url(self):
        return f"{'https' if self.is_tls else 'http'}://127.0.0.1:{self.port}/"

    def words(self):
        """What a client at the floor knows beforehand."""
        return {"head": self.head_bytes()}

    def counters(self):
        """Requests and connections. Of handshakes it does not tell."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(self.path("status"))
            # By HTTP/1.0: the end of the connection is that of the response.
            stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
            status = b"".join(iter(lambda: stream.recv(4_096), b""))
        self.times_asked += 1
        accepted, _, requests = map(int, re.search(rb"\n (\d+) (\d+) (\d+) \n", status).groups())
        return [requests - self.times_asked, accepted - self.times_asked]

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def start(self):
        for _ in range(START_ATTEMPTS):
            self.configure()
            process = subprocess.Popen(
                ["nginx", "-c", self.path("nginx.conf"), "-e", self.path("log")],
                preexec_fn=rig.pin(rig.ORIGIN_CORE),
            )
            # It is there once nginx listens.
            late = time.monotonic() + START_SECONDS_MAX
            while process.poll() is None and time.monotonic() < late:
                if os.path.exists(self.path("pid")) and os.path.getsize(self.path("pid")):
                    return process
                time.sleep(0.02)
            process.kill()
            process.wait()
        with open(self.path("log"), encoding="utf-8") as log:
            raise rig.Missed(f"nginx does not start: {log.read()[-200:]}")

    def configure(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        text = CONFIGURATION.format(
            # It may not read as another what is root's here.
            user="user root;" if os.geteuid() == 0 else "",
            work=self.directory.name,
            port=self.port,
            tls="ssl" if self.is_tls else "",
            certificate=CERTIFICATE.format(self.directory.name) if self.is_tls else "",
            keep_alive_seconds=0 if self.is_closing else 3_600,
        )
        with open(self.path("nginx.conf"), "w", encoding="utf-8") as file:
            file.write(text)

    def certify(self):
        """An authority, and the server's certificate by it."""
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-noenc", "-days", "2"]
        authority = ["-keyout", self.path("authority.key"), "-out", self.authority, "-subj", "/CN=authority"]
        server = ["-CA", self.authority, "-CAkey", self.path("authority.key"), "-subj", "/CN=origin",
                  "-addext", "basicConstraints=critical,CA:FALSE",
                  "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                  "-keyout", self.path("server.key"), "-out", self.path("server.pem")]
        for more in (authority, server):
            subprocess.run([*new, *more], check=True, stderr=subprocess.DEVNULL)

    def head_bytes(self):
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(socket.create_connection(("127.0.0.1", self.port)))
            if self.is_tls:
                trust = ssl.create_default_context(cafile=self.authority)
                stream = stack.enter_context(trust.wrap_socket(stream, server_hostname="localhost"))
            stream.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            begun = b""
            while b"\r\n\r\n" not in begun:
                begun += stream.recv(4_096)
            return begun.index(b"\r\n\r\n") + 4
