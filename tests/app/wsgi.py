"""What a WSGI app reads, for gunicorn: the path it routes by, and who it takes the client for."""


def application(environ, start_response):
    names = ("SCRIPT_NAME", "PATH_INFO", "HTTP_X_REAL_IP", "HTTP_X_FORWARDED_FOR", "REMOTE_USER")
    body = "\n".join(f"{name}={environ.get(name, '')}" for name in names).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
