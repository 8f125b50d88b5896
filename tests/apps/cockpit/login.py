#!/usr/bin/env python3
"""The login of this test: cockpit-ws runs it in place of cockpit-session, which would need a user of the machine with a password.

It asks for the authorization as cockpit-session does, and becomes cockpit-bridge.
"""
import base64
import json
import os
import sys


def send(message):
    data = b"\n" + json.dumps(message).encode()
    os.write(1, b"%d\n" % len(data) + data)


def receive():
    length = b""
    while not length.endswith(b"\n"):
        length += os.read(0, 1)
    data = b""
    while len(data) < int(length):
        data += os.read(0, int(length) - len(data))
    return json.loads(data)


send({"command": "authorize", "cookie": "login", "challenge": "*"})
_, credentials = receive()["response"].split()
user, password = base64.b64decode(credentials).decode().split(":", 1)
if (user, password) != ("ada", "correct horse"):
    send({"command": "init", "version": 1, "problem": "authentication-failed"})
    sys.exit(5)
os.execvp("cockpit-bridge", ["cockpit-bridge"])
