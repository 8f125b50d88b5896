"""Spellings of a token that some parser reads as the token itself, and what becomes of them.

`opaque` stands for a random token of 43 characters, as `secrets.token_urlsafe` makes them; `uuid` and `signed` for the other two
kinds. `JUNK` has the format of a token and is none.
"""
import gzip
import json
from dataclasses import dataclass

JUNK = "J" * 43


@dataclass(frozen=True)
class Spelling:
    """One spelling, in a request."""

    kind: str
    name: str
    request: bytes
    # What an app that passes it still has, and idlegate cannot know: it reads another value that looks like a token. Only
    # `unknown = "refuse"` closes that.
    remains: bool = False

    def example(self, dead):
        """What of it matters, with T for the token."""
        head, _, body = self.request.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        if self.kind == "query":
            text = lines[0].split(" ")[1].split("?")[1]
        elif self.kind == "json":
            charset = lines[2].partition("; ")[2]
            text = f"{charset}: {body.decode('latin-1')}" if charset else body.decode("latin-1")
        else:
            text = " and ".join(line.removeprefix("Cookie: ") for line in lines[2:])
        text = text.replace(dead["opaque"], "T").replace(JUNK, "other")
        return text.encode("unicode_escape").decode().replace("\\\\", "\\").replace("|", "\\|")


def get(target, *fields):
    head = [f"GET {target} HTTP/1.1", "Host: app.example", *fields]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n"


def post(body, kind="application/json", *fields):
    head = ["POST /json HTTP/1.1", "Host: app.example", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def plain(kind, dead):
    """The token where and how every app reads it."""
    return {
        "cookie": get("/cookie", f"Cookie: s_id={dead['opaque']}"),
        "uuid": get("/uuid", f"Cookie: u_id={dead['uuid']}"),
        "signed": get("/signed", f"Cookie: j_id={dead['signed']}"),
        "bearer": get("/bearer", f"Authorization: Bearer {dead['opaque']}"),
        "header": get("/header", f"S-Id: {dead['opaque']}"),
        "query": get(f"/query?s_id={dead['opaque']}"),
        "json": post(json.dumps({"s_id": dead["opaque"]}).encode()),
    }[kind]


KINDS = ["cookie", "uuid", "signed", "bearer", "header", "query", "json"]


def _encoded(token):
    return f"%{ord(token[0]):02x}{token[1:]}"


def _octal(token):
    return f"\\{ord(token[0]):03o}{token[1:]}"


def _cookies(t):
    return {
        "quoted": f's_id="{t}"',
        "percent-encoded": f"s_id={_encoded(t)}",
        "octal escape in quotes": f's_id="{_octal(t)}"',
        "backslash in quotes": f's_id="\\{t}"',
        "after a blank": f"a=1 s_id={t}",
        "after a tab": f"a=1\ts_id={t}",
        "after a comma and a blank": f"a=1, s_id={t}",
        "before a blank": f"s_id={t} a=1",
        "blanks around the equals sign": f"s_id = {t}",
        "JSON cookie": f's_id=j:"{t}"',
        "JSON cookie, encoded": f"s_id=j%3A%22{t}%22",
        "JSON cookie with an array": f's_id=j:["{t}"]',
        "blank encoded before it": f"s_id=%20{t}",
        "NUL encoded behind it": f"s_id={t}%00",
        "no-break space before it": f"s_id=\xa0{t}",
        "in the quotes of another": f'a="; s_id={t}; b="',
        "name with a dot": f"s.id={t}",
        "name with a bracket": f"s[id={t}",
        "name with brackets": f"s_id[]={t}",
        "name with a blank": f"s id={t}",
        "attribute of RFC 2109": f"$Version=1; s_id={t}; $Path=/",
    }


def _beside(t):
    """Beside a value that looks like a token, in the form that idlegate reads."""
    return {
        "after a blank, junk before it": f"s_id={JUNK}; a=1 s_id={t}",
        "JSON cookie, junk behind it": f's_id=j:"{t}"; s_id={JUNK}',
        "name with a dot, junk behind it": f"s.id={t}; s_id={JUNK}",
    }


def _authorization(t):
    return {
        "scheme in small letters": f"bearer {t}",
        "two blanks": f"Bearer  {t}",
        "tab": f"Bearer\t{t}",
        "no-break space": f"Bearer\xa0{t}",
        "next-line character": f"Bearer\x85{t}",
        "blank and no-break space": f"Bearer \xa0{t}",
        "no-break space behind it": f"Bearer {t}\xa0",
    }


def _headers(t):
    return {
        "no-break space before it": [f"S-Id: \xa0{t}"],
        "next-line character behind it": [f"S-Id: {t}\x85"],
        "underscore": [f"S_Id: {t}"],
        "twice, the second empty": [f"S-Id: {t}", "S-Id:"],
        "dot": [f"S.Id: {t}"],
    }


def _queries(t):
    return {
        "percent-encoded": f"s_id={_encoded(t)}",
        "blank behind it": f"s_id={t}+",
        "NUL behind it": f"s_id={t}%00",
        "vertical tab before it": f"s_id=%0b{t}",
        "control character before it": f"s_id=%01{t}",
        "no-break space before it": f"s_id=%C2%A0{t}",
        "brackets": f"s_id[]={t}",
        "brackets, encoded": f"s_id%5B%5D={t}",
        "brackets with an index": f"s_id[0]={t}",
        "name with a dot": f"s.id={t}",
        "name with a bracket": f"s[id={t}",
        "name with a blank": f"s+id={t}",
        "blank before the name": f"+s_id={t}",
        "name encoded": f"%73_id={t}",
        "name with a NUL": f"s_id%00x={t}",
        "brackets, junk before it": f"s_id={JUNK}&s_id[]={t}",
        "name with a dot, junk before it": f"s_id={JUNK}&s.id={t}",
    }


def _bodies(t):
    def field(value):
        return json.dumps({"s_id": value}).encode()

    escaped = b'{"s\\u005fid":"\\u%04x%s"}' % (ord(t[0]), t[1:].encode())
    # In this coding of 7 bits, `+ACI-` is a quotation mark.
    utf_7 = f"{{+ACI-s+AF8-id+ACI-:+ACI-{t.replace('-', '+AC0-').replace('_', '+AF8-')}+ACI-}}".encode()
    return {
        "array": (field([t]), "application/json"),
        "array in an array": (field([[t]]), "application/json"),
        "escapes": (escaped, "application/json"),
        "blank before it": (field(" " + t), "application/json"),
        "NUL behind it": (field(t + "\0"), "application/json"),
        "name twice": (b'{"s_id":"%s","s_id":"%s"}' % (b"x", t.encode()), "application/json"),
        "NaN beside it": (b'{"a":NaN,"s_id":"%s"}' % t.encode(), "application/json"),
        "byte order mark": (b"\xef\xbb\xbf" + field(t), "application/json"),
        "UTF-16": (field(t).decode().encode("utf-16"), "application/json"),
        "UTF-16 without a mark": (field(t).decode().encode("utf-16-le"), "application/json; charset=utf-16le"),
        "UTF-32": (field(t).decode().encode("utf-32-le"), "application/json; charset=utf-32le"),
        "UTF-7": (utf_7, "application/json; charset=utf-7"),
        "HZ": (b'{"s_id":"~\n%s"}' % t.encode(), "application/json; charset=hz"),
        "ISO-2022-JP": (b'{"s_id":"\x1b(B%s"}' % t.encode(), "application/json; charset=iso2022_jp"),
        "ISO-2022-JP, in the name": (b'{"s_\x1b(Bid":"%s"}' % t.encode(), "application/json; charset=iso2022_jp"),
        "as a form": (b"s_id=" + t.encode(), "application/x-www-form-urlencoded"),
    }


def _b64_twin(text):
    """The same bytes in another last character: it has bits that no byte needs."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + letters[letters.index(text[-1]) ^ 1]


def spellings(dead):
    """All of them."""
    t, uuid, signed = dead["opaque"], dead["uuid"], dead["signed"]
    table = []

    def add(kind, name, request, remains=False):
        table.append(Spelling(kind, name, request, remains))

    for name, cookie in _cookies(t).items():
        add("cookie", name, get("/cookie", f"Cookie: {cookie}"))
    add("cookie", "second header", get("/cookie", "Cookie: a=1", f"Cookie: s_id={t}"))
    for name, cookie in _beside(t).items():
        add("cookie", name, get("/cookie", f"Cookie: {cookie}"), remains=True)
    for name, value in {
        "without hyphens": uuid.replace("-", ""),
        "in capitals": uuid.upper(),
        "in braces": "{" + uuid + "}",
        "as a URN": "urn:uuid:" + uuid,
        "hyphens elsewhere": uuid.replace("-", "")[:4] + "-" + uuid.replace("-", "")[4:],
    }.items():
        add("uuid", name, get("/uuid", f"Cookie: u_id={value}"))
    payload, signature = signed.split(".")
    standard = signature.replace("-", "+").replace("_", "/")
    for name, value in {
        "padded": f"{signed}=",
        "padded too much": f"{signed}====",
        "other alphabet": f"{payload}.{standard}",
        "blank within": f"{payload}.{signature[:9]} {signature[9:]}",
    }.items():
        add("signed", name, get("/signed", f"Cookie: j_id={value}"))
    add("signed", "unused bits", get("/signed", f"Cookie: j_id={payload}.{_b64_twin(signature)}"), remains=True)
    for name, value in _authorization(t).items():
        add("bearer", name, get("/bearer", f"Authorization: {value}"))
    add("bearer", "second header behind it", get("/bearer", f"Authorization: Bearer {t}", "Authorization: Basic eA=="))
    for name, fields in _headers(t).items():
        add("header", name, get("/header", *fields))
    for name, query in _queries(t).items():
        add("query", name, get(f"/query?{query}"), remains="junk" in name)
    for name, (body, kind) in _bodies(t).items():
        add("json", name, post(body, kind))
    add("json", "gzip", post(gzip.compress(json.dumps({"s_id": t}).encode(), mtime=0), "application/json", "Content-Encoding: gzip"))
    return table
