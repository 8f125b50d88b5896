"""A Flask app whose cart is in its signed session cookie: each write makes a new cookie, while its user stays logged in."""

from flask import Flask, session

application = Flask(__name__)
application.secret_key = "not secret: the tests' own"


@application.get("/login")
def login():
    session.clear()
    session["user"] = "ada"
    return "logged in"


@application.get("/me")
def me():
    return session.get("user", ""), 200 if "user" in session else 401


@application.get("/add")
def add():
    session["items"] = session.get("items", 0) + 1
    return str(session["items"])
