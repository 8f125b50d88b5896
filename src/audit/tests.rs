//! The exact text of audit events, and how clients cannot corrupt it.

use super::record::IgnoredBefore;
use super::record::line;
use super::*;
use crate::metrics::Refused;
use crate::session::{Mode, Reason, SessionId, Source};
use crate::store::Ended;
use crate::token::Carrier;
use serde_json::{Value, json};
use std::net::IpAddr;

const ENDED: Ended = Ended {
    last_activity: 1_759_431_600,
    source: Source::ClientPong,
    created: 1_759_428_000,
    ended: 1_759_435_201,
    reason: Reason::Idle,
    watermark: 1_759_435_201,
    remembered_for: 0,
    counting: None,
};

fn caller(path: &[u8]) -> Caller {
    Caller::new(IpAddr::from([192, 0, 2, 7]), &http::Method::GET, path)
}

fn context(session: Option<SessionId>, caller: Option<&Caller>) -> DecisionContext<'_> {
    let (limit, lifetime, now) = (3600, None, Some(1_759_435_999));
    DecisionContext {
        replica: "web-1-0000abcd",
        mode: Mode::Enforce,
        limit,
        lifetime,
        now,
        session,
        caller,
        struck_off: &[],
    }
}

/// The audit event of a decision about a session, for a caller at `/api/x`.
fn record(decision: Decision<'_>) -> Value {
    let caller = caller(b"/api/x");
    let line = line(decision, &context(Some(SessionId::of_token(b"abc")), Some(&caller)), 1_759_435_999_042);
    serde_json::from_str(&line).unwrap()
}

fn end(ended: &Ended, done: bool) -> Value {
    record(Decision::End { ended, done, connections: 2, ignored: None })
}

#[test]
fn a_cut_is_one_line_with_its_arithmetic() {
    let caller = caller(b"/ws");
    let decision = Decision::End { ended: &ENDED, done: true, connections: 2, ignored: None };
    let line = line(decision, &context(Some(SessionId::of_token(b"abc")), Some(&caller)), 1_759_435_201_042);
    let expected = concat!(
        r#"{"time":"2025-10-02T20:00:01.042Z","event":"cut","#,
        r#""says":"idle 3601 s > 3600 s, last activity 1759431600 by client-pong","#,
        r#""session":"ba7816bf8f01cfea414140de5dae2223","limit":3600,"reason":"idle","#,
        r#""last_activity":1759431600,"source":"client-pong","idle":3601,"created":1759428000,"now":1759435201,"#,
        r#""mode":"enforce","watermark":1759435201,"connections":2,"client":"192.0.2.7","route":"/ws","#,
        r#""replica":"web-1-0000abcd"}"#,
    );
    assert_eq!(line, expected);
}

#[test]
fn each_decision_has_a_name_and_a_sentence() {
    let by = |reason| Ended { reason, ..ENDED };
    let idle = "idle 3601 s > 3600 s, last activity 1759431600 by client-pong";
    let by_hand = "idle 3601 s, last activity 1759431600 by client-pong";
    let refusal = |done| Decision::Refusal { ended: &ENDED, done, carrier: Carrier::Tunnel };
    let missing = |done, left_out| Decision::Unadmitted {
        reason: Refused::Missing,
        rule: "token.0 (cookie sid)",
        done,
        carrier: Carrier::Request,
        left_out,
    };
    let mode =
        Decision::Mode { before: Mode::Enforce, after: Mode::Observe, by: "fleet", set: None, past_the_limit: 3 };
    let set = Some(Mode::Observe);
    let set = Decision::Mode { before: Mode::Off, after: Mode::Off, by: "fleet", set, past_the_limit: 0 };
    for (record, event, says) in [
        (record(Decision::Start { created: Some(7) }), "start", "the app accepted its token".to_owned()),
        (end(&ENDED, true), "cut", idle.to_owned()),
        (end(&ENDED, false), "would-cut", format!("would be cut: {idle}")),
        // The lifetime that it exceeded is unknown here.
        (end(&by(Reason::Lifetime), true), "cut", format!("7201 s old, {by_hand}")),
        (end(&by(Reason::Logout), true), "end", format!("its user logged out, {by_hand}")),
        (end(&by(Reason::Logout), false), "would-end", format!("would be ended: its user logged out, {by_hand}")),
        (end(&by(Reason::Operator), true), "end", format!("an operator ended it, {by_hand}")),
        (record(refusal(true)), "refuse", format!("refused, dead since 1759435201: {idle}")),
        (record(refusal(false)), "would-refuse", format!("would be refused, dead since 1759435201: {idle}")),
        (
            record(missing(true, 0)),
            "refuse",
            "refused: without the token that token.0 (cookie sid) requires".to_owned(),
        ),
        (
            record(missing(false, 7)),
            "would-refuse",
            "would be refused: without the token that token.0 (cookie sid) requires".to_owned(),
        ),
        (record(mode), "mode", "enforce to observe by fleet, 3 sessions past the limit".to_owned()),
        (record(set), "mode", "off stays: fleet was set to observe".to_owned()),
    ] {
        assert_eq!((&record["event"], &record["says"]), (&json!(event), &json!(says)), "{record}");
    }
}

#[test]
fn a_missing_token_is_told_apart_from_a_dead_one() {
    let missing = Decision::Unadmitted {
        reason: Refused::Missing,
        rule: "token.1 (bearer)",
        done: true,
        carrier: Carrier::Tunnel,
        left_out: 0,
    };
    let caller = caller(b"/ws");
    let line = line(missing, &context(None, Some(&caller)), 1_759_435_201_042);
    let expected = concat!(
        r#"{"time":"2025-10-02T20:00:01.042Z","event":"refuse","#,
        r#""says":"refused: without the token that token.1 (bearer) requires","#,
        r#""reason":"missing","rule":"token.1 (bearer)","now":1759435999,"mode":"enforce","carrier":"tunnel","#,
        r#""client":"192.0.2.7","route":"/ws","replica":"web-1-0000abcd"}"#,
    );
    assert_eq!(line, expected);
    let missing = Decision::Unadmitted {
        reason: Refused::Missing,
        rule: "token.1 (bearer)",
        done: true,
        carrier: Carrier::Tunnel,
        left_out: 7,
    };
    assert_eq!(record(missing)["left_out"], 7);
}

#[test]
fn idle_time_of_a_cut_counts_from_the_start_of_unbroken_counting() {
    let counting = Some(ENDED.ended - 3601);
    let late = Ended { last_activity: ENDED.last_activity - 7200, counting, ..ENDED };
    let cut = record(Decision::End { ended: &late, done: true, connections: 0, ignored: None });
    assert_eq!((&cut["idle"], &cut["counting"]), (&json!(3601), &json!(1_759_431_600)));
    let says = "idle 3601 s > 3600 s, counted since 1759431600, last activity 1759424400 by client-pong";
    assert_eq!(cut["says"], says);
    // The same for refusals that follow.
    let refused = record(Decision::Refusal { ended: &late, done: true, carrier: Carrier::Request });
    assert_eq!((&refused["idle"], &refused["counting"]), (&cut["idle"], &cut["counting"]));
    assert_eq!(refused["says"], format!("refused, dead since 1759435201: {says}"));
}

#[test]
fn an_end_after_a_replica_was_struck_off_names_it() {
    let struck_off = ["web-1-0000abcd", "web-2-0000abce"].map(str::to_owned);
    let context = DecisionContext { struck_off: &struck_off, ..context(None, None) };
    let line = line(Decision::End { ended: &ENDED, done: true, connections: 0, ignored: None }, &context, 0);
    let cut: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(cut["struck_off"], json!(struck_off));
    let says = "; without what clients of web-1-0000abcd, web-2-0000abce did since it last reported (struck off)";
    assert!(cut["says"].as_str().unwrap().ends_with(says), "{cut}");
}

#[test]
fn a_limit_is_named_only_if_it_was_exceeded() {
    // It ended under a shorter limit than the current one.
    let early = Ended { ended: ENDED.last_activity + 901, ..ENDED };
    let refused = record(Decision::Refusal { ended: &early, done: true, carrier: Carrier::Request });
    let says = "refused, dead since 1759432501: idle 901 s, last activity 1759431600 by client-pong";
    assert_eq!(refused["says"], says);
    let old = Ended { reason: Reason::Lifetime, ..ENDED };
    let decision = Decision::End { ended: &old, done: true, connections: 0, ignored: None };
    let line = line(decision, &DecisionContext { lifetime: Some(7200), ..context(None, None) }, 0);
    assert!(line.contains(r#""says":"7201 s old > 7200 s, idle 3601 s, last activity"#), "{line}");
}

#[test]
fn unknown_values_are_left_out() {
    let names = |decision, context: &DecisionContext<'_>| -> Vec<String> {
        let record: Value = serde_json::from_str(&line(decision, context, 0)).unwrap();
        record.as_object().unwrap().keys().cloned().collect()
    };
    let unknown = DecisionContext { now: None, ..context(Some(SessionId::of_token(b"abc")), None) };
    let start = names(Decision::Start { created: None }, &unknown);
    assert_eq!(start, ["event", "limit", "mode", "replica", "says", "session", "time"]);
    let mode = Decision::Mode { before: Mode::Off, after: Mode::Enforce, by: "time", set: None, past_the_limit: 0 };
    let mode = names(mode, &context(None, None));
    let expected = ["after", "before", "by", "event", "mode", "now", "past_the_limit", "replica", "says", "time"];
    assert_eq!(mode, expected);
    // A refusal does not know the watermark of a decision that was made elsewhere or long ago.
    let refusal = Decision::Refusal { ended: &ENDED, done: true, carrier: Carrier::Request };
    let refusal = names(refusal, &context(Some(SessionId::of_token(b"abc")), None));
    assert!(refusal.contains(&"ended".to_owned()) && !refusal.contains(&"watermark".to_owned()), "{refusal:?}");
}

#[test]
fn any_requested_route_is_shown_short_and_printable() {
    let nasty = "/a\"b\\c\nd\r\u{1b}[31m\u{9b}\u{202e}\0 e%41/{}<script>";
    let shown = caller(nasty.as_bytes());
    assert_eq!(shown.route(), "/a\"b\\c%0Ad%0D%1B[31m%C2%9B%E2%80%AE%00%20e%2541/{}<script>");
    assert_eq!(shown.client(), "192.0.2.7");
    let long = caller(&[b"/".as_slice(), &[b'x'; 10_240]].concat());
    assert_eq!((long.route().len(), long.route().ends_with("xxx...")), (103, true), "{}", long.route());
    // An encoded character stays whole.
    let encoded = caller("/é".repeat(10_240).as_bytes());
    assert_eq!(encoded.route(), format!("{}/...", "/%C3%A9".repeat(14)));
    assert_eq!(caller(b"").route(), "");
    let decision = Decision::Start { created: None };
    let line = line(decision, &context(None, Some(&shown)), 0);
    assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{line}");
    let record: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(record["route"], shown.route());
}

#[test]
fn an_end_soon_after_ignored_traffic_names_the_rule() {
    let ignored = Some(IgnoredBefore { rule: "polls", count: 12, last: ENDED.ended - 3 });
    let end = record(Decision::End { ended: &ENDED, done: true, connections: 0, ignored });
    assert_eq!(end["ignored"], json!({"rule": "polls", "count": 12, "last": ENDED.ended - 3}));
    let says = end["says"].as_str().unwrap();
    assert!(says.ends_with("; rule polls ignored its traffic 12 times, last 3 s before the end"), "{says}");
    let without = record(Decision::End { ended: &ENDED, done: true, connections: 0, ignored: None });
    assert!(without.get("ignored").is_none(), "{without}");
}
