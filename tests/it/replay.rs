//! The recording of the first app's wire (`tests/app/legacy-wire.json`), replayed through the binary with the shipped
//! configuration: each answer is the recorded one.

use crate::harness::{App, Idlegate, Message, PING, PONG, TEXT, Wire, eventually, masked};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const RECORDING: &str = include_str!("../app/legacy-wire.json");

/// Answers whose text depends on the installation: numbers of the machine, users of the database. Their form is compared.
const OTHER_CONTENT: [&str; 4] = ["health", "get-all-students, live token", "admin GET /api/admin/users", "index.html"];

/// Strings that are another at each run.
const OTHER_EACH_TIME: [&str; 3] = ["expires_at", "session_id", "token"];

/// What idlegate itself answers, where the app was asked in the recording: the tokens of sessions that have logged out.
const REFUSED: [&str; 2] = ["admin GET users after logout", "validate-session after logout"];

/// The tokens of this run, by their names in the recording.
#[derive(Default)]
struct Tokens(BTreeMap<String, String>);

impl Tokens {
    /// The text with this run's tokens.
    fn put_into(&self, recorded: &str) -> String {
        // TOKEN-ADMIN before TOKEN-A.
        self.0.iter().rev().fold(recorded.to_owned(), |text, (name, token)| text.replace(name, token))
    }

    /// Notes the tokens of an answer that issues some.
    fn learn(&mut self, recorded: &Value, answered: &Value) {
        for field in ["session_id", "token"] {
            if let (Some(name), Some(token)) = (recorded[field].as_str(), answered[field].as_str()) {
                self.0.insert(name.to_owned(), token.to_owned());
            }
        }
    }
}

fn fields(recorded: &Value) -> Vec<(String, String)> {
    let pair = |field: &Value| (field[0].as_str().unwrap().to_owned(), field[1].as_str().unwrap().to_owned());
    recorded.as_array().unwrap().iter().map(pair).collect()
}

/// The fields of an answer in their order; but for the date, which the recording leaves out.
fn fields_of(answer: &Message) -> Vec<(String, String)> {
    let lines = answer.head.trim_end().split("\r\n").skip(1).map(|line| line.split_once(": ").expect("a field"));
    lines
        .filter(|(name, _)| !name.eq_ignore_ascii_case("date"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Whether a document is the recorded one, or with `other_content` has its form.
fn assert_alike(recorded: &Value, answered: &Value, other_content: bool, place: &str) {
    match (recorded, answered) {
        (Value::Object(recorded), Value::Object(answered)) => {
            let keys = |object: &serde_json::Map<String, Value>| -> Vec<String> {
                object.keys().filter(|key| *key != "warning").cloned().collect()
            };
            assert_eq!(keys(recorded), keys(answered), "{place}");
            for key in keys(recorded) {
                let other_content = other_content || OTHER_EACH_TIME.contains(&key.as_str());
                assert_alike(&recorded[&key], &answered[&key], other_content, &format!("{place}/{key}"));
            }
        }
        (Value::Array(recorded), Value::Array(answered)) if other_content => {
            assert_alike(&recorded[0], &answered[0], true, place);
        }
        (Value::String(_), Value::String(_)) | (Value::Number(_), Value::Number(_)) if other_content => {}
        _ => assert_eq!(recorded, answered, "{place}"),
    }
}

async fn exchange(proxy: &Idlegate, tokens: &mut Tokens, recorded: &Value) {
    let name = recorded["name"].as_str().unwrap();
    let request = &recorded["request"];
    let body = tokens.put_into(request["body"].as_str().unwrap());
    let mut head = format!("{}\r\nHost: {}\r\n", request["line"].as_str().unwrap(), proxy.address);
    for (field, value) in fields(&request["headers"]) {
        let value = if field == "Content-Length" { body.len().to_string() } else { tokens.put_into(&value) };
        write!(head, "{field}: {value}\r\n").unwrap();
    }
    let mut client = Wire::connect(proxy.address).await;
    client.send(format!("{head}\r\n{body}")).await;
    let head = client.head().await;
    // What answers HEAD has no body, whatever its length says.
    let answer = if request["line"].as_str().unwrap().starts_with("HEAD ") {
        Message { head, body: Vec::new(), trailers: String::new() }
    } else {
        client.with_body(head).await.expect("the whole body")
    };

    let expected = &recorded["answer"];
    assert_eq!(answer.head.lines().next(), expected["line"].as_str(), "{name}");
    let body = expected["body"].as_str().unwrap();
    if REFUSED.contains(&name) {
        let own = ["content-type", "cache-control", "access-control-allow-origin", "content-length"];
        let names: Vec<_> = fields_of(&answer).into_iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        assert_eq!(names, own, "{name}");
        // In the app's own words, whichever of its answers that is.
        assert_eq!(answer.text(), r#"{"success": false, "error": "Invalid or expired session"}"#, "{name}");
        return;
    }
    let other_content = OTHER_CONTENT.contains(&name) || body.contains(OTHER_CONTENT[3]);
    let (fields, expected_fields) = (fields_of(&answer), fields(&expected["headers"]));
    assert_eq!(fields.len(), expected_fields.len(), "{name}: {}", answer.head);
    for ((field, value), (expected_field, expected_value)) in fields.iter().zip(&expected_fields) {
        assert_eq!(field, expected_field, "{name}");
        if field == "Content-Length" && !body.contains(OTHER_CONTENT[3]) && !answer.body.is_empty() {
            assert_eq!(*value, answer.body.len().to_string(), "{name}");
        } else if field != "Etag" {
            assert_eq!(value, expected_value, "{name}");
        }
    }
    // The recording cuts long lists off; their first elements are whole.
    let whole = match body.split_once("characters)") {
        Some(_) => format!("{}}}]}}", body.split_once('}').unwrap().0),
        None => body.to_owned(),
    };
    match serde_json::from_str::<Value>(&whole) {
        Ok(expected) => {
            let answered: Value = serde_json::from_slice(&answer.body).unwrap();
            tokens.learn(&expected, &answered);
            assert_alike(&expected, &answered, other_content, name);
        }
        Err(_) if body.contains(OTHER_CONTENT[3]) => assert!(answer.text().starts_with("<!doctype html>"), "{name}"),
        Err(_) => assert_eq!(answer.text(), body, "{name}"),
    }
}

/// A socket on which a part of the recording is replayed.
struct Replayed(Wire);

impl Replayed {
    /// The next frame that is no ping: when those come, the recording leaves to the app's timer.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            let frame = self.0.frame().await;
            if frame.0 != PING {
                return frame;
            }
        }
    }

    async fn play(&mut self, tokens: &mut Tokens, steps: &[Value]) {
        for step in steps {
            let payload = tokens.put_into(step["payload"].as_str().unwrap_or_default());
            match (step["client"].as_str(), step["server"].as_str()) {
                (Some("text"), _) => self.0.send(masked(TEXT, payload.as_bytes())).await,
                (Some("pong"), _) => self.0.send(masked(PONG, payload.as_bytes())).await,
                (_, Some("handshake")) => {
                    let head = self.0.upgrade("/ws", "").await;
                    let lines: Vec<_> = head.lines().collect();
                    for line in step["lines"].as_array().unwrap() {
                        assert!(lines.contains(&line.as_str().unwrap()), "{line}: {head}");
                    }
                }
                (_, Some("text")) => {
                    let (first, answered) = self.frame().await;
                    assert_eq!(first, TEXT);
                    let answered: Value = serde_json::from_slice(&answered).unwrap();
                    let recorded: Value = serde_json::from_str(step["payload"].as_str().unwrap()).unwrap();
                    tokens.learn(&recorded, &answered);
                    let recorded: Value = serde_json::from_str(&tokens.put_into(&recorded.to_string())).unwrap();
                    assert_alike(&recorded, &answered, false, "a message");
                }
                (_, Some("ping")) => assert_eq!(self.0.frame().await, (PING, payload.into_bytes())),
                (_, Some("close")) => {
                    let code = u16::try_from(step["code"].as_u64().unwrap()).unwrap();
                    let close = [&code.to_be_bytes()[..], step["reason"].as_str().unwrap().as_bytes()].concat();
                    assert_eq!(self.frame().await, (0x88, close));
                }
                other => panic!("a step of another kind: {other:?}"),
            }
        }
    }

    async fn new(proxy: &Idlegate) -> Self {
        Self(Wire::connect(proxy.address).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_the_first_app_comes_through_as_recorded() {
    let recording: Value = serde_json::from_str(RECORDING).unwrap();
    let http = recording["http"].as_array().unwrap();
    let sockets: Vec<_> =
        recording["websocket"].as_array().unwrap().iter().map(|one| one["exchange"].as_array().unwrap()).collect();
    assert_eq!((http.len(), sockets.len()), (31, 4), "the whole recording");
    // Pings come when the first socket waits for one, and on no other before it has closed.
    let app = App::start(&["--ping", "2"]);
    let proxy = Idlegate::shipped(&app.upstream, &[]);
    let mut tokens = Tokens::default();
    let logout = http.iter().position(|one| one["name"] == "logout").unwrap();
    for one in &http[..logout] {
        exchange(&proxy, &mut tokens, one).await;
    }
    // The second socket has the token of the first, which the app closes.
    let kick = sockets[0].len() - 2;
    let mut first = Replayed::new(&proxy).await;
    first.play(&mut tokens, &sockets[0][..kick]).await;
    let mut second = Replayed::new(&proxy).await;
    second.play(&mut tokens, sockets[1]).await;
    first.play(&mut tokens, &sockets[0][kick..]).await;
    Replayed::new(&proxy).await.play(&mut tokens, sockets[2]).await;
    for one in &http[logout..] {
        exchange(&proxy, &mut tokens, one).await;
    }
    // The admin's, the student's; not the professor's, who never logged out.
    eventually("both logouts", async || proxy.records("end").len() == 2).await;
    assert!(proxy.records("end").iter().all(|record| record["reason"] == "logout"));
    // The app leaves the socket of a session working that has logged out. idlegate does not: it is cut.
    let (first, farewell) = second.frame().await;
    assert_eq!(
        (first, serde_json::from_slice::<Value>(&farewell).unwrap()["type"].as_str()),
        (TEXT, Some("session_terminated"))
    );
    assert_eq!(second.frame().await.0, 0x88);
    // And it refuses the token on a new one, where the app answers with an error.
    let mut late = Replayed::new(&proxy).await;
    late.play(&mut tokens, &sockets[3][..2]).await;
    let mut message = Value::Null;
    // The app's greeting may come before or not at all: idlegate does not wait for it.
    while message["type"] != "session_terminated" {
        assert!(message.is_null() || message["type"] == "auth_required", "{message}");
        message = serde_json::from_slice(&late.frame().await.1).unwrap();
    }
    assert_eq!(late.frame().await.0, 0x88);
    eventually("the refusals to be recorded", async || proxy.records("refuse").len() == 3).await;
}
