"""Clients as browsers are, who go on through a restart of what they talk to, and count what they lost."""
import asyncio
import json

from tornado.websocket import websocket_connect

PATIENCE = 20


class Users:
    """Keep-alive connections with one request after the other, and WebSockets that come back when they were closed."""

    def __init__(self, port, token_of, requesters=8, sockets=20):
        self.port = port
        self.token_of = token_of
        self.requesters = requesters
        self.sockets = sockets
        self.answered = self.retried = self.reopened = 0
        self.lost = []
        self.codes = []
        self.longest = 0.0
        self.stopped = asyncio.Event()

    async def __aenter__(self):
        self.open = 0
        self.tasks = [asyncio.create_task(self.ask_on()) for _ in range(self.requesters)]
        self.tasks += [asyncio.create_task(self.stay()) for _ in range(self.sockets)]
        await self.until(lambda: self.open == self.sockets and self.answered > 50)
        return self

    async def __aexit__(self, *_):
        self.stopped.set()
        await asyncio.wait_for(asyncio.gather(*self.tasks), PATIENCE)

    async def until(self, condition):
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, vars(self)
            for task in self.tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)

    async def go_on(self):
        """Until all is as before: more answers, and every WebSocket open."""
        enough = self.answered + 50
        await self.until(lambda: self.open == self.sockets and self.answered > enough)

    async def ask_on(self):
        loop = asyncio.get_running_loop()
        connection = None
        while not self.stopped.is_set():
            reused = connection is not None
            begun = loop.time()
            try:
                if not reused:
                    connection = await asyncio.open_connection("127.0.0.1", self.port)
                connection[1].write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
                head = await connection[0].readuntil(b"\r\n\r\n")
            except (OSError, asyncio.IncompleteReadError) as error:
                if connection:
                    connection[1].close()
                connection = None
                # As browsers do it: unanswered on a connection that had served before, it is sent again on a new one.
                if reused and not getattr(error, "partial", b""):
                    self.retried += 1
                else:
                    self.lost.append(repr(error))
                continue
            head = head.decode().lower()
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            try:
                await connection[0].readexactly(length)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.lost.append(f"in the body: {error!r}")
            if not head.startswith("http/1.1 200 "):
                self.lost.append(head)
            self.answered += 1
            self.longest = max(self.longest, loop.time() - begun)
            if "connection: close" in head:
                connection[1].close()
                connection = None
            await asyncio.sleep(0.005)
        if connection:
            connection[1].close()

    async def stay(self):
        token = await self.token_of()
        while not self.stopped.is_set():
            try:
                socket = await websocket_connect(f"ws://127.0.0.1:{self.port}/ws", connect_timeout=PATIENCE)
            except Exception as error:  # any is one too many
                self.lost.append(f"WebSocket: {error!r}")
                continue
            await socket.write_message(json.dumps({"cmd": "authenticate", "session_id": token}))
            self.open += 1
            reading = asyncio.create_task(self.read_to_end(socket))
            stopped = asyncio.create_task(self.stopped.wait())
            await asyncio.wait({reading, stopped}, return_when=asyncio.FIRST_COMPLETED)
            self.open -= 1
            stopped.cancel()
            if not self.stopped.is_set():
                self.codes.append(socket.close_code)
                self.reopened += 1
            socket.close()
            await asyncio.wait_for(reading, PATIENCE)

    @staticmethod
    async def read_to_end(socket):
        while await socket.read_message() is not None:
            pass
