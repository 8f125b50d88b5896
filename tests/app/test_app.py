"""Shows that the stand-in behaves as the legacy app was measured to. Run directly: `python test_app.py`."""
import asyncio
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

APP = pathlib.Path(__file__).with_name("app.py")
PATIENCE = 10


def start(*options):
    """The process and the address it printed."""
    process = subprocess.Popen([sys.executable, str(APP), *options], stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert line.startswith("ready "), f"no ready line: {line!r}"
    return process, line.split(maxsplit=1)[1].strip()


def stop(process):
    process.terminate()
    process.wait(PATIENCE)
    process.stdout.close()


class AppTest(unittest.IsolatedAsyncioTestCase):
    options = ()

    def setUp(self):
        process, self.port = start("--port", "0", *self.options)
        self.addCleanup(stop, process)

    async def asyncSetUp(self):
        # unittest debugs its loop, which would remark on every message of 10 MiB.
        asyncio.get_running_loop().slow_callback_duration = PATIENCE

    async def call(self, method, path, body=None, **headers):
        """Status, headers and body of an answer, whatever the status."""
        url = f"http://127.0.0.1:{self.port}{path}"
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        body = json.dumps(body) if isinstance(body, dict) else body
        request = HTTPRequest(url, method, headers, body, allow_nonstandard_methods=True)
        try:
            response = await AsyncHTTPClient().fetch(request)
        except HTTPClientError as error:
            response = error.response
        return response.code, response.headers, response.body

    async def post(self, path, **body):
        status, _, answer = await self.call("POST", path, body)
        return status, json.loads(answer)

    async def login(self, username="ada", password="lovelace"):
        status, body = await self.post("/api/login", username=username, password=password)
        self.assertEqual(status, 200)
        return body["session_id"]

    async def open(self, path="/ws"):
        socket = await websocket_connect(f"ws://127.0.0.1:{self.port}{path}", max_message_size=1 << 25)
        self.addCleanup(socket.close)
        if path == "/ws":
            self.assertEqual((await self.read(socket))["type"], "auth_required")
        return socket

    async def read(self, socket):
        message = await asyncio.wait_for(socket.read_message(), PATIENCE)
        return None if message is None else json.loads(message)

    async def say(self, socket, **body):
        await socket.write_message(json.dumps(body))
        return await self.read(socket)

    async def seen(self, what=None):
        _, _, body = await self.call("GET", "/test/seen")
        return [event for event in json.loads(body)["seen"] if what in (None, event["seen"])]


class Http(AppTest):
    async def test_the_token_travels_in_json_bodies(self):
        token = await self.login()
        self.assertEqual(len(token), 43)
        for path in ("/api/validate-session", "/api/renew-session"):
            self.assertEqual((await self.post(path, session_id=token))[0], 200)
            status = {"/api/validate-session": 401, "/api/renew-session": 400}[path]
            self.assertEqual((await self.post(path, session_id="junk"))[0], status)
        passwords = {"old_password": "lovelace", "new_password": "countess"}
        self.assertEqual((await self.post("/api/change-password", session_id=token, **passwords))[0], 200)
        self.assertEqual((await self.post("/api/login", username="ada", password="lovelace"))[0], 401)
        self.assertEqual((await self.post("/api/logout", session_id=token))[0], 200)
        self.assertEqual((await self.post("/api/validate-session", session_id=token))[0], 401)

    async def test_the_token_travels_in_the_header_session_id(self):
        token = await self.login()
        field = '--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        file = '--x\r\nContent-Disposition: form-data; name="file"; filename="a.py"\r\n\r\nprint(1)\r\n--x--\r\n'
        form = (field % ("projectName", "p") + field % ("filename", "a.py") + file).encode()
        kind = {"Content_Type": "multipart/form-data; boundary=x"}
        for path in ("/api/upload-file", "/api/bulk-upload"):
            status, _, body = await self.call("POST", path, form, session_id=token, **kind)
            self.assertEqual((status, json.loads(body)["files"]), (200, [{"filename": "a.py", "bytes": 8}]))
            self.assertEqual((await self.call("POST", path, form, **kind))[0], 401)
        self.assertEqual((await self.call("GET", "/api/get-all-students", session_id=token))[0], 200)
        self.assertEqual((await self.call("GET", "/api/get-all-students", session_id="junk"))[0], 401)

    async def test_the_admin_panel_has_a_token_of_its_own(self):
        status, body = await self.post("/api/admin/auth/login", username="admin", password="secret")
        self.assertEqual(status, 200)
        bearer = f"Bearer {body['token']}"
        self.assertEqual((await self.call("GET", "/api/admin/users", Authorization=bearer))[0], 200)
        self.assertEqual((await self.call("GET", "/api/admin/users"))[0], 401)
        self.assertEqual((await self.call("POST", "/api/admin/auth/logout", "{}", Authorization=bearer))[0], 200)
        self.assertEqual((await self.call("GET", "/api/admin/users", Authorization=bearer))[0], 401)
        self.assertEqual((await self.post("/api/admin/auth/login", username="ada", password="lovelace"))[0], 401)

    async def test_some_doors_stand_open(self):
        for path in ("/api/setup", "/api/reset-database", "/api/admin/migrate", "/api/admin/password"):
            self.assertEqual((await self.call("POST", path, "{}"))[0], 200)
        socket = await self.open("/ws-legacy")
        await socket.write_message("hello")
        self.assertEqual(await socket.read_message(), "hello")

    async def test_oddities(self):
        status, headers, body = await self.call("GET", "/no/such/page")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/html; charset=UTF-8"))
        self.assertNotIn("Access-Control-Allow-Origin", headers)
        _, headers, _ = await self.call("POST", "/api/login", '{"username": "ada", "password": "lovelace"}')
        self.assertEqual(headers["Content-Type"], "text/html; charset=UTF-8")
        self.assertEqual(headers["Access-Control-Allow-Origin"], "*")
        self.assertIn(b"<!doctype html>", body)
        for path in ("/", "/health", "/api/login"):
            self.assertEqual((await self.call("HEAD", path))[0], 405)
        self.assertEqual((await self.call("GET", "/health"))[0], 200)
        self.assertEqual((await self.call("POST", "/api/login", "{"))[0], 400)

    async def test_bodies_chunked_and_expected(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = "POST /test/count-bytes HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        self.assertIn(b" 100 ", await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE))
        writer.write(b"5\r\nhello\r\n0\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        body = json.loads(await asyncio.wait_for(reader.readuntil(b"}"), PATIENCE))
        self.assertEqual(body, {"bytes": 5, "sha256": hashlib.sha256(b"hello").hexdigest()})
        writer.close()

    async def test_probes(self):
        status, _, body = await self.call("GET", "/test/stream?count=3&interval=0.01")
        self.assertEqual((status, body), (200, b"data: 1\n\ndata: 2\n\ndata: 3\n\n"))
        self.assertEqual((await self.call("GET", "/test/slow?seconds=0.05", session_id=await self.login()))[0], 200)
        self.assertEqual((await self.call("GET", "/test/slow?seconds=0.05", session_id="junk"))[0], 401)
        self.assertEqual((await self.call("POST", "/test/count-bytes", b"x" * (11 << 20)))[0], 200)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /test/silent HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"silence"), PATIENCE)
        writer.close()
        while not await self.seen("gone"):
            await asyncio.sleep(0.01)


class WebSocket(AppTest):
    options = ("--ping", "0.1", "--pong-deadline", "1.5")

    async def test_authenticate(self):
        socket = await self.open()
        self.assertEqual((await self.say(socket, cmd="echo", data=1))["type"], "error")
        refusal = {"type": "error", "message": "Invalid or expired session"}
        self.assertEqual(await self.say(socket, cmd="authenticate", session_id="junk"), refusal)
        token = await self.login()
        success = {"type": "auth_success", "username": "ada", "role": "student", "full_name": "Ada Lovelace", "is_exam_mode": False}
        self.assertEqual(await self.say(socket, cmd="authenticate", session_id=token), success)
        self.assertEqual(await self.say(socket, cmd="echo", data=[1, None]), {"type": "echo", "data": [1, None]})
        self.assertEqual((await self.say(socket, cmd="run"))["type"], "output")
        await self.post("/api/logout", session_id=token)
        self.assertEqual((await self.say(socket, cmd="echo", data=2))["data"], 2)

    async def test_a_login_on_the_socket_issues_a_token(self):
        socket = await self.open()
        answer = await self.say(socket, cmd="authenticate", username="bob", password="builder")
        self.assertEqual(answer["type"], "auth_success")
        self.assertEqual((await self.post("/api/validate-session", session_id=answer["session_id"]))[0], 200)

    async def test_a_second_socket_kicks_the_first(self):
        token = await self.login()
        first, second = await self.open(), await self.open()
        await self.say(first, cmd="authenticate", session_id=token)
        await self.say(second, cmd="authenticate", session_id=token)
        self.assertEqual((await self.read(first))["reason"], "logged_in_elsewhere")
        self.assertIsNone(await self.read(first))
        self.assertEqual(first.close_code, 4001)
        self.assertEqual((await self.say(second, cmd="echo", data=1))["type"], "echo")

    async def test_messages_of_every_kind(self):
        socket = await self.open()
        await self.say(socket, cmd="authenticate", session_id=await self.login())
        for ignored in ("not json", b"\xff\x00", "[1]"):
            await socket.write_message(ignored, binary=isinstance(ignored, bytes))
        big = "x" * (10 * 1024 * 1024 - 100)
        self.assertEqual((await self.say(socket, cmd="echo", data=big))["data"], big)
        # One byte more is refused by its header alone.
        socket.protocol.stream.write(b"\x81\xff" + (10 * 1024 * 1024 + 1).to_bytes(8, "big"))
        self.assertIsNone(await self.read(socket))
        self.assertEqual(socket.close_code, 1009)

    async def test_only_an_application_pong_keeps_the_socket(self):
        silent, polite = await self.open(), await self.open()
        for _ in range(4):
            await asyncio.sleep(0.5)
            await polite.write_message('{"cmd":"pong"}')
        self.assertIsNone(await self.read(silent))
        self.assertIsNone(silent.close_code)
        self.assertEqual((await self.say(polite, cmd="nonsense"))["type"], "error")
        pongs = await self.seen("ws-pong")
        self.assertEqual({pong["payload"] for pong in pongs}, {"keepalive"})
        self.assertEqual({pong["socket"] for pong in pongs}, {1, 2})

    async def test_handshake_and_greeting(self):
        """No extension is accepted, and every other greeting comes in one segment with the 101."""
        together = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(
                b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
            )
            first = await asyncio.wait_for(reader.read(65536), PATIENCE)
            self.assertIn(b" 101 ", first)
            self.assertNotIn(b"permessage-deflate", first)
            together.append(b"auth_required" in first)
            writer.close()
        self.assertTrue(together[0])


class Log(unittest.IsolatedAsyncioTestCase):
    async def test_a_unix_socket_and_the_log_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path, log = os.path.join(folder, "app.sock"), os.path.join(folder, "log")
            process, address = await asyncio.to_thread(start, "--unix", path, "--log", log)
            self.addCleanup(stop, process)
            self.assertEqual(address, path)
            reader, writer = await asyncio.open_unix_connection(path)
            body = b'{"session_id":"junk"}'
            writer.write(
                b"POST /api/validate-session HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\n"
                b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()
            # Tornado calls `on_finish` once the answer has been sent.
            deadline = asyncio.get_running_loop().time() + PATIENCE
            while len(lines := pathlib.Path(log).read_text(encoding="utf-8").splitlines(keepends=True)) < 2 or not lines[1].endswith("\n"):
                self.assertLess(asyncio.get_running_loop().time(), deadline, lines)
                await asyncio.sleep(0.01)
            request, answer = (json.loads(line) for line in lines)
            self.assertEqual(request["session"], hashlib.sha256(b"junk").hexdigest()[:32])
            self.assertEqual((request["audit_ip"], request["headers"]["host"]), ("1.2.3.4", "h"))
            self.assertEqual((answer["seen"], answer["status"]), ("answer", 401))
            self.assertNotIn("junk", "".join(lines))


if __name__ == "__main__":
    unittest.main()
