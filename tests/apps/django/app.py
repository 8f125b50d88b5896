"""Django's admin with its login, and a page with a WebSocket (Channels), as its tutorials write them.

daphne app:application; the database is the file that APP_DATABASE names.
"""
import json
import os

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="for tests only",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF="app",
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "django.contrib.staticfiles",
        "channels",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["APP_DATABASE"]}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    LOGIN_URL="/admin/login/",
    STATIC_URL="/static/",
)
django.setup()

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.http import HttpResponse
from django.template import engines
from django.urls import path

PAGE = """<!doctype html><title>Chat</title>
<h1>Chat of {{ user }}</h1>
<p>WebSocket: <output id="status">connecting</output></p>
<ul id="log"></ul>
<input id="text" autofocus>
<form method="post">{% csrf_token %}<input id="note" name="note"><button id="save">Save</button></form>
<p>Saved: <output id="saved">{{ request.session.note }}</output></p>
<script>
const show = (text) => document.querySelector('#status').textContent = text;
function connect() {
  const socket = new WebSocket(`ws://${location.host}/ws/chat/`);
  socket.onopen = () => show('open');
  socket.onmessage = ({ data }) => {
    const item = document.createElement('li');
    item.textContent = JSON.parse(data).message;
    document.querySelector('#log').append(item);
  };
  socket.onclose = ({ reason }) => {
    show(`closed ${reason}`);
    setTimeout(connect, 2000);
  };
  document.querySelector('#text').onkeydown = ({ key, target }) => {
    if (key !== 'Enter') return;
    socket.send(JSON.stringify({ message: target.value }));
    target.value = '';
  };
}
connect();
</script>"""


@login_required
def chat(request):
    if request.method == "POST":
        request.session["note"] = request.POST["note"]
    return HttpResponse(engines["django"].from_string(PAGE).render({"request": request, "user": request.user}, request))


class Chat(AsyncWebsocketConsumer):
    async def connect(self):
        if self.scope["user"].is_authenticated:
            await self.accept()
        else:
            await self.close()

    async def receive(self, text_data):
        await self.send(json.dumps({"message": json.loads(text_data)["message"]}))


urlpatterns = [path("admin/", admin.site.urls), path("chat/", chat)]

call_command("migrate", verbosity=0)
if not get_user_model().objects.exists():
    get_user_model().objects.create_superuser("ada", password="correct horse")

application = ProtocolTypeRouter(
    {
        "http": ASGIStaticFilesHandler(get_asgi_application()),
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(URLRouter([path("ws/chat/", Chat.as_asgi())])),
        ),
    }
)
