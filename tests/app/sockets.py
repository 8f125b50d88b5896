"""The legacy app's WebSocket `/ws`, and `/ws-legacy`, which asks for no login."""
import asyncio
import itertools
import json
import socket

from tornado.ioloop import PeriodicCallback
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from handlers import SERVER
from seen import headers_of, session_id_of

_numbers = itertools.count(1)


class Socket(WebSocketHandler):
    """Notes what arrives. Never accepts permessage-deflate: Tornado offers it only where a handler asks for it."""

    def initialize(self, seen, **shared):
        self.seen = seen
        self.shared = shared
        self.number = next(_numbers)

    def set_default_headers(self):
        self.set_header("Server", SERVER)

    def check_origin(self, _origin):
        return True

    def open(self, *_path):
        self.seen.add("ws-open", socket=self.number, path=self.request.path, headers=headers_of(self.request))

    def note_message(self, message, body):
        self.seen.add(
            "ws-message",
            socket=self.number,
            kind="text" if isinstance(message, str) else "binary",
            bytes=len(message.encode() if isinstance(message, str) else message),
            cmd=body.get("cmd") if body else None,
            session=session_id_of(body.get("session_id")) if body else None,
        )

    def on_pong(self, data):
        self.seen.add("ws-pong", socket=self.number, payload=data.decode("utf-8", "replace"))

    def on_close(self):
        self.seen.add("ws-close", socket=self.number, code=self.close_code, reason=self.close_reason)

    def send(self, body):
        try:
            self.write_message(json.dumps(body))
        except WebSocketClosedError:
            pass  # the client went first; on_close tells of it


class Classroom(Socket):
    async def get(self, *path):
        # Sometimes the greeting shares a TCP segment with the 101: here on every second socket, so that both ways are
        # met. A cork holds the 101 back until the greeting is written.
        stream = self.request.connection.stream
        self.corked = self.number % 2 == 1 and stream.socket.family != socket.AF_UNIX
        if self.corked:
            stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, True)
            stream.set_nodelay = lambda _on: None  # it would push what the cork holds
        await super().get(*path)

    def uncork(self):
        if self.corked:
            stream = self.ws_connection.stream
            del stream.set_nodelay
            stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, False)

    def open(self, *path):
        super().open(*path)
        self.session = None
        self.program = None
        self.ping_timer = PeriodicCallback(self.keep_alive, self.shared["ping"] * 1000)
        self.ping_timer.start()
        self.pong_deadline = None
        self.expect_pong()
        self.send({"type": "auth_required", "message": "Please authenticate to continue"})
        self.uncork()

    def keep_alive(self):
        try:
            self.ping(b"keepalive")
        except WebSocketClosedError:
            self.ping_timer.stop()

    def expect_pong(self):
        """Only the application's pong is heard. The handler for protocol pongs is shadowed in the real app."""
        if self.pong_deadline:
            self.pong_deadline.cancel()
        self.pong_deadline = asyncio.get_running_loop().call_later(self.shared["pong_deadline"], self.close)

    def on_message(self, message):
        try:
            body = json.loads(message)
        except (ValueError, RecursionError):
            body = None
        body = body if isinstance(body, dict) else None
        self.note_message(message, body)
        if body is None:
            return
        commands = {
            "authenticate": self.authenticate,
            "pong": lambda _body: self.expect_pong(),
            "echo": self.echo,
            "run": self.run,
            "ide_list_projects": self.list_projects,
        }
        command = commands.get(body.get("cmd")) if isinstance(body.get("cmd"), str) else None
        if command is None:
            self.send({"type": "error", "message": "Unknown command"})
        elif command in (self.echo, self.run, self.list_projects) and self.session is None:
            self.send({"type": "error", "message": "Not authenticated. Please login first."})
        else:
            command(body)

    def authenticate(self, body):
        sessions = self.shared["sessions"]
        with_password = "session_id" not in body
        if with_password:
            session = sessions.login(body.get("username"), body.get("password"))
            refusal = "Invalid username or password"
        else:
            session = sessions.find(body.get("session_id"))
            refusal = "Invalid or expired session"
        token = session.token if session else body.get("session_id")
        self.seen.add(
            "ws-authenticate", socket=self.number, session=session_id_of(token), accepted=session is not None
        )
        if session is None:
            return self.send({"type": "error", "message": refusal})
        self.take_over(session)
        user = session.user
        issued = {"session_id": session.token} if with_password else {}
        answer = {"type": "auth_success", "username": user.name, "role": user.role, **issued}
        return self.send({**answer, "full_name": user.full_name, "is_exam_mode": False})

    def take_over(self, session):
        """One socket per token: an earlier one is told to go."""
        holders = self.shared["holders"]
        if self.session is not None and holders.get(self.session.token) is self:
            del holders[self.session.token]
        earlier = holders.get(session.token)
        if earlier is not None:
            earlier.kick()
        holders[session.token] = self
        self.session = session

    def kick(self):
        self.send(
            {
                "type": "session_terminated",
                "reason": "logged_in_elsewhere",
                "message": "Another login for the same account detected. You have been logged out.",
            }
        )
        self.close(4001, "Logged in from another location")

    def list_projects(self, body):
        self.send({"code": 0, "data": ["Local"], "id": body.get("id")})

    def echo(self, body):
        self.send({"type": "echo", "data": body.get("data")})

    def run(self, body):
        """A program that prints `lines` lines, `interval` seconds apart, and ends with its socket."""
        self.stop_program()
        self.program = asyncio.ensure_future(self._print(int(body.get("lines", 1)), float(body.get("interval", 0))))

    async def _print(self, lines, interval):
        for number in range(1, lines + 1):
            if number > 1:
                await asyncio.sleep(interval)
            self.send({"type": "output", "data": f"line {number}\n", "last": number == lines})

    def stop_program(self):
        if self.program and not self.program.done():
            self.program.cancel()
            self.seen.add("program-stopped", socket=self.number)

    def on_close(self):
        super().on_close()
        self.ping_timer.stop()
        self.pong_deadline.cancel()
        self.stop_program()
        if self.session is not None and self.shared["holders"].get(self.session.token) is self:
            del self.shared["holders"][self.session.token]


class Legacy(Socket):
    """The old door: everything is echoed to whoever asks."""

    def on_message(self, message):
        self.note_message(message, None)
        self.write_message(message, binary=isinstance(message, bytes))


def routes(shared):
    return [("/ws", Classroom, shared), ("/ws-legacy", Legacy, shared)]
