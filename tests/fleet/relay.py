"""A relay between a replica and Redis: it can delay, stall, swallow and reset."""
import asyncio


class Relay:
    """Listens on a port of its own, and leads to `target`, a pair of host and port that may change."""

    def __init__(self, target):
        self.target = target
        self.delay = 0.0
        # While it is set, bytes wait. A hole swallows them instead, until its connections are reset.
        self.stalled = False
        self.hole = False
        self._writers = set()

    async def start(self):
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def reset(self):
        """Breaks every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    def lead_to(self, target):
        self.target = target
        self.reset()

    def repair(self):
        was_hole, self.stalled, self.hole, self.delay = self.hole, False, False, 0.0
        if was_hole:
            self.reset()

    async def _relay(self, reader, writer):
        try:
            there, back = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except asyncio.CancelledError:
            # The test is over.
            pass
        self._writers -= {writer, back}

    async def _pump(self, reader, writer):
        try:
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                while self.stalled:
                    await asyncio.sleep(0.02)
                if self.hole:
                    continue
                writer.write(data)
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
