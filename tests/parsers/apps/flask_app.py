"""Flask, served by gunicorn."""
import reading
from flask import Flask, request

application = Flask(__name__)


@application.route("/<kind>", methods=["GET", "POST"])
def handle(kind):
    if kind == "issue":
        return {"issued": request.args["t"]}
    if kind in reading.COOKIES:
        name, is_dead = reading.COOKIES[kind]
        dead = is_dead(request.cookies.get(name))
    elif kind == "bearer":
        dead = reading.bearer(request.headers.get("Authorization"))
    elif kind == "header":
        dead = reading.opaque(request.headers.get("S-Id"))
    elif kind == "query":
        dead = reading.opaque(request.args.get("s_id"))
    else:
        dead = reading.field(request.get_json(force=True))
    return {}, 200, {"X-Reads": "dead" if dead else "other"}
