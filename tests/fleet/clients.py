"""Users, who know nothing but what they sent and what came back."""
import asyncio
import hashlib
import random
import time

import tornado.websocket
from tornado.httpclient import HTTPError, HTTPRequest

from fleet import TIMEOUT

# How long a user waits for an answer.
PATIENCE = 2.5


class User:
    """One token, and everything that was seen of it, in the order of time."""

    def __init__(self, number, fleet, dice):
        self.token = f"user-{number}-{dice.getrandbits(64):016x}"
        self.session = hashlib.sha256(self.token.encode()).hexdigest()[:32]
        self.fleet, self.dice = fleet, dice
        # (when, what, replica): "pong" for one that was sent, "sent" and "passed" for activity that was answered, "maybe" where it is not known to have
        # arrived, "refused", "opened" and "cut" for WebSockets.
        self.events = []
        self.sockets = {}
        self.began_again = False

    def note(self, what, replica):
        self.events.append((time.monotonic(), what, replica.number))

    async def request(self, replica):
        """One request: 200, 401, or None where there was no such answer."""
        sent = time.monotonic()
        head = f"GET / HTTP/1.1\r\nHost: app\r\nCookie: sid={self.token}\r\nConnection: close\r\n\r\n"
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", replica.port), PATIENCE)
        except (OSError, asyncio.TimeoutError):
            return None
        try:
            writer.write(head.encode())
            line = await asyncio.wait_for(reader.readline(), PATIENCE)
        except (OSError, asyncio.TimeoutError):
            line = b""
        finally:
            writer.transport.abort()
        status = line.split(b" ")[1] if line.count(b" ") else b""
        if status == b"200":
            self.events.append((sent, "sent", replica.number))
            self.note("passed", replica)
            return 200
        if status == b"401":
            self.note("refused", replica)
            return 401
        self.events.append((sent, "maybe", replica.number))
        self.note("maybe", replica)
        return None

    async def open(self, replica):
        """A WebSocket, whose end is noted."""
        sent = time.monotonic()
        request = HTTPRequest(f"ws://127.0.0.1:{replica.port}/ws", headers={"Cookie": f"sid={self.token}"}, connect_timeout=PATIENCE)
        try:
            socket = await asyncio.wait_for(tornado.websocket.websocket_connect(request), PATIENCE)
        except HTTPError as refused:
            if refused.code == 401:
                self.note("refused", replica)
            return
        except (OSError, asyncio.TimeoutError):
            self.events.append((sent, "maybe", replica.number))
            return
        self.events.append((sent, "sent", replica.number))
        self.note("opened", replica)
        self.sockets[replica.number] = socket
        asyncio.ensure_future(self._listen(socket, replica))

    async def _listen(self, socket, replica):
        while (message := await socket.read_message()) is not None:
            self.events.append((float(message), "sent", replica.number))
            self.note("passed", replica)
        code = socket.close_code
        # 1008 is the code of a cut. Anything else is a replica that ended or drained.
        self.note("cut" if code == 1008 else "closed", replica)
        if self.sockets.get(replica.number) is socket:
            del self.sockets[replica.number]

    async def say(self, frames=0.7):
        """A frame on each WebSocket, in this share of cases; its echo tells when it was sent. Else a pong, which nothing answers."""
        for number, socket in list(self.sockets.items()):
            try:
                if self.dice.random() < frames:
                    await asyncio.wait_for(socket.write_message(repr(time.monotonic())), PATIENCE)
                elif socket.protocol is not None:
                    await socket.protocol._write_frame(True, 0xA, b"")
                    self.note("pong", self.fleet[number])
                    continue
                self.note("maybe", self.fleet[number])
            except (OSError, asyncio.TimeoutError, tornado.websocket.WebSocketClosedError, tornado.iostream.StreamClosedError):
                pass

    async def work(self, seconds):
        """Requests, frames and pongs, now here and now there. Ends early where the token is refused."""
        until = time.monotonic() + seconds
        if self.dice.random() < 0.6:
            await self.open(self.dice.choice(self.fleet))
        while time.monotonic() < until:
            if not self.sockets and self.dice.random() < 0.15:
                await self.open(self.dice.choice(self.fleet))
            elif self.sockets and self.dice.random() < 0.6:
                await self.say()
            elif await self.request(self.dice.choice(self.fleet)) == 401:
                return
            await asyncio.sleep(self.dice.uniform(0.1, 1.2))

    async def listen(self, seconds):
        """Keeps a WebSocket open by pongs alone, as a page does that only shows something."""
        await self.open(self.dice.choice(self.fleet))
        until = time.monotonic() + seconds
        while self.sockets and time.monotonic() < until:
            await self.say(frames=0)
            await asyncio.sleep(self.dice.uniform(0.5, TIMEOUT / 2))

    async def live(self, until_calm):
        """Works, leaves, and comes back when the session must be over."""
        how = self.listen if self.dice.random() < 0.3 else self.work
        await how(self.dice.choice([0.2, 4, 12, 25]))
        last = time.monotonic()
        await until_calm(last)
        refused = 0
        for replica in self.dice.sample(self.fleet, len(self.fleet)):
            refused += await self.request(replica) == 401
        return refused

    def close(self):
        for socket in list(self.sockets.values()):
            socket.close()
