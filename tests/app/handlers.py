"""The legacy app's HTTP side: token in the JSON body, in the header `session-id`, or as the admin panel's Bearer."""
import itertools
import json
import time

import tornado.web

from seen import headers_of, session_id_of

MAX_UPLOAD = 10 * 1024 * 1024
SERVER = "TornadoServer/6.1"
INVALID_SESSION = {"success": False, "error": "Invalid or expired session"}
LOGGED_OUT = {"success": True, "message": "Logged out successfully"}
# As long as the real one.
PAGE = "<!doctype html><title>Classroom IDE</title><div id=app>Classroom IDE (stand-in)</div>\n".ljust(1435)

_numbers = itertools.count(1)


class Handler(tornado.web.RequestHandler):
    """Notes every request and its answer; no HEAD (Tornado answers 405 by itself). The real app writes most of its JSON as text."""

    methods = "POST, OPTIONS"
    fields = "Content-Type"

    def initialize(self, sessions, seen):
        self.sessions = sessions
        self.seen = seen
        self.number = next(_numbers)

    def set_default_headers(self):
        self.set_header("Server", SERVER)
        self.allow_other_origins()

    def allow_other_origins(self):
        self.set_header("Access-Control-Allow-Origin", "*")
        self.set_header("Access-Control-Allow-Methods", self.methods)
        self.set_header("Access-Control-Allow-Headers", self.fields)

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
        """JSON, which Tornado calls text/html since it is written as text."""
        self.set_status(status)
        self.finish(json.dumps(body))

    def refuse(self, status, error):
        self.answer(status, {"success": False, "error": error})


class Plain(Handler):
    """For no other origins."""

    def allow_other_origins(self):
        pass


class Login(Handler):
    def post(self):
        body = self.json_body()
        if body is None:
            return self.refuse(400, "Invalid JSON")
        session = self.sessions.login(body.get("username"), body.get("password"))
        if session is None:
            return self.refuse(401, "Invalid username or password")
        return self.answer(200, {"success": True, "session_id": session.token, **session.about()})


class SessionInBody(Handler):
    """Endpoints with `session_id` in the JSON body."""

    refusal = (401, "Invalid or expired session")

    def post(self):
        body = self.json_body()
        if body is None:
            return self.refuse(400, "Invalid JSON")
        session = self.sessions.find(body.get("session_id"))
        if session is None:
            return self.refuse(*self.refusal)
        return self.act(session, body)


class Validate(SessionInBody):
    def act(self, session, _body):
        self.answer(200, {"success": True, **session.about()})


class Renew(SessionInBody):
    refusal = (400, "Invalid session")

    def act(self, session, _body):
        expires = session.renew().isoformat()
        self.answer(200, {"success": True, "expires_at": expires, "message": "Session renewed for 24 hours"})


class Logout(SessionInBody):
    def act(self, session, _body):
        self.sessions.logout(session.token)
        self.answer(200, LOGGED_OUT)


class ChangePassword(SessionInBody):
    def act(self, session, body):
        if not self.sessions.change_password(session, body.get("old_password"), body.get("new_password")):
            return self.refuse(400, "Invalid old password")
        return self.answer(200, {"success": True, "message": "Password changed successfully"})


class SessionInHeader(Handler):
    """Endpoints with the header `session-id`."""

    fields = "Content-Type, session-id"

    def session(self):
        token = self.request.headers.get("session-id")
        session = self.sessions.find(token)
        if session is None:
            self.refuse(401, "Invalid session" if token else "No session ID provided")
        return session


class Upload(SessionInHeader):
    missing = "Missing required parameters: projectName, filename"
    parameters = ("projectName", "filename")

    def post(self):
        if self.session() is None:
            return None
        if not all(self.get_body_argument(name, "") for name in self.parameters):
            return self.refuse(400, self.missing)
        files = [file for files in self.request.files.values() for file in files]
        if not files:
            return self.refuse(400, "No file uploaded")
        if any(len(file.body) > MAX_UPLOAD for file in files):
            return self.refuse(413, "File too large")
        sizes = [{"filename": file.filename, "bytes": len(file.body)} for file in files]
        return self.answer(200, {"success": True, "files": sizes})


class BulkUpload(Upload):
    missing = "Missing required parameter: filename"
    parameters = ("filename",)


class Students(SessionInHeader):
    methods = "GET, OPTIONS"

    def get(self):
        if self.session() is not None:
            self.answer(200, {"success": True, "students": self.sessions.students()})


class AdminHandler(Handler):
    """The panel's own module, which writes JSON as such."""

    def allow_other_origins(self):
        self.set_header("Access-Control-Allow-Origin", "*")
        self.set_header("Access-Control-Allow-Headers", "Content-Type, Authorization")
        self.set_header("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS")

    def answer(self, status, body):
        self.set_status(status)
        self.finish(body)

    def is_admin(self):
        if self.sessions.admin(self.token()):
            return True
        self.refuse(401, "Unauthorized. Please log in.")
        return False


class AdminLogin(AdminHandler):
    def post(self):
        body = self.json_body()
        if body is None:
            return self.refuse(400, "Invalid JSON")
        login = self.sessions.admin_login(body.get("username"), body.get("password"))
        if login is None:
            return self.refuse(401, "Invalid username or password")
        token, user, expires = login
        return self.answer(200, {"success": True, "token": token, "user": user, "expires_at": expires.isoformat()})


class AdminLogout(AdminHandler):
    def post(self):
        if self.is_admin():
            self.sessions.admin_logout(self.token())
            self.answer(200, LOGGED_OUT)


class AdminUsers(AdminHandler):
    def get(self):
        if self.is_admin():
            self.answer(200, {"success": True, "users": self.sessions.people()})


class OpenDoor(Handler):
    """Dangerous, and reachable without any login: the proxy has to refuse it."""

    def get(self):
        self.answer(200, {"success": True, "message": "the app did what nobody should be able to ask for"})

    post = get


class Health(Plain):
    def get(self):
        time.sleep(0.1)  # it blocks its event loop, as the real one does
        self.finish(
            {
                "status": "healthy",
                "memory_percent": 9.5,
                "cpu_percent": 0.5,
                "uptime": 50,
                "database": "connected",
                "db_pool": {"min_conn": 10, "max_conn": 50},
            }
        )


class Index(Plain):
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
        ("/api/bulk-upload", BulkUpload, shared),
        ("/api/get-all-students", Students, shared),
        ("/api/admin/auth/login", AdminLogin, shared),
        ("/api/admin/auth/logout", AdminLogout, shared),
        ("/api/admin/users", AdminUsers, shared),
        ("/health", Health, shared),
    ]
