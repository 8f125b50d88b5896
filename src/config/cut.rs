//! `[cut]`: what clients receive when they are cut or refused.

use super::error::{ValueError, echo};
use super::section::Section;
use super::value::{duration_or_zero, integer_in, not_a};
use crate::cut::{Cut, CutWords, HandshakeRefusal, PAGE_PLACEHOLDER, login_path};
use crate::route::{PathPattern, PathSet};
use crate::session::Reason;
use crate::websocket::MAX_REASON_BYTES;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::time::Duration;
use toml::de::DeValue;

const DEFAULT_CODE: u16 = 1008;

/// The table of what a client receives without a token that a rule requires.
pub(super) const MISSING: &str = "missing";

/// The table of what a client receives with a token that the app was not seen to hand out.
pub(super) const UNKNOWN: &str = "unknown";

/// The maximum length of a message.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Header fields about the connection and the body length. idlegate sets them itself.
const FRAMING: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// The delay between a logout and the closing of the session's other connections. It lets the tab that logged out
/// receive the app's confirmation.
const DEFAULT_LOGOUT_DELAY: Duration = Duration::from_secs(2);
const MAX_DELAY: Duration = Duration::from_secs(60);

/// Reads `[cut]`. Its own keys are the defaults for the tables of the reasons.
pub(super) fn cut(table: &mut Section<'_, '_>) -> Cut {
    let ws_reason = table.text("ws_reason", reason);
    let mut common = CutWords {
        ws_message: None,
        ws_code: DEFAULT_CODE,
        ws_reason: String::new(),
        http_status: StatusCode::UNAUTHORIZED,
        http_body: None,
        http_headers: HeaderMap::new(),
        ws_refuse: None,
        login_url: None,
        clear_site_data: None,
        delay: Duration::ZERO,
    };
    read_words(table, &mut common);
    let mut words = |name: &str, default: &str| {
        let mut words = common.clone();
        words.ws_reason = ws_reason.clone().unwrap_or_else(|| default.to_owned());
        table.table(name, |table| {
            if let Some(text) = table.text("ws_reason", self::reason) {
                words.ws_reason = text;
            }
            read_words(table, &mut words);
            if name == Reason::Logout.name() {
                words.delay = table.duration("delay", delay).unwrap_or(DEFAULT_LOGOUT_DELAY);
            }
        });
        words
    };
    let mut cut = Cut {
        idle: words(Reason::Idle.name(), "Session ended: inactivity"),
        lifetime: words(Reason::Lifetime.name(), "Session ended: maximum lifetime"),
        logout: words(Reason::Logout.name(), "Session ended: logged out"),
        operator: words(Reason::Operator.name(), "Session ended by an operator"),
        missing: words(MISSING, "No session token"),
        unknown: words(UNKNOWN, "Unknown session token"),
        logins: PathSet::default(),
    };
    let logins = cut.all_words().into_iter().filter_map(|words| words.login_url.as_deref());
    cut.logins = logins.filter(|url| url.starts_with('/')).map(|url| PathPattern::exact(login_path(url))).collect();
    cut
}

/// Reads the keys of `table` into `words`. A missing key leaves the value unchanged.
fn read_words(table: &mut Section<'_, '_>, words: &mut CutWords) {
    fn set<T>(place: &mut T, read: Option<T>) {
        if let Some(value) = read {
            *place = value;
        }
    }
    set(&mut words.ws_message, table.text("ws_message", message));
    set(&mut words.ws_code, table.scalar("ws_code", code));
    set(&mut words.http_status, table.scalar("http_status", status));
    set(&mut words.http_body, table.text("http_body", |text| Ok(Some(text.to_owned()))));
    set(&mut words.http_headers, table.entries("http_headers", header).map(HeaderMap::from_iter));
    set(&mut words.ws_refuse, table.text("ws_refuse", |text| handshake_refusal(text).map(Some)));
    set(&mut words.login_url, table.text("login_url", login_url));
    set(&mut words.clear_site_data, table.list("clear_site_data", site_data).map(|kinds| clear_site_data(&kinds)));
}

fn delay(text: &str) -> Result<Duration, ValueError> {
    let delay = duration_or_zero(text)?;
    if delay > MAX_DELAY {
        let what = format!("{} is too long", echo(text));
        return Err(ValueError::new(what, "write up to 1m: the session's connections stay open for this time"));
    }
    Ok(delay)
}

/// An empty text means no message, so that an environment variable can remove the message of the file.
pub(super) fn message(text: &str) -> Result<Option<String>, ValueError> {
    if text.len() > MAX_MESSAGE_BYTES {
        return Err(ValueError::new(format!("{} bytes is too long", text.len()), "write up to 65536 bytes"));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn code(value: &DeValue<'_>) -> Result<u16, ValueError> {
    let code = integer_in(value, 1000..=4999_u16)?;
    // 1004 to 1006 and 1015 are never sent, 1010 only by clients, and the rest up to 2999 is reserved (RFC 6455 §7.4).
    if matches!(code, 1000..=1003 | 1007..=1009 | 1011..=1014 | 3000..=4999) {
        return Ok(code);
    }
    let fix = "write 1008 (policy violation), or a code of the app's own from 4000 to 4999";
    Err(ValueError::new(format!("a Close with code {code} must not be sent"), fix))
}

fn reason(text: &str) -> Result<String, ValueError> {
    if text.len() > MAX_REASON_BYTES {
        let what = format!("{} bytes do not fit into a Close frame", text.len());
        return Err(ValueError::new(what, format!("write up to {MAX_REASON_BYTES} bytes")));
    }
    Ok(text.to_owned())
}

fn status(value: &DeValue<'_>) -> Result<StatusCode, ValueError> {
    let code = integer_in(value, 400..=599_u16)?;
    StatusCode::from_u16(code)
        .map_err(|_| ValueError::new(format!("{code} is not a status"), "write a number from 400 to 599"))
}

fn header(name: &str, value: &DeValue<'_>) -> Result<(HeaderName, HeaderValue), ValueError> {
    let DeValue::String(value) = value else {
        return Err(not_a(value, "text", "write the header's value in quotes"));
    };
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        let what = format!("{} is not the name of a header", echo(name));
        return Err(ValueError::new(what, "write it like \"Access-Control-Allow-Origin\""));
    };
    if FRAMING.contains(&parsed) {
        let what = format!("the header {parsed} is set by idlegate itself");
        return Err(ValueError::new(what, "remove it"));
    }
    let value = header_value(value).ok_or_else(|| {
        ValueError::new(format!("the value of {parsed} has a character not allowed in headers"), ASCII)
    })?;
    Ok((parsed, value))
}

const ASCII: &str = "write it in printable ASCII, on one line";

fn header_value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok().filter(|value| value.to_str().is_ok())
}

/// An entry of `cors`, as browsers write it in `Origin`: without a path, and without the port that its scheme has anyway.
pub(super) fn origin(text: &str) -> Result<HeaderValue, ValueError> {
    const FIX: &str = "write it like \"https://app.example\" or \"http://localhost:3000\"";
    let lower = text.to_ascii_lowercase();
    let (host, default_port) = match lower.split_once("://") {
        Some(("https", host)) => (host, ":443"),
        Some(("http", host)) => (host, ":80"),
        _ => ("", ""),
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let value = lower.strip_suffix(default_port).unwrap_or(&lower);
    match HeaderValue::from_str(value) {
        Ok(value) if !host.is_empty() && host.bytes().all(is_host) => Ok(value),
        _ => Err(ValueError::new(format!("{} is not the origin of a site", echo(text)), FIX)),
    }
}

fn handshake_refusal(text: &str) -> Result<HandshakeRefusal, ValueError> {
    match text {
        "message" => Ok(HandshakeRefusal::Message),
        "status" => Ok(HandshakeRefusal::Status),
        _ => {
            let what = format!("{} is no way to refuse a handshake", echo(text));
            Err(ValueError::new(what, "write \"message\" or \"status\""))
        }
    }
}

/// The kinds of data that a site can clear (Clear Site Data §3.1).
const SITE_DATA: [&str; 5] = ["cache", "cookies", "storage", "executionContexts", "*"];

fn site_data(text: &str) -> Result<&'static str, ValueError> {
    SITE_DATA.into_iter().find(|kind| *kind == text).ok_or_else(|| {
        let what = format!("{} is no data that a browser clears", echo(text));
        ValueError::new(what, format!("use one of: {}", SITE_DATA.join(", ")))
    })
}

fn clear_site_data(kinds: &[&str]) -> Option<HeaderValue> {
    let quoted: Vec<_> = kinds.iter().map(|kind| format!("\"{kind}\"")).collect();
    if quoted.is_empty() { None } else { HeaderValue::from_str(&quoted.join(", ")).ok() }
}

/// An empty text means no URL, as for `ws_message`.
fn login_url(text: &str) -> Result<Option<String>, ValueError> {
    if text.is_empty() {
        return Ok(None);
    }
    let lower = text.to_ascii_lowercase();
    // Browsers read what follows a leading // or /\ as a host.
    let path = text.starts_with('/') && !text[1..].starts_with(['/', '\\']);
    if !path && !["http://", "https://"].iter().any(|scheme| lower.starts_with(scheme) && lower.len() > scheme.len()) {
        let what = format!("{} is neither a path nor a URL", echo(text));
        return Err(ValueError::new(what, "write it like \"/login\" or \"https://app.example/login\""));
    }
    if login_path(text).contains(PAGE_PLACEHOLDER) {
        let what = format!("{} has {PAGE_PLACEHOLDER} in its path", echo(text));
        return Err(ValueError::new(what, "write it into the query: \"/login?next={path}\""));
    }
    let value = header_value(text).filter(|_| !text.contains(' '));
    value.map(|_| Some(text.to_owned())).ok_or_else(|| {
        ValueError::new(format!("{} has a character not allowed in URLs", echo(text)), "percent-encode it")
    })
}
