"""Django, and with `REST=1` Django REST framework, served by gunicorn."""
import json
import os

import django
import reading
from django.conf import settings
from django.http import JsonResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of the tests",
    INSTALLED_APPS=["rest_framework"] if "REST" in os.environ else [],
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
)
django.setup()


def dead_in(request, kind):
    if kind in reading.COOKIES:
        name, is_dead = reading.COOKIES[kind]
        return is_dead(request.COOKIES.get(name))
    if kind == "header":
        return reading.opaque(request.headers.get("S-Id"))
    if kind == "query":
        return reading.opaque(request.GET.get("s_id"))
    return reading.bearer(request.headers.get("Authorization"))


def answer(dead):
    return JsonResponse({}, headers={"X-Reads": "dead" if dead else "other"})


def issue(request):
    return JsonResponse({"issued": request.GET["t"]})


def plain(request, kind):
    return answer(reading.field(json.loads(request.body)) if kind == "json" else dead_in(request, kind))


if "REST" in os.environ:
    from rest_framework.authentication import TokenAuthentication
    from rest_framework.exceptions import AuthenticationFailed
    from rest_framework.views import APIView

    class Bearer(TokenAuthentication):
        keyword = "Bearer"

        def authenticate_credentials(self, key):
            return key, key

    class View(APIView):
        def get(self, request, kind):
            if kind == "json":
                return answer(reading.field(request.data))
            if kind == "bearer":
                try:
                    found = Bearer().authenticate(request)
                except AuthenticationFailed:
                    found = None
                return answer(found is not None and reading.opaque(found[0]))
            return answer(dead_in(request, kind))

        post = get

    urlpatterns = [path("issue", issue), path("<str:kind>", View.as_view())]
else:
    urlpatterns = [path("issue", issue), path("<str:kind>", plain)]

from django.core.wsgi import get_wsgi_application  # noqa: E402: the settings come first

application = get_wsgi_application()
