"""Flask with the login of Flask-Login, and a page with Flask-SocketIO.

python app.py PORT; APP_SOCKETIO names the folder of the browser's half of socket.io.
"""
import os
import sys

from flask import Flask, redirect, render_template_string, request, send_from_directory
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user
from flask_socketio import SocketIO, disconnect, emit

app = Flask(__name__)
app.secret_key = "for tests only"
# Several pings within the timeout of the test: the default is one in 25 s.
socketio = SocketIO(app, ping_interval=4, async_mode="threading")
logins = LoginManager(app)
logins.login_view = "login"

LOGIN = """<!doctype html><title>Log in</title>
{% for message in get_flashed_messages() %}<p>{{ message }}</p>{% endfor %}
<form method="post"><input name="user"><input name="password" type="password"><button>Log in</button></form>"""

PAGE = """<!doctype html><title>Chat</title>
<h1>Chat of {{ current_user.id }}</h1>
<p>socket.io: <output id="status">connecting</output></p>
<ul id="log"></ul>
<input id="text" autofocus>
<script src="/client/socket.io.min.js"></script>
<script>
const socket = io();
const show = (text) => document.querySelector('#status').textContent = text;
socket.on('connect', () => show('open'));
socket.on('disconnect', (reason) => show(`disconnected: ${reason}`));
socket.on('connect_error', (error) => show(`no connection: ${error.message}`));
socket.on('said', (text) => {
  const item = document.createElement('li');
  item.textContent = text;
  document.querySelector('#log').append(item);
});
document.querySelector('#text').onkeydown = ({ key, target }) => {
  if (key !== 'Enter') return;
  socket.emit('say', target.value);
  target.value = '';
};
</script>"""


class User(UserMixin):
    def __init__(self, name):
        self.id = name


@logins.user_loader
def load(name):
    return User(name)


@app.route("/login", methods=["GET", "POST"])
def login():
    if request.method == "POST" and request.form["password"] == "correct horse":
        login_user(User(request.form["user"]))
        next = request.args.get("next", "/")
        return redirect(next if next.startswith("/") and not next.startswith("//") else "/")
    return render_template_string(LOGIN)


@app.route("/")
@login_required
def chat():
    return render_template_string(PAGE)


@app.route("/client/<path:name>")
def client(name):
    return send_from_directory(os.environ["APP_SOCKETIO"], name)


@socketio.on("connect")
def connect():
    return current_user.is_authenticated


@socketio.on("say")
def say(text):
    emit("said", text) if current_user.is_authenticated else disconnect()


socketio.run(app, host="127.0.0.1", port=int(sys.argv[1]), allow_unsafe_werkzeug=True)
