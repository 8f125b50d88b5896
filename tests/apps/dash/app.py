"""Dash behind a login of Flask, with a clock (dcc.Interval) and a field.

python app.py PORT
"""
import sys
from datetime import datetime

from dash import Dash, Input, Output, State, dcc, html
from flask import Flask, redirect, request
from flask_login import LoginManager, UserMixin, current_user, login_user

server = Flask(__name__)
server.secret_key = "for tests only"
logins = LoginManager(server)

LOGIN = """<!doctype html><title>Log in</title>
<form method="post"><input name="user"><input name="password" type="password"><button>Log in</button></form>"""


class User(UserMixin):
    def __init__(self, name):
        self.id = name


@logins.user_loader
def load(name):
    return User(name)


@server.before_request
def only_users():
    if request.path != "/login" and not current_user.is_authenticated:
        return redirect("/login")


@server.route("/login", methods=["GET", "POST"])
def login():
    if request.method == "POST" and request.form["password"] == "correct horse":
        login_user(User(request.form["user"]))
        return redirect("/")
    return LOGIN


app = Dash(server=server, title="Dash")
app.layout = html.Div(
    [
        html.H1("Measurements"),
        html.Div(id="clock"),
        dcc.Interval(id="refresh", interval=1000),
        dcc.Input(id="text", value=""),
        html.Button("Compute", id="compute"),
        html.Div(id="result"),
    ]
)


@app.callback(Output("clock", "children"), Input("refresh", "n_intervals"))
def clock(_):
    return f"{datetime.now():%H:%M:%S}"


@app.callback(Output("result", "children"), Input("compute", "n_clicks"), State("text", "value"), prevent_initial_call=True)
def compute(_, text):
    return f"computed {text}"


app.run(host="127.0.0.1", port=int(sys.argv[1]))
