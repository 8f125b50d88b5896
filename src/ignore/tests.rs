use super::*;
use crate::token::json::Pointer;
use crate::token::{Conditions, Expected, Pattern, Scalar};
use http::{HeaderName, Method, Request};
use proptest::prelude::*;

fn text(text: &str) -> Expected {
    Expected::Equal(Scalar::Text(text.to_owned()))
}

fn rules(paths: Option<&[&str]>, request: RequestMatch) -> IgnoreRules {
    let paths = paths.map(|paths| paths.iter().map(|path| crate::route::PathPattern::parse(path).unwrap()).collect());
    IgnoreRules::new(vec![IgnoreRule { name: "one".to_owned(), paths, what: Ignored::Request(request) }])
}

fn by_head(rules: &IgnoreRules, method: &str, target: &str, headers: &[(&str, &str)]) -> ByHead {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    rules.by_head(&Route::of(&head), &head)
}

#[test]
fn all_conditions_on_a_request_must_hold() {
    let request = RequestMatch {
        methods: Some(vec![Method::GET]),
        query: vec![("silent".to_owned(), text("a b"))],
        headers: vec![(HeaderName::from_static("x-poll"), Expected::Exists(true))],
        json: None,
    };
    let rules = rules(Some(&["/api/*"]), request);
    let poll = [("X-Poll", "")];
    assert_eq!(by_head(&rules, "GET", "/api/x?a=1&silent=a+b", &poll), ByHead::Ignored(0));
    assert_eq!(by_head(&rules, "HEAD", "/api/x?s%69lent=a%20b", &poll), ByHead::Ignored(0));
    for (method, target, headers) in [
        ("POST", "/api/x?silent=a+b", &poll[..]),
        ("GET", "/other?silent=a+b", &poll),
        ("GET", "/api/x?silent=c", &poll),
        ("GET", "/api/x", &poll),
        ("GET", "/api/x?silent=a+b", &[]),
        // One of its readings is another path.
        ("GET", "/api/x%2f..%2f..%2fother?silent=a+b", &poll),
    ] {
        assert_eq!(by_head(&rules, method, target, headers), ByHead::Counts, "{method} {target}");
    }
}

#[test]
fn a_condition_on_the_body_waits_for_it() {
    let json = Conditions(vec![(Pointer::parse("/changedPropIds/0").unwrap(), text("timer.n"))]);
    let rules = rules(None, RequestMatch { json: Some(json), ..RequestMatch::default() });
    let ByHead::AsksBody(asking) = by_head(&rules, "POST", "/update", &[]) else { panic!("decided by the head") };
    assert_eq!(rules.by_body(&asking, br#"{"changedPropIds": ["timer.n"]}"#), Some(0));
    for body in [&br#"{"changedPropIds": ["button.n"]}"#[..], b"{}", b"timer.n", b""] {
        assert_eq!(rules.by_body(&asking, body), None);
    }
}

fn message_rules(all: Vec<MessageMatch>) -> MessageRules {
    MessageRules::new(all.into_iter().enumerate().collect()).unwrap()
}

fn ignores(rule: MessageMatch, is_binary: bool, bytes: &[u8]) -> bool {
    let rules = message_rules(vec![rule]);
    let start = bytes.get(..rules.needs().min(bytes.len())).unwrap();
    rules.ignoring(Message { is_binary, start, size: Some(bytes.len() as u64) }).is_some()
}

#[test]
fn a_message_is_ignored_by_its_text_prefix_json_pattern_or_size() {
    let any = MessageMatch::default;
    let json = Conditions(vec![(Pointer::parse("/type").unwrap(), text("ping"))]);
    let rule = MessageMatch { text: Some(vec!["2".to_owned(), "3".to_owned()]), ..any() };
    for (bytes, ignored) in [("3", true), ("2", true), ("", false), ("33", false), ("4", false)] {
        assert_eq!(ignores(rule.clone(), false, bytes.as_bytes()), ignored, "{bytes}");
    }
    assert!(!ignores(rule, true, b"3"), "a text is no binary message");
    let rule = MessageMatch { prefix: Some("42[\"ping\"".to_owned()), ..any() };
    assert!(ignores(rule.clone(), false, "42[\"ping\",1]".as_bytes()));
    assert!(!ignores(rule, false, "42[\"edit\",1]".as_bytes()));
    let rule = MessageMatch { json: Some(json), ..any() };
    assert!(ignores(rule.clone(), false, br#"{"type": "ping", "id": 7}"#));
    let long = format!(r#"{{"type": "ping", "x": "{}"}}"#, "x".repeat(MAX_MESSAGE_BYTES));
    assert!(!ignores(rule, false, long.as_bytes()), "too long to be looked at");
    let rule = MessageMatch { regex: Some(Pattern::anywhere("^\n.*pong").unwrap()), ..any() };
    assert!(ignores(rule.clone(), false, b"\n{\"command\":\"pong\"}"));
    assert!(!ignores(rule, false, b"1:2\n{\"command\":\"pong\"}"));
    let rule = MessageMatch { binary_prefix: Some(vec![9]), size: Some(13..=13), ..any() };
    assert!(ignores(rule.clone(), true, &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert!(!ignores(rule.clone(), true, &[9; 14]));
    assert!(!ignores(rule.clone(), true, &[8; 13]));
    assert!(!ignores(rule, false, &[9; 13]));
}

proptest! {
    #[test]
    fn a_message_that_has_not_ended_is_ignored_only_if_it_is_in_the_end(
        bytes in proptest::collection::vec(prop_oneof![Just(b'2'), Just(b'3'), Just(b'x')], 0..12),
        at in 0_usize..12,
        size in 0_u64..8,
    ) {
        let rules = message_rules(vec![
            MessageMatch { text: Some(vec!["23".to_owned()]), ..MessageMatch::default() },
            MessageMatch { prefix: Some("3x".to_owned()), ..MessageMatch::default() },
            MessageMatch { size: Some(size..=size + 1), prefix: Some("2".to_owned()), ..MessageMatch::default() },
        ]);
        let start = &bytes[..at.min(bytes.len())];
        let early = rules.ignoring(Message { is_binary: false, start, size: None });
        let late = rules.ignoring(Message { is_binary: false, start: &bytes, size: Some(bytes.len() as u64) });
        prop_assert!(early.is_none() || late.is_some());
    }
}
