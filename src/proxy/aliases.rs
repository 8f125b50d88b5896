//! Other spellings of header fields that idlegate sets, removes or reads, which apps behind CGI, WSGI or PHP take for the
//! real ones: there `X_Real_IP` and `X-Real-IP` are one variable, `HTTP_X_REAL_IP`.

use super::headers::without;
use crate::metrics::Metrics;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http_body::Frame;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;

/// The fields whose other spellings are dropped, beside all of `X-Forwarded-*`: those of one hop, of framing, of who the
/// client is, and those that carry tokens. All others may be spelled as their client likes.
const FIELDS: [&str; 13] = [
    "accept-encoding",
    "content-encoding",
    "content-length",
    "content-type",
    "keep-alive",
    "proxy-connection",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "set-cookie",
    "transfer-encoding",
    "x-real-ip",
];

/// Variables of CGI (RFC 3875 §4.1) that are no header fields. gunicorn takes the first two from a header, and then serves
/// another path than the one that was asked for.
const VARIABLES: [&str; 16] = [
    "script_name",
    "path_info",
    "auth_type",
    "gateway_interface",
    "path_translated",
    "query_string",
    "remote_addr",
    "remote_host",
    "remote_ident",
    "remote_user",
    "request_method",
    "request_uri",
    "script_filename",
    "server_name",
    "server_port",
    "server_protocol",
];

/// How many names are logged. Later ones are only counted.
const MAX_LOGGED: usize = 32;

/// What is dropped from the heads and trailers of all messages.
#[derive(Debug)]
pub(super) struct Aliases {
    /// `underscores_in_headers = "drop"`.
    drop_all: bool,
    /// The headers that rules name: they are read in each spelling, and belong to no trailer.
    rules: Vec<HeaderName>,
    metrics: Arc<Metrics>,
    logged: Mutex<HashSet<HeaderName>>,
}

impl Aliases {
    pub(super) fn new(drop_all: bool, rules: Vec<HeaderName>, metrics: Arc<Metrics>) -> Self {
        Self { drop_all, rules, metrics, logged: Mutex::default() }
    }

    /// Drops them from a request's head.
    pub(super) fn drop_from(&self, head: &mut HeaderMap) {
        let unwanted = |name: &HeaderName| self.is_dropped(name);
        for name in head.keys().filter(|name| unwanted(name)) {
            self.note(name);
        }
        without(head, unwanted);
    }

    fn is_dropped(&self, name: &HeaderName) -> bool {
        let text = name.as_str();
        if !text.contains('_') || self.rules.contains(name) {
            return false;
        }
        if self.drop_all || VARIABLES.contains(&text) {
            return true;
        }
        let real = text.replace('_', "-");
        real.starts_with("x-forwarded-") || FIELDS.contains(&real.as_str())
    }

    fn note(&self, name: &HeaderName) {
        self.metrics.headers_dropped.inc();
        let mut logged = self.logged.lock();
        if logged.len() < MAX_LOGGED && logged.insert(name.clone()) {
            tracing::warn!(
                %name,
                "dropped a header that apps may read as another one (logged once per name)"
            );
        }
    }

    /// A piece of a body, its trailers without the fields that mean something only in a head (RFC 9110 §6.5.1): what is
    /// taken out or set there is not to come in by a back door.
    pub(super) fn filter(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_trailers() {
            Ok(mut trailers) => {
                without(&mut trailers, |name| self.is_unfit_for_trailers(name));
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        }
    }

    fn is_unfit_for_trailers(&self, name: &HeaderName) -> bool {
        const HEAD_ONLY: [HeaderName; 9] = [
            header::AUTHORIZATION,
            header::CONNECTION,
            header::COOKIE,
            header::EXPECT,
            header::FORWARDED,
            header::HOST,
            header::TE,
            header::TRAILER,
            header::UPGRADE,
        ];
        let text = name.as_str();
        let real = text.replace('_', "-");
        self.is_dropped(name)
            || HEAD_ONLY.contains(name)
            || VARIABLES.contains(&text)
            || real.starts_with("x-forwarded-")
            || FIELDS.contains(&real.as_str())
            || self.rules.iter().any(|rule| rule.as_str().replace('_', "-") == real)
    }
}
