"""aiohttp."""
import reading
from aiohttp import web


async def handle(request):
    kind = request.match_info["kind"]
    if kind == "issue":
        return web.json_response({"issued": request.query["t"]})
    if kind in reading.COOKIES:
        name, is_dead = reading.COOKIES[kind]
        dead = is_dead(request.cookies.get(name))
    elif kind == "bearer":
        dead = reading.bearer(request.headers.get("Authorization"))
    elif kind == "header":
        dead = reading.opaque(request.headers.get("S-Id"))
    elif kind == "query":
        dead = reading.opaque(request.query.get("s_id"))
    else:
        dead = reading.field(await request.json())
    return web.json_response({}, headers={"X-Reads": "dead" if dead else "other"})


async def start():
    app = web.Application()
    app.router.add_route("*", "/{kind}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print("http://127.0.0.1:%d" % site._server.sockets[0].getsockname()[1], flush=True)


if __name__ == "__main__":
    import asyncio

    loop = asyncio.new_event_loop()
    loop.run_until_complete(start())
    loop.run_forever()
