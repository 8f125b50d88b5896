"""FastAPI, served by uvicorn."""
import reading
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

application = FastAPI()
scheme = HTTPBearer(auto_error=False)


@application.api_route("/{kind}", methods=["GET", "POST"])
async def handle(request: Request, kind: str):
    if kind == "issue":
        return JSONResponse({"issued": request.query_params["t"]})
    if kind in reading.COOKIES:
        name, is_dead = reading.COOKIES[kind]
        dead = is_dead(request.cookies.get(name))
    elif kind == "bearer":
        found = await scheme(request)
        dead = found is not None and reading.opaque(found.credentials)
    elif kind == "header":
        dead = reading.opaque(request.headers.get("S-Id"))
    elif kind == "query":
        dead = reading.opaque(request.query_params.get("s_id"))
    else:
        dead = reading.field(await request.json())
    return JSONResponse({}, headers={"X-Reads": "dead" if dead else "other"})
