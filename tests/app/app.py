"""The stand-in for the legacy app: a real Tornado server that behaves as the real one was measured to.

    python app.py --port 0            prints `ready <port>` once it listens
    python app.py --unix /run/a.sock  prints `ready <path>`

    sessions.py  users, sessions, naive local time     handlers.py  the HTTP side
    sockets.py   /ws and /ws-legacy                    probes.py    /test/*: streams, slow answers, counting
    seen.py      what the app saw: --log and /test/seen
"""
import argparse
import asyncio
import signal
import time

import tornado.httpserver
import tornado.netutil
import tornado.web
from tornado.ioloop import PeriodicCallback

import handlers
import probes
import sockets
from seen import Seen
from sessions import Sessions

MAX_MESSAGE = 10 * 1024 * 1024
MULTIPART_OVERHEAD = 64 * 1024


def arguments():
    parser = argparse.ArgumentParser(description="stand-in for the legacy app")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--port", type=int, default=0, help="TCP port; 0 lets the system choose")
    where.add_argument("--unix", metavar="PATH", help="listen on a Unix socket instead")
    parser.add_argument("--ping", type=float, default=45.0, metavar="SECONDS", help="between protocol pings")
    parser.add_argument("--address", default="127.0.0.1", help="where the port is; 0.0.0.0 for every network")
    parser.add_argument(
        "--pong-deadline", type=float, default=900.0, metavar="SECONDS", help="a socket without {'cmd':'pong'} lives"
    )
    parser.add_argument("--log", metavar="FILE", help="append what the app saw, as JSON lines")
    parser.add_argument("--slow", action="store_true", help="logins block 0.33 s; stalls of 1.5 s once a minute")
    return parser.parse_args()


def application(options):
    shared = {"sessions": Sessions(slow=options.slow), "seen": Seen(options.log)}
    for_sockets = {**shared, "holders": {}, "ping": options.ping, "pong_deadline": options.pong_deadline}
    return tornado.web.Application(
        [
            *handlers.routes(shared),
            *probes.routes(shared),
            *sockets.routes(for_sockets),
            ("/(.*)", handlers.Index, shared),
        ],
        websocket_max_message_size=MAX_MESSAGE,
        log_function=lambda _handler: None,
    )


async def serve(options):
    limit = handlers.MAX_UPLOAD + MULTIPART_OVERHEAD
    server = tornado.httpserver.HTTPServer(application(options), max_body_size=limit, max_buffer_size=2 * limit)
    if options.unix:
        listening = [tornado.netutil.bind_unix_socket(options.unix)]
        address = options.unix
    else:
        listening = tornado.netutil.bind_sockets(options.port, options.address)
        address = listening[0].getsockname()[1]
    server.add_sockets(listening)

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if options.slow:
        PeriodicCallback(lambda: time.sleep(1.5), 60_000).start()
    print(f"ready {address}", flush=True)
    await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(arguments()))
