//! Forwarding a request to the app, and its answer back.

use super::aliases::Aliases;
use super::body::{self, Body, BufferedBody, Progress, Unsent, Upload};
use super::expect::Expectation;
use super::gate::Admitted;
use super::headers;
use super::upstream::{Connector, Used};
use super::{Client, Proxy, framing};
use crate::audit::Caller;
use crate::clock::milliseconds;
use crate::refusal::ProxyError;
use crate::registry::Origin;
use crate::route::Route;
use crate::store::{Issued, UNUSED_FOR};
use crate::token::{Location, MAX_EXAMINED_BYTES};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, request};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::Arc;
use std::time::Duration;

/// The pool of connections to the app.
pub(super) type Pool = legacy::Client<Connector, Body>;

/// How long a connection may lie idle in the pool. Some servers close theirs after 5 s; a shorter time here means
/// fewer requests that meet a closing connection.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// A pool that keeps as many idle connections.
pub(super) fn pool(connector: Connector, max_idle: usize) -> Pool {
    legacy::Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(max_idle)
        // What is sent again, and how often, is decided here.
        .retry_canceled_requests(false)
        .pool_idle_timeout(POOL_IDLE)
        .pool_timer(TokioTimer::new())
        .http1_preserve_header_case(true)
        .http1_max_buf_size(super::MAX_BUFFERED_BYTES)
        .build(connector)
}

/// Forwards a request that may pass. Returns the app's answer.
pub(super) async fn forward(
    proxy: &Proxy,
    client: &Client,
    route: &Route,
    mut head: request::Parts,
    body: Body,
    pass: Admitted<'_>,
    timeout: Duration,
) -> Result<Response<Body>, ProxyError> {
    if proxy.may_hold() && (proxy.tokens.reads_responses(route) || pass.depends_on_body()) {
        // A compressed answer could not be read. Without the field, every coding would be welcome (RFC 9110 §12.5.3).
        head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let answer = send(proxy, client, head, body, &pass, timeout).await?;
    conclude(proxy, client, route, answer, pass, timeout).await
}

/// What the app's answer means for the tokens of its request, which it may issue, accept or end. Returns the answer.
pub(super) async fn conclude(
    proxy: &Proxy,
    client: &Client,
    route: &Route,
    answer: Response<Body>,
    mut pass: Admitted<'_>,
    timeout: Duration,
) -> Result<Response<Body>, ProxyError> {
    let (head, mut body) = answer.into_parts();
    let may_hold = proxy.may_hold();
    let issues = may_hold && proxy.tokens.reads_responses(route);
    let mut read = None;
    if head.status.is_success() && (issues || may_hold && pass.depends_on_body() && headers::is_short(&head.headers)) {
        let reading = tokio::time::timeout(timeout, BufferedBody::read(body, MAX_EXAMINED_BYTES));
        let start =
            reading.await.map_err(|_| ProxyError::TimedOut)?.map_err(|error| ProxyError::BadAnswer(causes(&*error)))?;
        read = start.whole();
        body = start.replay();
    }
    if issues && head.status.is_success() {
        issued(proxy, route, read.as_deref(), pass.caller()).await;
    }
    note_changes(proxy, &pass, &head.headers);
    hand_out(proxy, route, &head.headers).await;
    pass.answered(head.status, &head.headers, read.as_deref()).await?;
    Ok(Response::from_parts(head, pass.follow(body, client, &proxy.system)))
}

/// Sends the request over a pooled connection and waits for the head of the answer. Where the app was just closing that
/// connection, it is sent once more, over a new one.
async fn send(
    proxy: &Proxy,
    client: &Client,
    mut head: request::Parts,
    body: Body,
    pass: &Admitted<'_>,
    timeout: Duration,
) -> Result<Response<Body>, ProxyError> {
    // The pool keys by authority; where to connect is the connector's affair, and `Host` stays the client's.
    head.uri = target(&head.uri);
    head.version = Version::HTTP_11;
    if !body.is_end_stream() {
        framing::announce(&mut head.headers);
    }
    let may_be_repeated = may_be_repeated(&head.method, &body);
    let again = head.clone();
    let body = match attempt(proxy, client, &proxy.pool, Request::from_parts(head, body), pass, timeout).await {
        Err(Attempt::Unsent(body)) => body,
        Err(Attempt::Stale(_)) if may_be_repeated => body::full(String::new()),
        attempt => return attempt.map_err(Attempt::error),
    };
    attempt(proxy, client, &proxy.fresh, Request::from_parts(again, body), pass, timeout).await.map_err(Attempt::error)
}

/// Idempotent, and nothing of it is gone: only then is it safe to send a request twice (RFC 9110 §9.2.2).
fn may_be_repeated(method: &Method, body: &Body) -> bool {
    method.is_idempotent() && body.is_end_stream()
}

enum Attempt {
    /// The app was closing the connection, and has got nothing of the request: here is its body.
    Unsent(Body),
    /// A connection that had been used before broke before a byte of the answer: the app was closing it.
    Stale(String),
    Failed(ProxyError),
}

impl Attempt {
    fn error(self) -> ProxyError {
        match self {
            Self::Unsent(_) => ProxyError::BadAnswer("it closed the connection".to_owned()),
            Self::Stale(cause) => ProxyError::BadAnswer(cause),
            Self::Failed(error) => error,
        }
    }
}

async fn attempt(
    proxy: &Proxy,
    client: &Client,
    pool: &Pool,
    mut request: Request<Body>,
    pass: &Admitted<'_>,
    timeout: Duration,
) -> Result<Response<Body>, Attempt> {
    let progress = Progress::new(proxy.registry.clock().clone());
    let expects = headers::lists(request.headers(), &header::EXPECT, "100-continue");
    let expectation = expects.then(|| Expectation::of(&mut request));
    let wait = expectation.clone().map(|expectation| expectation.wait(Arc::clone(&client.line)));
    let refresh = pass.uploading();
    let unsent = Unsent::new(expects);
    let request = request.map(|inner| {
        Upload { inner, unsent: Arc::downgrade(&unsent), wait, progress: Arc::clone(&progress), refresh }.boxed_unsync()
    });
    let overdue = overdue(&progress, timeout);
    let answer = tokio::select! {
        answer = pool.request(request) => answer,
        error = overdue => return Err(Attempt::Failed(error)),
    };
    match answer {
        Ok(answer) => {
            if let Some(used) = answer.extensions().get::<Used>() {
                used.mark();
            }
            let bad = |cause: &str| Err(Attempt::Failed(ProxyError::BadAnswer(cause.to_owned())));
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                return bad("it switched protocols without being asked to");
            }
            if headers::is_coded(answer.headers()) {
                return bad("it chose a transfer coding that was not offered");
            }
            passed_on(answer, expectation.as_deref(), &proxy.aliases).map_err(Attempt::Failed)
        }
        Err(error) if was_canceled(&error) => {
            Err(unsent.take().map_or_else(|| failed(&error, &progress), Attempt::Unsent))
        }
        Err(error) => Err(failed(&error, &progress)),
    }
}

/// The app's response, adjusted for a client that waits for `100 Continue`.
pub(super) fn passed_on(
    answer: Response<Incoming>,
    expectation: Option<&Expectation>,
    aliases: &Arc<Aliases>,
) -> Result<Response<Body>, ProxyError> {
    let (mut head, body) = answer.into_parts();
    framing::settle(&mut head).map_err(ProxyError::BadAnswer)?;
    let required = (head.status == StatusCode::UPGRADE_REQUIRED).then(|| head.headers.get_all(header::UPGRADE));
    let required: Vec<_> = required.into_iter().flatten().cloned().collect();
    headers::strip_hop_by_hop(&mut head.headers);
    if !required.is_empty() {
        // The only response that must name protocols (RFC 9110 §15.5.22).
        head.headers.append(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        head.headers.extend(required.into_iter().map(|protocol| (header::UPGRADE, protocol)));
    }
    // The framing towards the client follows this proxy's version, not the app's.
    head.version = Version::HTTP_11;
    if head.status.canonical_reason().is_none() && head.extensions.get::<ReasonPhrase>().is_none() {
        // hyper keeps no empty phrase, and would write "<none>".
        head.extensions.insert(ReasonPhrase::from_static(b""));
    }
    let aliases = Arc::clone(aliases);
    let body = body.map_err(Into::into).map_frame(move |frame| aliases.filter(frame)).boxed_unsync();
    let body = framing::with_declared_length(&head, body);
    let Some(expectation) = expectation else { return Ok(Response::from_parts(head, body)) };
    let body = expectation.answered(body).unwrap_or_else(|last| {
        // The client may still send its body, or its next request: these cannot be told apart.
        head.headers.append(header::CONNECTION, HeaderValue::from_static("close"));
        last
    });
    Ok(Response::from_parts(head, body))
}

fn failed(error: &legacy::Error, progress: &Progress) -> Attempt {
    if error.is_connect() {
        return Attempt::Failed(unreachable(error));
    }
    // Before all else: it is the reason why the connection to the app was given up, a used one or not.
    if progress.broke() {
        return Attempt::Failed(ProxyError::ClientGone);
    }
    let mut extensions = http::Extensions::new();
    if let Some(connection) = error.connect_info() {
        connection.get_extras(&mut extensions);
    }
    if extensions.get::<Used>().is_some_and(Used::is_stale) {
        return Attempt::Stale(causes(error));
    }
    Attempt::Failed(ProxyError::BadAnswer(causes(error)))
}

/// Whether hyper had not begun to send it.
fn was_canceled(error: &legacy::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<hyper::Error>());
    source.is_some_and(hyper::Error::is_canceled)
}

/// The fault of a connection that could not be made.
pub(super) fn unreachable(error: &(dyn std::error::Error + 'static)) -> ProxyError {
    let mut source = Some(error);
    while let Some(cause) = source {
        if cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut) {
            return ProxyError::ConnectTimedOut;
        }
        source = cause.source();
    }
    ProxyError::Unreachable(causes(error))
}

/// An error and all it was caused by, in one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

/// Resolves when nothing has moved for `timeout`.
pub(super) async fn overdue(progress: &Progress, timeout: Duration) -> ProxyError {
    let timeout = milliseconds(timeout);
    loop {
        let left = timeout.saturating_sub(progress.still_for());
        if left == 0 {
            return if progress.client_owes() { ProxyError::ClientStalled } else { ProxyError::TimedOut };
        }
        tokio::time::sleep(Duration::from_millis(left)).await;
    }
}

/// What stands in the request line, with an authority for the pool to key by.
fn target(uri: &Uri) -> Uri {
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    Uri::builder().scheme("http").authority("app").path_and_query(path).build().unwrap_or_default()
}

/// Begins the sessions of the tokens that a login's answer issues, before the client can use them. `body` is `None` where
/// it is too long.
async fn issued(proxy: &Proxy, route: &Route, body: Option<&[u8]>, caller: &Caller) {
    let Some(body) = body else {
        return tracing::debug!(
            "the response of a login path is too long to examine; its token becomes known when it is used"
        );
    };
    let issued = proxy.tokens.in_response(route, body);
    if issued.is_empty() {
        proxy.metrics().unmatched.json("response-json", body);
    }
    for (rule, id) in issued {
        proxy.metrics().matched(rule);
        proxy.registry.table.accept(id, Some(caller), Some(Origin::Issued)).await;
    }
}

/// Keeps the cookies that the app hands out, before the client can use them.
pub(super) async fn hand_out(proxy: &Proxy, route: &Route, headers: &HeaderMap) {
    if !proxy.may_hold() || !headers.contains_key(header::SET_COOKIE) {
        return;
    }
    let issued = proxy.tokens.issued_cookies(route, headers);
    let new = issued.into_iter().filter(|(id, _)| proxy.registry.table.known(*id).is_none());
    // A browser forgets the cookie after its `Max-Age`.
    let lasts = |max_age: Option<u64>| max_age.map_or(UNUSED_FOR, |max_age| max_age.min(UNUSED_FOR));
    let issued: Vec<_> = new.map(|(id, max_age)| Issued { id, lasts: lasts(max_age) }).collect();
    if !issued.is_empty() {
        proxy.registry.issues.hand_out(&issued).await;
    }
}

/// Notes where the app replaces the token of a live session by another.
fn note_changes(proxy: &Proxy, pass: &Admitted<'_>, headers: &HeaderMap) {
    if pass.replaceable_cookies().is_empty() || !headers.contains_key(header::SET_COOKIE) {
        return;
    }
    for old in pass.replaceable_cookies() {
        let Location::Cookie(name) = &old.rule.place else { continue };
        for new in proxy.tokens.set_cookies(headers, name).map(|(new, _)| new).filter(|new| *new != old.id) {
            proxy.metrics().token_changed(&old.rule, old.id, new);
        }
    }
}
