//! Tokens at each location in requests and responses, in every spelling that some app decodes.

use super::*;
use crate::route::{PathPattern, PathSet};
use ::http::{HeaderName, Request};

fn rules(places: Vec<Location>) -> TokenRules {
    TokenRules::new(places.into_iter().map(TokenRule::new).collect(), SessionIds::default())
}

fn seen(place: Location, request: request::Builder) -> Vec<SessionId> {
    let (head, ()) = request.body(()).unwrap().into_parts();
    let found = rules(vec![place]).in_head(&Route::of(&head), &head);
    found.into_iter().filter(|token_match| !token_match.loose).map(|token_match| token_match.id).collect()
}

fn id(token: &str) -> SessionId {
    SessionId::of_token(token.as_bytes())
}

/// The tokens that only a lenient app would read.
fn loose(place: Location, request: request::Builder) -> Vec<SessionId> {
    let (head, ()) = request.body(()).unwrap().into_parts();
    let found = rules(vec![place]).in_head(&Route::of(&head), &head);
    found.into_iter().filter(|token_match| token_match.loose).map(|token_match| token_match.id).collect()
}

#[test]
fn each_line_of_a_header_is_a_token() {
    let place = || Location::Header(HeaderName::from_static("session-id"));
    let request = Request::get("/").header("Session-Id", " one ").header("session-id", "two");
    assert_eq!(seen(place(), request), [id("one"), id("two")]);
    assert_eq!(seen(place(), Request::get("/").header("session-id", "")), []);
}

#[test]
fn bearer_is_read_in_any_case_and_other_schemes_are_not() {
    for value in ["Bearer abc", "bearer  abc ", "BEARER\tabc"] {
        assert_eq!(seen(Location::Bearer, Request::get("/").header("authorization", value)), [id("abc")], "{value}");
    }
    for value in ["Basic abc", "Bearer", "Bearer  ", "abc"] {
        assert_eq!(seen(Location::Bearer, Request::get("/").header("authorization", value)), [], "{value}");
    }
}

#[test]
fn a_token_is_found_where_lenient_apps_would_read_it() {
    for value in ["Token abc", "abc", "Bearer abc x", "x y abc", "Bearer x y z w v abc"] {
        let seen = loose(Location::Bearer, Request::get("/").header("authorization", value));
        assert!(seen.contains(&id("abc")), "{value}");
    }
}

#[test]
fn a_header_name_matches_with_hyphens_and_with_underscores() {
    for (rule, sent) in [("session-id", "session_id"), ("session_id", "session-id"), ("a-b_c", "a_b-c")] {
        let place = Location::Header(HeaderName::from_static(rule));
        assert_eq!(seen(place, Request::get("/").header(sent, "abc")), [id("abc")], "{rule} as {sent}");
    }
    let place = Location::Header(HeaderName::from_static("session-id"));
    assert_eq!(seen(place, Request::get("/").header("sessionid", "abc")), []);
}

#[test]
fn a_cookie_is_found_in_every_spelling_that_apps_decode() {
    let spellings =
        ["sid=abc", "x=1; sid=abc; y=2", "sid=\"abc\"", "sid=\"\\141bc\"", "sid=%61bc", "a;sid = abc", "sid=\"a\\bc\""];
    let plus = Request::get("/").header("cookie", "sid=\"a\\+12\"");
    assert_eq!(seen(Location::Cookie("sid".into()), plus), [id("a+12")]);
    for cookie in spellings {
        assert_eq!(
            seen(Location::Cookie("sid".into()), Request::get("/").header("cookie", cookie)),
            [id("abc")],
            "{cookie}"
        );
    }
    let twice = Request::get("/").header("cookie", "sid=one; sid=two").header("cookie", "sid=three");
    assert_eq!(seen(Location::Cookie("sid".into()), twice), [id("one"), id("two"), id("three")]);
    assert_eq!(seen(Location::Cookie("sid".into()), Request::get("/").header("cookie", "sid2=abc; asid=abc")), []);
}

#[test]
fn a_query_parameter_is_found_in_every_spelling() {
    for uri in ["/?t=abc", "/?x=1&t=abc", "/?x=1;t=abc", "/?%74=%61bc", "/?t=abc+"] {
        assert_eq!(seen(Location::Query("t".into()), Request::get(uri)), [id("abc")], "{uri}");
    }
    assert_eq!(seen(Location::Query("t".into()), Request::get("/?tt=abc&t=&t")), []);
}

#[test]
fn a_body_with_a_duplicate_key_has_two_tokens() {
    let rules = rules(vec![Location::RequestJson(Pointer::parse("/session_id").unwrap())]);
    let route = Route::get("/");
    let found = rules.in_request(&route, br#"{"session_id":"one","session\u005fid":"two","x":NaN}"#).unwrap();
    assert_eq!(found.iter().map(|token_match| token_match.id).collect::<Vec<_>>(), [id("one"), id("two")]);
    assert!(rules.in_request(&route, b"{'session_id':'one'}").is_err());
    assert!(rules.in_request(&route, br#"{"session_id":7}"#).unwrap().is_empty());
}

#[test]
fn a_rule_applies_on_its_paths_only() {
    let paths = PathSet::from_iter([PathPattern::parse("/api/login").unwrap()]);
    let pointer = Pointer::parse("/session_id").unwrap();
    let rule = TokenRule { number: 3, paths: Some(paths), ..TokenRule::new(Location::ResponseJson(pointer)) };
    let rules = TokenRules::new(vec![rule], SessionIds::default());
    assert_eq!(rules.in_response(&Route::get("/api//login"), br#"{"session_id":"new"}"#), [(3, id("new"))]);
    assert!(rules.reads_responses(&Route::get("/api/login")));
    assert!(!rules.reads_responses(&Route::get("/api/logins")));
    assert!(rules.in_response(&Route::get("/"), br#"{"session_id":"new"}"#).is_empty());
}

#[test]
fn a_pasted_token_is_read_verbatim_and_as_a_browser_shows_it() {
    let ids =
        |text: &[u8]| -> Vec<_> { pasted(text).iter().map(|token| token.session_id(&SessionIds::default())).collect() };
    assert_eq!(ids(b"abc\n"), [id("abc")], "each reading once");
    assert_eq!(ids(b"a%2Bc"), [id("a%2Bc"), id("a+c")]);
    assert_eq!(ids(b"a+c"), [id("a+c"), id("a c")]);
    assert_eq!(ids(br#""a\054b""#), [id(r#""a\054b""#), id("a,b")]);
    assert_eq!(ids(b"Bearer abc"), [id("Bearer abc"), id("abc")]);
    assert_eq!(ids(b"\xe9"), [id("é")]);
    assert_eq!(ids(b" \n"), []);
}
