//! Whether a request counts as activity, by the `[[ignore]]` rules.

use super::body::{Body, BufferedBody};
use super::{Proxy, headers};
use crate::ignore::ByHead;
use crate::refusal::ProxyError;
use crate::route::Route;
use crate::session::{ActivitySources, Mode};
use crate::token::MAX_EXAMINED_BYTES;
use http::{HeaderMap, header, request};
use std::time::Duration;

/// The position of the rule that keeps a request from counting. A body that a rule asks for is read, and put back to be
/// forwarded as it came.
///
/// # Errors
/// The client broke off the body, or sends it too slowly.
pub(super) async fn rule_for(
    proxy: &Proxy,
    route: &Route,
    head: &request::Parts,
    body: &mut Option<Body>,
    timeout: Duration,
) -> Result<Option<usize>, ProxyError> {
    let asking = match proxy.ignore.by_head(route, head) {
        ByHead::Counts => return Ok(None),
        ByHead::Ignored(rule) => return Ok(Some(rule)),
        ByHead::AsksBody(rules) => rules,
    };
    if !is_short(&head.headers) || proxy.registry.mode() == Mode::Off {
        return Ok(None);
    }
    let Some(unread) = body.take() else { return Ok(None) };
    let reading = tokio::time::timeout(timeout, BufferedBody::read(unread, MAX_EXAMINED_BYTES));
    let start = reading.await.map_err(|_| ProxyError::ClientStalled)?.map_err(|_| ProxyError::ClientGone)?;
    let rule = start.whole().and_then(|whole| proxy.ignore.by_body(&asking, &whole));
    *body = Some(start.replay());
    Ok(rule)
}

/// Whether the body declares that it is short, and can be read.
fn is_short(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    length.is_some_and(|length| length <= MAX_EXAMINED_BYTES) && !headers::is_compressed(headers)
}

/// What counts of a request that a rule ignores: nothing, at no point of its life.
pub(super) fn nothing(activity: ActivitySources) -> ActivitySources {
    ActivitySources { requests: false, uploads: false, downloads: false, ..activity }
}
