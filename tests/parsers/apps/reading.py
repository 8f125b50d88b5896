"""What the Python apps have in common: whether a value that a framework found is the dead token.

Each app looks for the token as apps of its framework do, at these paths: /cookie, /uuid, /signed (cookies), /bearer, /header, /query
and /json. /issue?t=TOKEN is its login. It answers with `X-Reads: dead` if what it found is the dead token, and never refuses: to refuse dead tokens is
idlegate's work.
"""
import base64
import json
import os
import uuid

DEAD = json.loads(os.environ["DEAD"])


def opaque(value):
    """An app that looks its tokens up in a table."""
    return isinstance(value, str) and value.strip() == DEAD["opaque"]


def as_uuid(value):
    """One whose tokens are a column of UUIDs."""
    try:
        return uuid.UUID(value) == uuid.UUID(DEAD["uuid"])
    except (ValueError, AttributeError, TypeError):
        return False


def signed(value):
    """One that verifies a signature, as JWT libraries do: the signature is compared when it is decoded."""
    try:
        (payload, signature), (dead_payload, dead_signature) = value.split("."), DEAD["signed"].split(".")
        decoded = [base64.urlsafe_b64decode(part + "==") for part in (signature, dead_signature)]
    except (ValueError, AttributeError):
        return False
    return payload == dead_payload and decoded[0] == decoded[1]


def bearer(value):
    """`Authorization` taken apart at white space, as most code does."""
    words = (value or "").split()
    return len(words) == 2 and words[0].lower() == "bearer" and words[1] == DEAD["opaque"]


def field(document):
    """The field of a JSON document."""
    return opaque(document.get("s_id")) if isinstance(document, dict) else False


COOKIES = {"cookie": ("s_id", opaque), "uuid": ("u_id", as_uuid), "signed": ("j_id", signed)}
