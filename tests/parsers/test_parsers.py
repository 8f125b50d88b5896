#!/usr/bin/env python3
"""Dead tokens in spellings that real parsers read, through idlegate: none reaches a handler where a rule requires the token.

    test_parsers.py IDLEGATE [TRIES] [PARSER…]

TRIES random requests for each parser (300), beside the table in spellings.py.
"""
import hashlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import mutations
from spellings import KINDS, plain, spellings

HERE = pathlib.Path(__file__).resolve().parent
NODE_MODULES = os.environ.get("TEST_NODE_MODULES", "")

# What closes the world of tokens. Until a rule has `unknown`, what `remains` in spellings.py passes, and nothing else.
CLOSED = ""

DEAD = {
    "opaque": "q3Zr8wYb-0_kLmN5tUvXyA1B2C3D4E5F6G7H8I9J0Ka",
    "uuid": "7d3f0c1e-9b2a-4c6d-8e5f-a1b2c3d4e5f6",
    "signed": "eyJ1IjoiYWRhIn0.q3Zr8wYb-0_kLmN5tUvXyA1B2C3D4E5F6G7H8I9J0Ka",
}
FORMATS = {kind: "[A-Za-z0-9_-]{43}" for kind in KINDS} | {
    "uuid": "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "signed": r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}",
}
PLACES = {
    "cookie": 'from = "cookie"\nname = "s_id"',
    "uuid": 'from = "cookie"\nname = "u_id"',
    "signed": 'from = "cookie"\nname = "j_id"',
    "bearer": 'from = "bearer"',
    "header": 'from = "header"\nname = "s-id"',
    "query": 'from = "query"\nname = "s_id"',
    "json": 'from = "request-json"\npointer = "/s_id"',
}


def gunicorn(app, **more):
    command = [sys.executable, "-m", "gunicorn", "--bind=127.0.0.1:0", "--threads=4", "--keep-alive=60", f"{app}:application"]
    return command, more


def node(version):
    return ["node", str(HERE / "apps/express.cjs"), version], {"NODE_PATH": NODE_MODULES}


PARSERS = {
    "aiohttp": ([sys.executable, "aiohttp_app.py"], {}),
    "django": gunicorn("django_app"),
    "drf": gunicorn("django_app", REST="1"),
    "flask": gunicorn("flask_app"),
    "tornado": ([sys.executable, "tornado_app.py"], {}),
    "fastapi": (
        [sys.executable, "-m", "uvicorn", "--port=0", "--no-access-log", "--timeout-keep-alive=60", "fastapi_app:application"],
        {},
    ),
    "express4": node("express4"),
    "express5": node("express5"),
    "php": (["php", "-d", "display_errors=0", "-S", "127.0.0.1:{port}", "app.php"], {"PHP_CLI_SERVER_WORKERS": "4"}),
}


class Program:
    """A program that says where it listens; ended when left."""

    def __init__(self, command, environment, said, folder, keep=None):
        self.log = tempfile.TemporaryFile()
        self.said = said
        # What must last as long.
        self.keep = keep
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("IDLEGATE_")} | environment,
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def address(self, said=None):
        """The address after these words."""
        until = time.monotonic() + 30
        while not (found := re.search((said or self.said) + r"127\.0\.0\.1:(\d+)", self.text())):
            if time.monotonic() > until or self.process.poll() is not None:
                raise AssertionError(f"{self.process.args} says not where it listens: {self.text()}")
            time.sleep(0.02)
        return "127.0.0.1", int(found[1])

    def __exit__(self, *_):
        # With its workers: the group was made for it.
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()


def start_app(parser):
    command, more = PARSERS[parser]
    said = "http://"
    if parser == "php":
        # It does not say which port the system chose.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [part.format(port=port) for part in command]
    return Program(command, more | {"DEAD": json.dumps(DEAD)}, said, HERE / "apps")


def start_idlegate(binary, upstream, closed):
    rules = []
    for kind in KINDS:
        more = f"required = true\nformat = '{FORMATS[kind]}'\n{CLOSED}" if closed else ""
        rules.append(f'[[token]]\n{PLACES[kind]}\npaths = ["/{kind}"]\n{more}')
    folder = tempfile.TemporaryDirectory()
    file = pathlib.Path(folder.name) / "proxy.toml"
    file.write_text(
        f'listen = "127.0.0.1:0"\nupstream = "http://127.0.0.1:{upstream[1]}"\naudit = "none"\n'
        '[admin]\nlisten = "127.0.0.1:0"\n' + "\n".join(rules)
    )
    program = Program([binary, "--config", str(file)], {}, "listening on http://", folder.name, folder)
    program.address()
    return program


class Client:
    """Sends requests as they are, over one connection while that lasts."""

    def __init__(self, address):
        self.address, self.socket = address, None

    def ask(self, request):
        """The status, and whether the handler read the dead token. `None` where the peer only closes."""
        for attempt in range(2):
            fresh = self.socket is None
            if fresh:
                self.socket = socket.create_connection(self.address, timeout=30)
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self.socket.sendall(request)
                answer = http.client.HTTPResponse(self.socket)
                answer.begin()
                answer.read()
            except (OSError, http.client.HTTPException):
                self.close()
                if fresh:
                    return None, False
                continue
            if answer.will_close:
                self.close()
            return answer.status, answer.getheader("X-Reads") == "dead"
        return None, False

    def close(self):
        if self.socket:
            self.socket.close()
        self.socket = None


def end_all(program, client):
    """Begins a session for each token, and ends it."""
    for kind in KINDS:
        status, dead = client.ask(plain(kind, DEAD))
        assert (status, dead) == (200, True), f"{kind}: {status}, {dead}: the app does not read the token"
    admin = program.address("admin API and page at http://")
    for token in DEAD.values():
        session = hashlib.sha256(token.encode()).hexdigest()[:32]
        request = urllib.request.Request(f"http://127.0.0.1:{admin[1]}/sessions/{session}", method="DELETE")
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200, answer.status
    for kind in KINDS:
        status, dead = client.ask(plain(kind, DEAD))
        assert (status, dead) == (401, False), f"{kind}: {status}, {dead}: the dead token is not refused"


def try_table(parser, app, open_world, closed_world):
    """Tries each spelling that the app alone reads as the dead token. Returns what became of them."""
    read, passed, remaining, faults = set(), set(), set(), []
    for spelling in spellings(DEAD):
        if not app.ask(spelling.request)[1]:
            continue
        read.add(spelling)
        if open_world.ask(spelling.request)[1]:
            passed.add(spelling)
        status, dead = closed_world.ask(spelling.request)
        if dead:
            remaining.add(spelling)
            if CLOSED or not spelling.remains:
                faults.append(f"{parser} reads the dead token ({status}): {spelling.kind}, {spelling.name}")
    return read, passed, remaining, faults


def table_of(passed, remaining):
    """The rows of the manual's table: what idlegate does not see, by which parser, and what `required` makes of it."""
    rows = []
    for spelling in spellings(DEAD):
        by = [parser for parser in PARSERS if spelling in passed[parser]]
        if by:
            left = "passes" if any(spelling in remaining[parser] for parser in by) else "refused"
            rows.append(f"| {spelling.kind}: {spelling.name} | `{spelling.example(DEAD)}` | {', '.join(by)} | {left} |")
    return rows


def check_manual(rows):
    """Whether the manual has these rows."""
    manual = (HERE / "../../docs/security.md").read_text()
    _, _, table = manual.partition("<!-- parsers -->\n")
    written = table.split("\n\n")[0].splitlines()[2:]
    if written == rows:
        return []
    return ["docs/security.md has another table than was measured; write this one:\n" + "\n".join(rows)]


def try_random(parser, count, app, closed_world):
    """Random requests. Returns how many were tried, how many of a sample the app alone reads, and faults."""
    tried = sampled = dead_alone = 0

    def check(request):
        nonlocal tried, sampled, dead_alone
        tried += 1
        status, dead = closed_world.ask(request)
        assert not dead, f"{parser} reads the dead token ({status}): {request!r}"
        if tried % 3 == 0:
            sampled += 1
            dead_alone += app.ask(request)[1]

    faults = []
    try:
        mutations.run(check, count, DEAD, companions=bool(CLOSED))
    except AssertionError as error:
        faults.append(str(error))
    if count >= 300 and not dead_alone:
        faults.append(f"{parser} alone reads none of {sampled} random requests: they prove nothing")
    return tried, sampled, dead_alone, faults


def main():
    binary, *rest = sys.argv[1:]
    binary = str(pathlib.Path(binary).resolve())
    count = int(rest.pop(0)) if rest else 300
    wanted = rest or list(PARSERS)
    read_by_any, passed, remaining, faults = set(), {}, {}, []
    for parser in wanted:
        begun = time.monotonic()
        with start_app(parser) as program:
            upstream = program.address()
            with start_idlegate(binary, upstream, False) as open_, start_idlegate(binary, upstream, True) as closed:
                app, open_world, closed_world = Client(upstream), Client(open_.address()), Client(closed.address())
                end_all(open_, open_world)
                end_all(closed, closed_world)
                read, passed[parser], remaining[parser], found = try_table(parser, app, open_world, closed_world)
                faults += found
                read_by_any |= read
                tried, sampled, alone, found = try_random(parser, count, app, closed_world)
                faults += found
                for client in (app, open_world, closed_world):
                    client.close()
        print(
            f"{parser}: reads {len(read)} spellings; without `required` {len(passed[parser])} pass, with it "
            f"{len(remaining[parser])}; {tried} random requests, of every third it alone reads {alone} of {sampled}; "
            f"{time.monotonic() - begun:.1f} s",
            flush=True,
        )
    if len(wanted) == len(PARSERS):
        unread = [spelling for spelling in spellings(DEAD) if spelling not in read_by_any]
        faults += [f"no parser reads this spelling: {spelling.kind}, {spelling.name}" for spelling in unread]
        faults += check_manual(table_of(passed, remaining))
    for fault in faults:
        print(f"FAULT {fault}", file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
