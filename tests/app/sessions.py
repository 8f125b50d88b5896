"""Users and sessions of the stand-in, with the legacy app's way of telling the time: naive local datetimes."""
import secrets
import time
from datetime import datetime, timedelta

VALIDITY = timedelta(hours=24)
LOGIN_COST = 0.33  # seconds the real app's password hash blocks its event loop for


class Session:
    def __init__(self, username, role):
        self.token = secrets.token_urlsafe(32)
        self.username = username
        self.role = role
        # Naive and local, on purpose: this is the mistake idlegate exists for.
        self.created = datetime.now()
        self.expires = self.created + VALIDITY

    def valid(self):
        return datetime.now() < self.expires

    def renew(self):
        self.expires = datetime.now() + VALIDITY

    def about(self):
        return {"username": self.username, "role": self.role, "expires_at": self.expires.isoformat()}


class Sessions:
    def __init__(self, slow=False):
        self._slow = slow
        self._live = {}
        self._admin_tokens = {}
        self.users = {
            "ada": ("lovelace", "student"),
            "bob": ("builder", "student"),
            "grace": ("hopper", "teacher"),
            "admin": ("secret", "admin"),
        }

    def _password_fits(self, username, password):
        if self._slow:
            time.sleep(LOGIN_COST)
        user = self.users.get(username) if isinstance(username, str) else None
        return user is not None and user[0] == password

    def login(self, username, password):
        """A new session, or None."""
        if not self._password_fits(username, password):
            return None
        session = Session(username, self.users[username][1])
        self._live[session.token] = session
        return session

    def find(self, token):
        """The session of a valid token, or None."""
        session = self._live.get(token) if isinstance(token, str) else None
        return session if session and session.valid() else None

    def logout(self, token):
        """Forgets the token. Its sockets go on working, as in the real app."""
        return self._live.pop(token, None) is not None if isinstance(token, str) else False

    def change_password(self, session, old, new):
        if not isinstance(new, str) or not new or not self._password_fits(session.username, old):
            return False
        self.users[session.username] = (new, session.role)
        return True

    def admin_login(self, username, password):
        """A token of the admin panel, or None."""
        if not self._password_fits(username, password) or self.users[username][1] != "admin":
            return None
        token = secrets.token_urlsafe(32)
        self._admin_tokens[token] = datetime.now() + VALIDITY
        return token

    def admin(self, token):
        expires = self._admin_tokens.get(token)
        return expires is not None and datetime.now() < expires
