"""The legacy app's HTTP side: token in the JSON body, in the header `session-id`, or as the admin panel's Bearer."""
import itertools
import json
import time

import tornado.web

from seen import headers_of, session_id_of

MAX_UPLOAD = 10 * 1024 * 1024
INVALID_SESSION = {"success": False, "error": "Invalid or expired session"}
PAGE = "<!doctype html><title>Classroom IDE</title><div id=app>Classroom IDE (stand-in)</div>\n"

_numbers = itertools.count(1)


class Handler(tornado.web.RequestHandler):
    """Notes every request and its answer; CORS for everybody; no HEAD (Tornado answers 405 by itself)."""

    def initialize(self, sessions, seen):
        self.sessions = sessions
        self.seen = seen
        self.number = next(_numbers)

    def set_default_headers(self):
        self.set_header("Access-Control-Allow-Origin", "*")
        self.set_header("Access-Control-Allow-Headers", "Content-Type, Authorization, session-id")
        self.set_header("Access-Control-Allow-Methods", "GET, POST, OPTIONS")

    def prepare(self):
        forwarded_for = self.request.headers.get("X-Forwarded-For", "")
        self.seen.add(
            "request",
            request=self.number,
            method=self.request.method,
            path=self.request.path,
            query=self.request.query,
            headers=headers_of(self.request),
            session=session_id_of(self.token()),
            audit_ip=forwarded_for.split(",")[0].strip() or self.request.remote_ip,
        )

    def on_finish(self):
        self.seen.add("answer", request=self.number, path=self.request.path, status=self.get_status())

    def on_connection_close(self):
        self.seen.add("gone", request=self.number, path=self.request.path)

    def options(self, *_path):
        self.set_status(204)

    def json_body(self):
        """The body as Python's own parser reads it: NaN, duplicate keys and UTF-16 are welcome. None if it is no object."""
        try:
            body = json.loads(self.request.body)
        except (ValueError, RecursionError):
            return None
        return body if isinstance(body, dict) else None

    def token(self):
        """The token of this request, wherever the app would look for it."""
        bearer = self.request.headers.get("Authorization", "")
        if bearer.startswith("Bearer "):
            return bearer[len("Bearer "):]
        if "session-id" in self.request.headers:
            return self.request.headers["session-id"]
        return (self.json_body() or {}).get("session_id") if self.request.body else None

    def answer(self, status, body):
        self.set_status(status)
        self.finish(body)

    def write_error(self, status_code, **_kwargs):
        self.finish({"success": False, "error": self._reason})


class Login(Handler):
    def post(self):
        body = self.json_body()
        if body is None:
            return self.answer(400, {"success": False, "error": "Invalid JSON"})
        session = self.sessions.login(body.get("username"), body.get("password"))
        if session is None:
            return self.answer(401, {"success": False, "error": "Invalid username or password"})
        return self.finish({"success": True, "session_id": session.token, **session.about()})


class SessionInBody(Handler):
    """Endpoints with `session_id` in the JSON body."""

    def post(self):
        body = self.json_body()
        if body is None:
            return self.answer(400, {"success": False, "error": "Invalid JSON"})
        session = self.sessions.find(body.get("session_id"))
        if session is None:
            return self.answer(401, INVALID_SESSION)
        return self.act(session, body)


class Validate(SessionInBody):
    def act(self, session, _body):
        self.finish({"success": True, "valid": True, **session.about()})


class Renew(SessionInBody):
    def act(self, session, _body):
        session.renew()
        self.finish({"success": True, **session.about()})


class Logout(SessionInBody):
    def act(self, session, _body):
        self.sessions.logout(session.token)
        self.finish({"success": True})


class ChangePassword(SessionInBody):
    def act(self, session, body):
        if not self.sessions.change_password(session, body.get("old_password"), body.get("new_password")):
            return self.answer(400, {"success": False, "error": "Wrong password"})
        return self.finish({"success": True})


class SessionInHeader(Handler):
    """Endpoints with the header `session-id`."""

    def session(self):
        session = self.sessions.find(self.request.headers.get("session-id"))
        if session is None:
            self.answer(401, INVALID_SESSION)
        return session


class Upload(SessionInHeader):
    def post(self):
        if self.session() is None:
            return None
        files = [file for files in self.request.files.values() for file in files]
        if not files:
            return self.answer(400, {"success": False, "error": "No file"})
        if any(len(file.body) > MAX_UPLOAD for file in files):
            return self.answer(413, {"success": False, "error": "File too large"})
        sizes = [{"filename": file.filename, "bytes": len(file.body)} for file in files]
        return self.finish({"success": True, "files": sizes})


class Students(SessionInHeader):
    def get(self):
        if self.session() is not None:
            names = [name for name, (_, role) in self.sessions.users.items() if role == "student"]
            self.finish({"success": True, "students": names})


class AdminLogin(Handler):
    def post(self):
        body = self.json_body()
        if body is None:
            return self.answer(400, {"success": False, "error": "Invalid JSON"})
        token = self.sessions.admin_login(body.get("username"), body.get("password"))
        if token is None:
            return self.answer(401, {"success": False, "error": "Invalid username or password"})
        return self.finish({"success": True, "token": token})


class Admin(Handler):
    """Everything else under /api/admin/."""

    def get(self, _path):
        if not self.sessions.admin(self.token()):
            return self.answer(401, {"success": False, "error": "Unauthorized"})
        return self.finish({"success": True, "users": list(self.sessions.users)})

    post = get


class OpenDoor(Handler):
    """Dangerous, and reachable without any login: the proxy has to refuse it."""

    def get(self):
        self.finish({"success": True, "message": "the app did what nobody should be able to ask for"})

    post = get


class Health(Handler):
    def get(self):
        time.sleep(0.1)  # it blocks its event loop, as the real one does
        self.finish({"status": "healthy"})


class Index(Handler):
    def get(self, _path):
        self.finish(PAGE)


def routes(shared):
    doors = ("/api/setup", "/api/reset-database", "/api/admin/migrate", "/api/admin/password")
    return [
        *((door, OpenDoor, shared) for door in doors),
        ("/api/login", Login, shared),
        ("/api/validate-session", Validate, shared),
        ("/api/renew-session", Renew, shared),
        ("/api/logout", Logout, shared),
        ("/api/change-password", ChangePassword, shared),
        ("/api/upload-file", Upload, shared),
        ("/api/bulk-upload", Upload, shared),
        ("/api/get-all-students", Students, shared),
        ("/api/admin/auth/login", AdminLogin, shared),
        ("/api/admin/(.*)", Admin, shared),
        ("/health", Health, shared),
    ]
