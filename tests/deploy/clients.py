"""Browsers of the app, with a WebSocket each."""
import asyncio
import hashlib
import json
import threading
import time

from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

PORT = 10086
LOGIN = json.dumps({"username": "ada", "password": "lovelace"})


class Sockets:
    """Users with a session and a WebSocket each, who type now and then until it is closed."""

    def __init__(self, address, users):
        self.address = address
        self.ended = [None] * users
        self.users = [None] * users
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
        self.loop.create_task(self._type(socket, number))
        self.loop.create_task(self._read(socket, number))

    async def _type(self, socket, number):
        while self.ended[number] is None:
            await socket.write_message(json.dumps({"cmd": "echo", "data": "x"}))
            await asyncio.sleep(0.3)

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

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
