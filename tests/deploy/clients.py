"""Browsers of the app: some that ask for pages on connections they keep, and some with a WebSocket."""
import asyncio
import hashlib
import http.client
import json
import threading
import time

from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import WebSocketClosedError, websocket_connect

import network

PORT = 10086
LOGIN = json.dumps({"username": "ada", "password": "lovelace"})


class Browsing:
    """Clients that ask for a page again and again. As browsers do, they keep their connection for a while, and ask again where
    it ends without an answer, or where none is to be had. A request that is not answered 200 in the end is lost."""

    TRIES = 5
    # Then a new connection: else all of them would be with the new Pod for good, as soon as they have come to it once.
    PAGES_ON_A_CONNECTION = 10

    def __init__(self, address, clients):
        self.address = address
        self.lost = []
        self.counts = [0] * clients
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self._client, args=(number,)) for number in range(clients)]
        for thread in self.threads:
            thread.start()

    def _client(self, number):
        kept = None
        while not self.stopped.is_set():
            kept, outcome = self._page(kept)
            if outcome == 200:
                self.counts[number] += 1
            else:
                self.lost.append(outcome)
            if kept is not None and self.counts[number] % self.PAGES_ON_A_CONNECTION == 0:
                kept.close()
                kept = None
            self.stopped.wait(0.02)
        if kept is not None:
            kept.close()

    def _page(self, connection):
        outcome = None
        for _ in range(self.TRIES):
            if connection is None:
                source = (network.CLIENT, 0)
                connection = http.client.HTTPConnection(self.address(), PORT, timeout=10, source_address=source)
            try:
                connection.request("GET", "/index.html")
                answer = connection.getresponse()
            except OSError as error:
                # http.client's RemoteDisconnected is one: the connection ended, and no byte of an answer had come.
                connection.close()
                outcome, connection = repr(error), None
                continue
            try:
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                return None, f"broken off: {error!r}"
            return (None if answer.will_close else connection), answer.status
        return None, outcome

    def answered(self):
        return sum(self.counts)

    def close(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


class Sockets:
    """Users with a session and a WebSocket each, who type now and then until it is closed."""

    def __init__(self, address, users):
        self.address = address
        self.ended = [None] * users
        self.users = [None] * users
        self.sockets, self.tasks = [], []
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        opened = [asyncio.run_coroutine_threadsafe(self._open(number), self.loop) for number in range(users)]
        for each in opened:
            each.result(timeout=60)

    async def _open(self, number):
        login = await AsyncHTTPClient().fetch(f"http://{self.address}:{PORT}/api/login", method="POST", body=LOGIN)
        token = json.loads(login.body)["session_id"]
        socket = await websocket_connect(f"ws://{self.address}:{PORT}/ws")
        await socket.write_message(json.dumps({"cmd": "authenticate", "session_id": token}))
        while json.loads(await socket.read_message())["type"] != "auth_success":
            pass
        self.users[number] = [hashlib.sha256(token.encode()).hexdigest()[:32], time.time()]
        self.sockets.append(socket)
        self.tasks += [self.loop.create_task(each(socket, number)) for each in (self._type, self._read)]

    async def _type(self, socket, number):
        try:
            while self.ended[number] is None:
                await socket.write_message(json.dumps({"cmd": "echo", "data": "x"}))
                await asyncio.sleep(0.3)
        except WebSocketClosedError:
            pass  # _read tells of it

    async def _read(self, socket, number):
        while await socket.read_message() is not None:
            self.users[number][1] = time.time()
        self.ended[number] = (socket.close_code, time.monotonic())

    def open(self):
        return sum(end is None for end in self.ended)

    def closes(self):
        """Close code and moment, of each."""
        return [end or (None, time.monotonic()) for end in self.ended]

    def sessions(self):
        """Session id, and when it was active last."""
        return [tuple(user) for user in self.users]

    async def _leave(self):
        for socket in self.sockets:
            socket.close()
        await asyncio.gather(*self.tasks)

    def close(self):
        asyncio.run_coroutine_threadsafe(self._leave(), self.loop).result(timeout=60)
        self.loop.call_soon_threadsafe(self.loop.stop)
