#!/usr/bin/env python3
"""Dead tokens in spellings that real parsers read, through idlegate: none reaches a handler where a rule requires the token.

    test_parsers.py IDLEGATE [TRIES] [PARSER…]

TRIES random requests for each parser and each closed world (300), beside the table in spellings.py.
"""
import contextlib
import hashlib
import http.client
import itertools
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
import uuid

import mutations
from spellings import KINDS, get, plain, spellings

HERE = pathlib.Path(__file__).resolve().parent
NODE_MODULES = os.environ.get("TEST_NODE_MODULES", "")

# The worlds of tokens that are tried, by the keys of each rule. In the closed one nothing passes, not even what `remains` in
# spellings.py.
OPEN = ""
REQUIRED = "required = true\nformat = '{format}'\n"
CLOSED = REQUIRED + 'unknown = "refuse"\n'

DEAD = {
    "opaque": "q3Zr8wYb-0_kLmN5tUvXyA1B2C3D4E5F6G7H8I9J0Ka",
    "uuid": "7d3f0c1e-9b2a-4c6d-8e5f-a1b2c3d4e5f6",
    "signed": "eyJ1IjoiYWRhIn0.q3Zr8wYb-0_kLmN5tUvXyA1B2C3D4E5F6G7H8I9J0Ka",
}
TIMEOUT = 1
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


def start_idlegate(binary, upstream, world):
    rules = ['[[token]]\nfrom = "response-json"\npointer = "/issued"\npaths = ["/issue"]\n']
    for kind in KINDS:
        more = world.replace("{format}", FORMATS[kind])
        rules.append(f'[[token]]\n{PLACES[kind]}\npaths = ["/{kind}"]\n{more}')
    folder = tempfile.TemporaryDirectory()
    file = pathlib.Path(folder.name) / "proxy.toml"
    file.write_text(
        f'listen = "127.0.0.1:0"\nupstream = "http://127.0.0.1:{upstream[1]}"\naudit = "none"\n'
        # Tokens from before the start pass for one timeout.
        f'[admin]\nlisten = "127.0.0.1:0"\n[idle]\ntimeout = "{TIMEOUT}s"\n' + "\n".join(rules)
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
    for token in DEAD.values():
        assert client.ask(get(f"/issue?t={token}"))[0] == 200, "the app issues no token"
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


def tokens(kind):
    """Tokens of users, without end."""
    for number in itertools.count():
        digest = hashlib.sha256(f"{kind} {number}".encode()).hexdigest()
        yield {"uuid": str(uuid.UUID(digest[:32])), "signed": f"user.{digest[:43]}"}.get(kind, digest[:43])


def await_closed(client):
    """Begins sessions of users, and waits until tokens that the app did not issue are refused."""
    until = time.monotonic() + TIMEOUT + 30
    for kind in KINDS:
        fresh = tokens(kind)
        for token in itertools.islice(fresh, 16):
            assert client.ask(get(f"/issue?t={token}"))[0] == 200, "the app issues no token"
            assert client.ask(plain(kind, dict.fromkeys(DEAD, token)))[0] == 200, f"{kind}: a token that was issued is refused"
        # Each that passes has a session from then on.
        while client.ask(plain(kind, dict.fromkeys(DEAD, next(fresh))))[0] != 401:
            assert time.monotonic() < until, f"{kind}: unknown tokens are not refused"
            time.sleep(1)


def try_table(parser, app, worlds):
    """Tries each spelling that the app alone reads as the dead token. Returns those, what passes in each world, and faults."""
    read, passed, faults = set(), {world: set() for world in worlds}, []
    for spelling in spellings(DEAD):
        if not app.ask(spelling.request)[1]:
            continue
        read.add(spelling)
        for world, client in worlds.items():
            status, dead = client.ask(spelling.request)
            if not dead:
                continue
            passed[world].add(spelling)
            if world == CLOSED or world == REQUIRED and not spelling.remains:
                faults.append(f"{parser} reads the dead token ({status}): {spelling.kind}, {spelling.name}")
    return read, passed, faults


def table_of(passed):
    """The rows of the manual's table: what idlegate does not see, by which parser, and what `required` makes of it."""
    rows = []
    for spelling in spellings(DEAD):
        by = [parser for parser in PARSERS if spelling in passed[parser][OPEN]]
        if by:
            left = "passes" if any(spelling in passed[parser][REQUIRED] for parser in by) else "refused"
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


def try_random(parser, count, app, client, companions):
    """Random requests. Returns how many were tried, how many of a sample the app alone reads, and faults."""
    tried = sampled = dead_alone = 0

    def check(request):
        nonlocal tried, sampled, dead_alone
        tried += 1
        status, dead = client.ask(request)
        assert not dead, f"{parser} reads the dead token ({status}): {request!r}"
        if tried % 3 == 0:
            sampled += 1
            dead_alone += app.ask(request)[1]

    faults = []
    try:
        mutations.run(check, count, DEAD, companions)
    except AssertionError as error:
        faults.append(str(error))
    if count >= 300 and not dead_alone:
        faults.append(f"{parser} alone reads none of {sampled} random requests: they prove nothing")
    return tried, sampled, dead_alone, faults


def try_parser(parser, binary, count):
    """Tries everything with one parser. Returns what it reads, what passes in each world, and faults."""
    begun = time.monotonic()
    with contextlib.ExitStack() as running:
        upstream = running.enter_context(start_app(parser)).address()
        app, worlds = Client(upstream), {}
        running.callback(app.close)
        for world in (OPEN, REQUIRED, CLOSED):
            program = running.enter_context(start_idlegate(binary, upstream, world))
            worlds[world] = Client(program.address())
            running.callback(worlds[world].close)
            end_all(program, worlds[world])
        # With a format no token is known that is not dead. In the closed world others may stand beside it.
        tried, *with_required = try_random(parser, count, app, worlds[REQUIRED], False)
        await_closed(worlds[CLOSED])
        read, passed, faults = try_table(parser, app, worlds)
        tried, *closed_world = try_random(parser, count, app, worlds[CLOSED], True)
    alone = [f"{dead} of {sampled}" for sampled, dead, _ in (with_required, closed_world)]
    faults += with_required[2] + closed_world[2]
    open_, required, closed = (len(passed[world]) for world in (OPEN, REQUIRED, CLOSED))
    print(
        f"{parser}: reads {len(read)} spellings; {open_} pass, {required} with `required`, {closed} in the closed world; "
        f"{tried} random requests in each of the two, of every third it alone reads {' and '.join(alone)}; "
        f"{time.monotonic() - begun:.1f} s",
        flush=True,
    )
    return read, passed, faults


def main():
    binary, *rest = sys.argv[1:]
    binary = str(pathlib.Path(binary).resolve())
    count = int(rest.pop(0)) if rest else 300
    wanted = rest or list(PARSERS)
    read_by_any, passed, faults = set(), {}, []
    for parser in wanted:
        read, passed[parser], found = try_parser(parser, binary, count)
        read_by_any |= read
        faults += found
    if len(wanted) == len(PARSERS):
        unread = [spelling for spelling in spellings(DEAD) if spelling not in read_by_any]
        faults += [f"no parser reads this spelling: {spelling.kind}, {spelling.name}" for spelling in unread]
        faults += check_manual(table_of(passed))
    for fault in faults:
        print(f"FAULT {fault}", file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
