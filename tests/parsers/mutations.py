"""Random requests that carry a dead token, in spellings that no list has."""
import json
import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spellings import JUNK, get, post



def mostly(usual, *odd):
    """The usual as often as all the odd ones: a request in which all is odd is read by no app."""
    return st.booleans().flatmap(lambda is_odd: st.sampled_from(odd) if is_odd else st.just(usual))


SPACES = mostly("", " ", "  ", "\t", "\xa0", "\x85", "\xc2\xa0", "\xad")
SEPARATORS = mostly("; ", ";", ", ", ",", " ", "\t", "&", ";;", "; ;", "\xa0", " ;\t")


def _nth(text, position, change):
    position %= len(text)
    return text[:position] + change(text[position]) + text[position + 1:]


def values(token):
    """The token as it is, or changed in up to three ways."""
    changes = st.sampled_from([
        lambda text, at: f'"{text}"',
        lambda text, at: f'"{text}',
        lambda text, at: f'{text}"',
        lambda text, at: f"'{text}'",
        lambda text, at: _nth(text, at, lambda one: f"%{ord(one):02x}"),
        lambda text, at: _nth(text, at, lambda one: f"\\{ord(one):03o}"),
        lambda text, at: _nth(text, at, lambda one: "\\" + one),
        lambda text, at: "j:" + json.dumps(text),
        lambda text, at: f'["{text}"]',
        lambda text, at: "%20" + text,
        lambda text, at: text + "%00",
        lambda text, at: "+" + text,
        lambda text, at: text + "=",
        lambda text, at: text.upper(),
        lambda text, at: text.lower(),
        lambda text, at: "{" + text + "}",
        lambda text, at: text.replace("-", ""),
        lambda text, at: text + ",",
        lambda text, at: text + " x",
        lambda text, at: "%E2%80%8B" + text,
    ])
    change = st.tuples(changes, st.integers(0, 99))

    def changed(all_of_them):
        text = token
        for how, at in all_of_them:
            text = how(text, at)
        return text

    return st.one_of(st.just(token), st.tuples(change).map(changed), st.lists(change, max_size=3).map(changed))


def names(name):
    dotted, bracketed, spaced = name.replace("_", "."), name.replace("_", "["), name.replace("_", " ")
    return mostly(
        name, name.upper(), name.title(), dotted, bracketed, spaced, name + "[]", name + "[0]", " " + name, name + " ",
        f'"{name}"', "$" + name, f"%{ord(name[0]):02x}{name[1:]}", "\xa0" + name, name + "%00", name + "[", "." + name,
    )  # fmt: skip


FILLERS = st.sampled_from(["", "1", "dark", '"', '";', "{}", "%", "a b"])


def pairs(name, token, companions):
    """`name=value` pairs, one of them with the token."""
    other = st.tuples(st.sampled_from(["a", "b", name, name.upper()]), st.just("="), FILLERS)
    if companions:
        other = st.one_of(other, st.tuples(names(name), st.just("="), st.just(JUNK)))
    own = st.tuples(names(name), mostly("=", " = ", "= ", "=="), values(token))
    both = st.tuples(st.lists(other, max_size=2), own, st.lists(other, max_size=2))
    return both.map(lambda parts: ["".join(pair) for pair in [*parts[0], parts[1], *parts[2]]])


@st.composite
def cookies(draw, path, name, token, companions):
    line = ""
    for pair in draw(pairs(name, token, companions)):
        line += pair + draw(SEPARATORS)
    lines = [line]
    if draw(st.integers(0, 4)) == 0:
        lines.insert(draw(st.integers(0, 1)), f"a={draw(FILLERS)}")
    return get(path, *(f"Cookie: {one}" for one in lines))


@st.composite
def queries(draw, name, token, companions):
    query = "".join(
        pair.replace('"', "%22").replace(" ", "+").replace("\xa0", "%A0").replace("#", "") + draw(mostly("&", ";", "&&"))
        for pair in draw(pairs(name, token, companions))
    )
    return get("/query?" + query)


@st.composite
def authorizations(draw, token):
    scheme = draw(mostly("Bearer", "bearer", "BEARER", "Token", "Basic", "", "Bearer,", '"Bearer"', "Bearer Bearer"))
    gap = draw(mostly(" ", "  ", "\t", "\xa0", "\x85", " \xa0", "\xc2\xa0", ""))
    fields = [f"Authorization: {draw(SPACES)}{scheme}{gap}{draw(values(token))}{draw(SPACES)}"]
    if draw(st.integers(0, 3)) == 0:
        fields.insert(draw(st.integers(0, 1)), "Authorization: Basic eDp5")
    return get("/bearer", *fields)


@st.composite
def headers(draw, token):
    name = draw(mostly("S-Id", "s-id", "S_Id", "S_ID", "S-ID", "S.Id", "S~Id"))
    fields = [f"{name}: {draw(SPACES)}{draw(values(token))}{draw(SPACES)}"]
    if draw(st.integers(0, 3)) == 0:
        fields.insert(draw(st.integers(0, 1)), f"S-Id: {draw(FILLERS)}")
    return get("/header", *fields)


CODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "hz", "iso2022_jp", "iso2022_kr", "latin-1"]
PIECES = mostly("", "~}", "~~", "~\n", "\x1b(B", "\x1b(J", "\x0f", "+-", "\\u0000", " ", "\\n", "\ufeff", "\u200b")


@st.composite
def bodies(draw, token, companions):
    coding = draw(mostly("utf-8", *CODINGS))
    value = draw(st.one_of(values(token), st.just(token)))
    at = draw(st.integers(0, len(value)))
    value = value[:at] + draw(PIECES) + value[at:]
    name = draw(mostly("s_id", "S_ID", "s\\u005fid", " s_id", "s_id ", "s.id", draw(PIECES) + "s_id"))
    text = '"' + value.replace('"', '\\"') + '"'
    text = draw(mostly(text, f"[{text}]", f"[[{text}]]", f'{{"0":{text}}}', f"/**/{text}", text.replace('"', "'")))
    more = ['"a":NaN,', '"s_id":"x",', '"a":{"s_id":1},', "\x0b", "//\n", ","]
    if companions:
        more.append(f'"s_id":"{JUNK}",')
    document = draw(mostly("{%s}", " {%s} ", "[{%s}]", "{%s,}", ")]}',\n{%s}"))
    document = document % f'{draw(mostly("", *more))}"{name}":{text}'
    try:
        body = document.encode(coding)
    except UnicodeEncodeError:
        body = document.encode()
    said = draw(st.sampled_from(["", f"; charset={coding}", f'; charset="{coding}"']))
    kind = draw(mostly("application/json", "text/json", "application/x-www-form-urlencoded"))
    return post(body, kind + said)


def requests(dead, companions):
    return st.one_of(
        cookies("/cookie", "s_id", dead["opaque"], companions),
        cookies("/uuid", "u_id", dead["uuid"], companions),
        cookies("/signed", "j_id", dead["signed"], companions),
        queries("s_id", dead["opaque"], companions),
        authorizations(dead["opaque"]),
        headers(dead["opaque"]),
        bodies(dead["opaque"], companions),
    )


def run(check, count, dead, companions):
    """Calls `check` with so many requests. In CI they are the same each time."""

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize="PROPTEST_RNG_SEED" in os.environ,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(requests(dead, companions))
    def every(request):
        check(request)

    every()
