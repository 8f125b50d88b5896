"""Tornado."""
import asyncio

import reading
import tornado.escape
import tornado.httpserver
import tornado.netutil
import tornado.web


class Handler(tornado.web.RequestHandler):
    def handle(self, kind):
        if kind == "issue":
            return self.write({"issued": self.get_argument("t")})
        if kind in reading.COOKIES:
            name, is_dead = reading.COOKIES[kind]
            dead = is_dead(self.get_cookie(name))
        elif kind == "bearer":
            dead = reading.bearer(self.request.headers.get("Authorization"))
        elif kind == "header":
            dead = reading.opaque(self.request.headers.get("S-Id"))
        elif kind == "query":
            dead = reading.opaque(self.get_argument("s_id", None))
        else:
            dead = reading.field(tornado.escape.json_decode(self.request.body))
        self.set_header("X-Reads", "dead" if dead else "other")
        return self.write({})

    get = post = handle


async def main():
    app = tornado.web.Application([(r"/(\w+)", Handler)], log_function=lambda handler: None)
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    tornado.httpserver.HTTPServer(app).add_sockets(sockets)
    print("http://127.0.0.1:%d" % sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
