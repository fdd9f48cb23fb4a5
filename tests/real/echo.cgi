#!/usr/bin/env python3
"""Says what it was told: the variables of CGI and the SHA-256 of its input."""
import hashlib
import json
import os
import sys

NAMES = ["REQUEST_METHOD", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_USER_AGENT"]
NAMES += ["SERVER_PROTOCOL", "PATH_INFO", "HTTP_X_SOMETHING", "HTTP_COOKIE"]
told = {name: os.environ.get(name) for name in NAMES}
told["sha256"] = hashlib.sha256(sys.stdin.buffer.read()).hexdigest()
print("Content-Type: application/json")
print("Status: 201 Echoed")
print("Set-Cookie: cgi=1; Path=/")
print("Set-Cookie: by=httpd; Path=/")
print()
print(json.dumps(told))
