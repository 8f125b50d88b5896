//! Which requests need a token, and which tokens satisfy a rule.

use super::*;
use crate::route::PathPattern;
use crate::session::SessionIds;
use crate::token::json::Pointer;
use crate::token::{Pattern, Required};
use ::http::Request;

fn paths(patterns: &[&str]) -> PathSet {
    patterns.iter().map(|pattern| PathPattern::parse(pattern).unwrap()).collect()
}

fn cookie() -> TokenRule {
    TokenRule { required: Some(Required::Own), ..TokenRule::new(Location::Cookie("sid".to_owned())) }
}

fn rules(rules: Vec<TokenRule>) -> TokenRules {
    let numbered = rules.into_iter().enumerate().map(|(number, rule)| TokenRule { number, ..rule });
    TokenRules::new(numbered.collect(), SessionIds::default())
}

/// The number of the rule whose token is missing.
fn missing(rules: &TokenRules, request: request::Builder) -> Option<usize> {
    let (head, ()) = request.body(()).unwrap().into_parts();
    let route = Route::of(&head);
    let matches = rules.in_head(&route, &head);
    let required = Requirements::of(rules, &route, &head, &paths(&["/login"]));
    required.missing(&matches).map(|rule| rule.number)
}

#[test]
fn a_request_needs_the_token_of_every_rule_that_requires_one() {
    let admin = TokenRule {
        paths: Some(paths(&["/admin/*"])),
        required: Some(Required::Own),
        ..TokenRule::new(Location::Bearer)
    };
    let rules = rules(vec![cookie(), admin]);
    assert_eq!(missing(&rules, Request::get("/")), Some(0));
    assert_eq!(missing(&rules, Request::get("/").header("cookie", "sid=x")), None);
    assert_eq!(missing(&rules, Request::get("/admin").header("cookie", "sid=x")), Some(1));
    let both = |value| Request::get("/admin").header("cookie", "sid=x").header("authorization", value);
    assert_eq!(missing(&rules, both("Bearer y")), None);
    assert_eq!(missing(&rules, both("Token y")), Some(1), "only a lenient app reads it");
}

#[test]
fn rules_of_one_name_are_satisfied_by_one_token() {
    let group =
        |name: &str, place| TokenRule { required: Some(Required::Group(name.to_owned())), ..TokenRule::new(place) };
    let rules = rules(vec![
        group("person", Location::Cookie("sid".to_owned())),
        group("person", Location::Bearer),
        TokenRule::new(Location::Query("t".to_owned())),
    ]);
    assert_eq!(missing(&rules, Request::get("/")), Some(0));
    assert_eq!(missing(&rules, Request::get("/?t=x")), Some(0), "a rule of no group");
    assert_eq!(missing(&rules, Request::get("/").header("cookie", "sid=x")), None);
    assert_eq!(missing(&rules, Request::get("/").header("authorization", "Bearer x")), None);
}

#[test]
fn the_way_to_a_token_is_open() {
    let issues = |path| TokenRule {
        paths: Some(paths(&[path])),
        ..TokenRule::new(Location::ResponseJson(Pointer::parse("/token").unwrap()))
    };
    let rules = rules(vec![cookie(), issues("/api/login")]);
    for path in ["/login", "/login?next=/", "/api/login", "//api/login/"] {
        assert_eq!(missing(&rules, Request::post(path)), None, "{path}");
    }
    // Another app may read these as another path.
    for path in ["/me/..;/login", "/api/login/..;/me", "/api/me/..;/login"] {
        assert_eq!(missing(&rules, Request::post(path)), Some(0), "{path}");
    }
    let preflight =
        || Request::options("/me").header("origin", "http://a").header("access-control-request-method", "PUT");
    assert_eq!(missing(&rules, preflight()), None);
    assert_eq!(missing(&rules, preflight().header("cookie", "a=1 sid=x")), Some(0), "browsers send no cookie with it");
    assert_eq!(missing(&rules, preflight().header("authorization", "Bearer x")), Some(0));
    assert_eq!(missing(&rules, preflight().method("POST")), Some(0));
    assert_eq!(missing(&rules, Request::options("/me")), Some(0));
}

#[test]
fn a_rule_applies_neither_on_its_exceptions_nor_to_other_methods() {
    let rule = TokenRule { except: paths(&["/static/*"]), methods: Some(vec![Method::GET, Method::POST]), ..cookie() };
    let rules = rules(vec![rule]);
    for (method, path, needs) in [
        ("GET", "/", true),
        ("HEAD", "/", true),
        ("POST", "/static", false),
        ("POST", "/static/..;/me", true),
        ("DELETE", "/", false),
    ] {
        assert_eq!(missing(&rules, Request::builder().method(method).uri(path)).is_some(), needs, "{method} {path}");
    }
    let (head, ()) = Request::put("/").header("cookie", "sid=x").body(()).unwrap().into_parts();
    assert!(rules.in_head(&Route::of(&head), &head).is_empty(), "it looks for no token there either");
}

#[test]
fn a_value_without_the_format_is_no_token_and_a_token_within_it_can_still_be_dead() {
    let format = Some(Pattern::whole("[a-z]{4}").unwrap());
    let of = |place| {
        rules(vec![TokenRule { format: format.clone(), required: Some(Required::Own), ..TokenRule::new(place) }])
    };
    let readings = |place: Location, request: request::Builder| {
        let (head, ()) = request.body(()).unwrap().into_parts();
        of(place).in_head(&Route::of(&head), &head).iter().map(|one| one.loose).collect::<Vec<_>>()
    };
    let cookie = || Location::Cookie("sid".to_owned());
    for (value, loose) in [
        ("sid=abcd", &[false][..]),
        ("a=1;  sid=abcd ;b", &[false]),
        ("sid=\"abcd\"", &[true]),
        ("sid=%61bcd", &[true]),
        ("sid=abcd x=1", &[]),
        ("sid=abcde", &[]),
        ("sid=", &[]),
        ("sid=ABCD; sid=abcd", &[false]),
    ] {
        let request = || Request::get("/").header("cookie", value);
        assert_eq!(readings(cookie(), request()), loose, "{value}");
        assert_eq!(missing(&of(cookie()), request()).is_none(), loose == [false], "{value}");
    }
    for (value, loose) in
        [("Bearer abcd", &[false][..]), ("Bearer  abcd", &[true]), ("abcd", &[true]), ("Basic x", &[])]
    {
        assert_eq!(readings(Location::Bearer, Request::get("/").header("authorization", value)), loose, "{value}");
    }
    for (target, loose) in
        [("/?t=abcd", &[false][..]), ("/?t=%61bcd", &[false]), ("/?t=abcd+", &[true]), ("/?t=x", &[])]
    {
        assert_eq!(readings(Location::Query("t".to_owned()), Request::get(target)), loose, "{target}");
    }
    let header = || Location::Header("x-token".parse().unwrap());
    for (value, loose) in [(&b"abcd"[..], &[false][..]), (b"\xc2\xa0abcd", &[true]), (b"ab\xe9d", &[])] {
        let value = ::http::HeaderValue::from_bytes(value).unwrap();
        assert_eq!(readings(header(), Request::get("/").header("x-token", &value)), loose, "{value:?}");
    }
}

#[test]
fn only_a_cookie_that_was_sent_is_removed() {
    let rules = rules(vec![cookie()]);
    let cookies = |value: &str| {
        let (head, ()) = Request::get("/").header("cookie", value).body(()).unwrap().into_parts();
        Requirements::of(&rules, &Route::of(&head), &head, &PathSet::default()).cookies()
    };
    for value in ["sid", "a=1,sid=x", "sid =x", "a=1 sid=x"] {
        assert_eq!(cookies(value), ["sid"], "{value}");
    }
    assert!(cookies("theme=dark").is_empty());
}
