"""NiceGUI with the login of its own example (authentication), and a page with a timer and a field.

python app.py PORT
"""
import sys

from fastapi.responses import RedirectResponse
from nicegui import app, ui
from starlette.middleware.base import BaseHTTPMiddleware


class OnlyUsers(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        if not app.storage.user.get("authenticated") and not request.url.path.startswith(("/login", "/_nicegui")):
            return RedirectResponse("/login")
        return await call_next(request)


app.add_middleware(OnlyUsers)


@ui.page("/login")
def login():
    def check():
        if password.value == "correct horse":
            app.storage.user.update(authenticated=True, name=name.value)
            ui.navigate.to("/")

    name = ui.input("Name").props("data-is=name")
    password = ui.input("Password", password=True).on("keydown.enter", check).props("data-is=password")
    ui.button("Log in", on_click=check)


@ui.page("/")
def work():
    ui.label(f"Room of {app.storage.user['name']}")
    seconds = ui.label("0")
    ui.timer(1.0, lambda: seconds.set_text(str(int(seconds.text) + 1)))
    text = ui.input("Text").props("data-is=text").on("keydown.enter", lambda: result.set_text(f"computed {text.value}"))
    result = ui.label("nothing yet").props("data-is=result")


ui.run(host="127.0.0.1", port=int(sys.argv[1]), storage_secret="for tests only", reload=False, show=False)
