"""The processes under test: the app, Redis with its stand-in, and replicas of idlegate, each with a relay to Redis."""
import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request

import tornado.httpserver
import tornado.netutil
import tornado.web
import tornado.websocket

from relay import Relay

TIMEOUT, GRACE = 6, 5

CONFIG = """
listen = "127.0.0.1:{port}"
upstream = "http://127.0.0.1:{app}"
audit = "{folder}/audit.log"
log = "info"
grace_period = "1s"
[idle]
timeout = "{timeout}s"
retention = "1h"
[activity]
profile = "person"
client_pongs = true
[store]
url = "redis://127.0.0.1:{redis}"
replica_grace = "{grace}s"
[admin]
listen = "127.0.0.1:{admin}"
[[token]]
from = "cookie"
name = "sid"
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Echo(tornado.websocket.WebSocketHandler):
    async def on_message(self, message):
        try:
            await self.write_message(message)
        except tornado.websocket.WebSocketClosedError:
            pass


class Page(tornado.web.RequestHandler):
    def get(self):
        self.write("ok")


def start_app():
    """Accepts every token. Returns its port."""
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    app = tornado.web.Application([("/ws", Echo), ("/.*", Page)])
    tornado.httpserver.HTTPServer(app).add_sockets(sockets)
    return sockets[0].getsockname()[1]


class Redis:
    def __init__(self, folder):
        self.folder, self.port, self.process = folder, free_port(), None
        folder.mkdir()

    async def start(self, *more):
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", *more]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            if await self.ask("PING"):
                return
            await asyncio.sleep(0.05)
        raise RuntimeError("redis-server did not start")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def forget(self):
        """Removes its files."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    async def ask(self, *words):
        """The reply as text; empty where there is none in time."""
        command = ["redis-cli", "-p", str(self.port), *words]
        asking = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            output, _ = await asyncio.wait_for(asking.communicate(), 3)
        except asyncio.TimeoutError:
            asking.kill()
            await asking.wait()
            return ""
        return output.decode() if asking.returncode == 0 else ""


class Replica:
    def __init__(self, binary, folder, app, redis, number, timeout=TIMEOUT):
        self.binary, self.folder, self.app, self.number = binary, folder, app, number
        self.relay, self.port, self.admin, self.process = Relay(("127.0.0.1", redis.port)), free_port(), free_port(), None
        self.timeout = timeout
        folder.mkdir()

    async def start(self):
        if not hasattr(self.relay, "port"):
            await self.relay.start()
        text = CONFIG.format(
            port=self.port, app=self.app, folder=self.folder, timeout=self.timeout, grace=GRACE, redis=self.relay.port, admin=self.admin
        )
        (self.folder / "proxy.toml").write_text(text)
        with open(self.folder / "log", "ab") as log:
            command = [self.binary, "--config", str(self.folder / "proxy.toml")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError(f"replica {self.number} ended: {(self.folder / 'log').read_text()[-2000:]}")
                await asyncio.sleep(0.05)
        raise RuntimeError("a replica did not start")

    def signal(self, which):
        if self.process.poll() is None:
            os.kill(self.process.pid, which)

    async def end(self, which):
        self.signal(which)
        await asyncio.get_running_loop().run_in_executor(None, self.process.wait)

    async def switch(self, mode, fleet):
        """Sets the mode; `False` where that is refused."""
        body = json.dumps({"mode": mode, "fleet": fleet, "yes": True}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}/mode", body, {"Content-Type": "application/json"}, method="PUT")

        def send():
            try:
                with urllib.request.urlopen(request, timeout=4):
                    return True
            except OSError:
                return False

        return await asyncio.get_running_loop().run_in_executor(None, send)

    def records(self):
        """What it recorded, over all of its starts."""
        path = self.folder / "audit.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def log_about(self, session):
        text = (self.folder / "log").read_text(errors="replace")
        return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in text.splitlines() if session in line or " WARN " in line]
