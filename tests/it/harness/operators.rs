//! What a test asks as an operator.

use super::{Idlegate, Request};
use http::{Method, StatusCode};
use serde_json::Value;

/// The session id of a token.
pub fn id(token: &str) -> String {
    idlegate::session::SessionId::of_token(token.as_bytes()).to_string()
}

/// Asks the listener of operators.
pub async fn ask(proxy: &Idlegate, method: Method, path: &str) -> (StatusCode, Value) {
    let answer = Request::new(proxy.admin(), method, path).send().await;
    (answer.status, answer.json())
}

/// Sets a switch.
pub async fn switch(proxy: &Idlegate, change: Value) -> (StatusCode, Value) {
    let answer = Request::new(proxy.admin(), Method::PUT, "/mode").json(&change).send().await;
    (answer.status, answer.json())
}
