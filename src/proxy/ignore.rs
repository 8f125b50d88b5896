//! Whether a request counts as activity, by the `[[ignore]]` rules.

use super::body::Body;
use super::{Proxy, headers, read_from_client};
use crate::ignore::ByHead;
use crate::refusal::ProxyError;
use crate::route::Route;
use crate::session::{ActivitySources, Mode};
use http::request;
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
    if !headers::is_short(&head.headers) || proxy.registry.mode() == Mode::Off {
        return Ok(None);
    }
    let Some(unread) = body.take() else { return Ok(None) };
    let start = read_from_client(unread, timeout).await?;
    let rule = start.whole().and_then(|whole| proxy.ignore.by_body(&asking, &whole));
    *body = Some(start.replay());
    Ok(rule)
}

/// What counts of a request that a rule ignores: nothing, at no point of its life.
pub(super) fn nothing(activity: ActivitySources) -> ActivitySources {
    ActivitySources { requests: false, uploads: false, downloads: false, ..activity }
}
