"""What the app saw: one dict per event, kept in memory and, where asked for, appended to a file as JSON lines.

Tokens are never written down, only the session id idlegate would show: the first 32 hex digits of SHA-256.
Every event has `seen` (its kind) and `at` (epoch seconds), and beside them:

    request          request (a number), method, path, query, headers, session, audit_ip; when its body is complete
    answer           request, path, status
    gone             request, path: the client's side closed before the answer was complete
    ws-open          socket (a number), path, headers
    ws-message       socket, kind (text, binary), bytes, cmd, session; the latter two null where there is none
    ws-authenticate  socket, session, accepted
    ws-pong          socket, payload
    program-stopped  socket: a program was still running when its socket closed
    ws-close         socket, code, reason; null where there was none
"""
import hashlib
import json
import time

SECRET_HEADERS = ("session-id", "authorization")


def session_id_of(token):
    """The id of `token`, as in idlegate's store; None for anything that is no token."""
    if not isinstance(token, str) or not token:
        return None
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Seen:
    def __init__(self, path=None):
        self.events = []
        self._file = open(path, "a", buffering=1, encoding="utf-8") if path else None

    def add(self, what, **details):
        event = {"seen": what, "at": round(time.time(), 3), **details}
        self.events.append(event)
        if self._file:
            self._file.write(json.dumps(event) + "\n")


def headers_of(request):
    """All headers, names in lower case, repeated ones joined, tokens replaced by `present`."""
    return {
        name.lower(): "present" if name.lower() in SECRET_HEADERS else value
        for name, value in request.headers.items()
    }
