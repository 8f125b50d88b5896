//! `[cut]`: the goodbye.

use super::Cut;
use super::problem::{Fault, echo};
use super::section::Section;
use super::value::{integer_in, not_a};
use crate::frame::LONGEST_REASON;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use toml::de::DeValue;

const DEFAULT_CODE: u16 = 1008;
const DEFAULT_REASON: &str = "Session ended: inactivity";
const DEFAULT_BODY: &str = r#"{"error":"session ended"}"#;

/// A message longer than this is none that a client waits for.
const LONGEST_MESSAGE: usize = 64 * 1024;
/// What idlegate itself says about the connection and the length of the body.
const FRAMING: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Reads `[cut]`.
pub(super) fn cut(table: &mut Section<'_, '_>) -> Cut {
    Cut {
        ws_message: table.text("ws_message", message).flatten(),
        ws_code: table.scalar("ws_code", code).unwrap_or(DEFAULT_CODE),
        ws_reason: table.text("ws_reason", reason).unwrap_or_else(|| DEFAULT_REASON.to_owned()),
        http_status: table.scalar("http_status", status).unwrap_or(StatusCode::UNAUTHORIZED),
        http_body: table.text("http_body", |text| Ok(text.to_owned())).unwrap_or_else(|| DEFAULT_BODY.to_owned()),
        http_headers: table.entries("http_headers", header).map(HeaderMap::from_iter).unwrap_or_default(),
        login_url: table.text("login_url", login_url).flatten(),
    }
}

/// An empty text means no message: it is how an environment variable takes away the file's.
fn message(text: &str) -> Result<Option<String>, Fault> {
    if text.len() > LONGEST_MESSAGE {
        return Err(Fault::new(format!("{} bytes are too long", text.len()), "write 65536 bytes at most"));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn code(value: &DeValue<'_>) -> Result<u16, Fault> {
    let code = integer_in(value, 1000..=4999_u16)?;
    // 1004 to 1006 and 1015 are never sent, 1010 only by clients, and the rest up to 2999 is reserved (RFC 6455 §7.4).
    if matches!(code, 1000..=1003 | 1007..=1009 | 1011..=1014 | 3000..=4999) {
        return Ok(code);
    }
    let cure = "write 1008 (policy violation), or a code of the app's own from 4000 to 4999";
    Err(Fault::new(format!("a Close with code {code} must not be sent"), cure))
}

fn reason(text: &str) -> Result<String, Fault> {
    if text.len() > LONGEST_REASON {
        let what = format!("{} bytes do not fit into a Close frame", text.len());
        return Err(Fault::new(what, format!("write {LONGEST_REASON} bytes at most")));
    }
    Ok(text.to_owned())
}

fn status(value: &DeValue<'_>) -> Result<StatusCode, Fault> {
    let code = integer_in(value, 400..=599_u16)?;
    StatusCode::from_u16(code)
        .map_err(|_| Fault::new(format!("{code} is not a status"), "write a number from 400 to 599"))
}

fn header(name: &str, value: &DeValue<'_>) -> Result<(HeaderName, HeaderValue), Fault> {
    let DeValue::String(value) = value else {
        return Err(not_a(value, "text", "write the header's value in quotes"));
    };
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        let what = format!("{} is not the name of a header", echo(name));
        return Err(Fault::new(what, "write it like \"Access-Control-Allow-Origin\""));
    };
    if FRAMING.contains(&parsed) {
        let what = format!("the header {parsed} is idlegate's own to set");
        return Err(Fault::new(what, "remove it"));
    }
    let value = header_value(value)
        .ok_or_else(|| Fault::new(format!("the value of {parsed} has a character no header may have"), ASCII))?;
    Ok((parsed, value))
}

const ASCII: &str = "write it in printable ASCII, on one line";

fn header_value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok().filter(|value| value.to_str().is_ok())
}

/// An empty text means none, as for `ws_message`.
fn login_url(text: &str) -> Result<Option<HeaderValue>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let lower = text.to_ascii_lowercase();
    // A browser takes what begins with // or /\ for a host.
    let path = text.starts_with('/') && !text[1..].starts_with(['/', '\\']);
    if !path && !["http://", "https://"].iter().any(|scheme| lower.starts_with(scheme) && lower.len() > scheme.len()) {
        let what = format!("{} is neither a path nor a URL", echo(text));
        return Err(Fault::new(what, "write it like \"/login\" or \"https://app.example/login\""));
    }
    let value = header_value(text).filter(|_| !text.contains(' '));
    value
        .map(Some)
        .ok_or_else(|| Fault::new(format!("{} has a character no URL may have", echo(text)), "percent-encode it"))
}
