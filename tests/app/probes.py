"""Endpoints the legacy app does not have: they make it stream, dawdle and count, and tell what it saw."""
import asyncio
import hashlib

import tornado.web

from handlers import INVALID_SESSION, Handler


class Probe(Handler):
    """Open to everybody, but a header `session-id`, if there is one, has to be valid."""

    def prepare(self):
        super().prepare()
        token = self.request.headers.get("session-id")
        if token is not None and self.sessions.find(token) is None:
            self.answer(401, INVALID_SESSION)

    async def send(self, event):
        """Sends one server-sent event. False once the client has gone."""
        try:
            self.write(f"data: {event}\n\n")
            await self.flush()
        except tornado.iostream.StreamClosedError:
            return False
        return True

    def start_events(self):
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-store")


class Stream(Probe):
    async def get(self):
        count = int(self.get_query_argument("count", "10"))
        interval = float(self.get_query_argument("interval", "0.1"))
        self.start_events()
        for number in range(1, count + 1):
            if number > 1:
                await asyncio.sleep(interval)
            if not await self.send(number):
                return


class Silent(Probe):
    """One event, then nothing until the client goes."""

    async def get(self):
        self.gone = asyncio.Event()
        self.start_events()
        if await self.send("silence"):
            await self.gone.wait()

    def on_connection_close(self):
        super().on_connection_close()
        self.gone.set()


class Slow(Probe):
    """The answer begins late."""

    async def get(self):
        await asyncio.sleep(float(self.get_query_argument("seconds", "1")))
        self.finish({"slow": True})


@tornado.web.stream_request_body
class CountBytes(Probe):
    def prepare(self):
        self.request.connection.set_max_body_size(1 << 40)
        self.count, self.digest = 0, hashlib.sha256()
        super().prepare()

    def data_received(self, chunk):
        self.count += len(chunk)
        self.digest.update(chunk)

    def post(self):
        self.finish({"bytes": self.count, "sha256": self.digest.hexdigest()})


class SeenSoFar(tornado.web.RequestHandler):
    """All events so far, without this request itself."""

    def initialize(self, seen, **_shared):
        self.seen = seen

    def get(self):
        self.finish({"seen": self.seen.events})


def routes(shared):
    return [
        ("/test/stream", Stream, shared),
        ("/test/silent", Silent, shared),
        ("/test/slow", Slow, shared),
        ("/test/count-bytes", CountBytes, shared),
        ("/test/seen", SeenSoFar, shared),
    ]
