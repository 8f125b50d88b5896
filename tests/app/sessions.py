"""Users and sessions of the stand-in, with the legacy app's way of telling the time: naive local datetimes."""
import secrets
import time
from datetime import datetime, timedelta

VALIDITY = timedelta(hours=24)
LOGIN_COST = 0.33  # seconds the real app's password hash blocks its event loop for


class Session:
    def __init__(self, user):
        self.token = secrets.token_urlsafe(32)
        self.user = user
        # Naive and local, on purpose: this is the mistake idlegate exists for.
        self.created = datetime.now()
        self.expires = self.created + VALIDITY

    def valid(self):
        return datetime.now() < self.expires

    def renew(self):
        self.expires = datetime.now() + VALIDITY
        return self.expires

    def about(self):
        return {"username": self.user.name, "role": self.user.role, "full_name": self.user.full_name}


class User:
    def __init__(self, name, password, role, full_name):
        self.name, self.password, self.role, self.full_name = name, password, role, full_name
        self.email = f"{name}@test.local"


class Sessions:
    def __init__(self, slow=False):
        self._slow = slow
        self._live = {}
        self._admin_tokens = {}
        people = [
            User("ada", "lovelace", "student", "Ada Lovelace"),
            User("bob", "builder", "student", "Bob Builder"),
            User("grace", "hopper", "teacher", "Grace Hopper"),
            User("admin", "secret", "admin", "Admin"),
            # Those of the recording.
            User("stu1", "stu1-pass", "student", "Student 1"),
            User("stu2", "stu2-pass", "student", "Student 2"),
            User("sa9082", "prof-pass", "professor", "Prof Test"),
        ]
        self._users = {user.name: user for user in people}

    def _user(self, username, password):
        """The user whose password fits, or None."""
        if self._slow:
            time.sleep(LOGIN_COST)
        user = self._users.get(username) if isinstance(username, str) else None
        return user if user and user.password == password else None

    def login(self, username, password):
        """A new session, or None."""
        user = self._user(username, password)
        if user is None:
            return None
        session = Session(user)
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
        if not isinstance(new, str) or not new or self._user(session.user.name, old) is None:
            return False
        session.user.password = new
        return True

    def students(self):
        students = (user for user in self._users.values() if user.role == "student")
        return [{"username": user.name, "full_name": user.full_name, "email": user.email} for user in students]

    def people(self):
        now = datetime.now().isoformat()
        return [
            {"id": number, **self._about(user), "is_active": True, "created_at": now, "last_login": now}
            for number, user in enumerate(self._users.values(), 1)
        ]

    def _about(self, user):
        return {"username": user.name, "full_name": user.full_name, "email": user.email, "role": user.role}

    def admin_login(self, username, password):
        """A token of the admin panel, its user and until when it is good; or None."""
        user = self._user(username, password)
        if user is None or user.role not in ("admin", "professor"):
            return None
        token, expires = secrets.token_urlsafe(32), datetime.now() + VALIDITY
        self._admin_tokens[token] = expires
        return token, {"id": 1, **self._about(user)}, expires

    def admin(self, token):
        expires = self._admin_tokens.get(token)
        return expires is not None and datetime.now() < expires

    def admin_logout(self, token):
        del self._admin_tokens[token]
