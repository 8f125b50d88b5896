//! An exchange, from the request to the answer or the tunnel.

mod aliases;
mod audience;
mod body;
mod buffer;
mod cookies;
mod cut;
mod downstream;
mod expect;
mod forward;
mod framing;
mod gate;
mod headers;
mod ignore;
mod outage;
mod reach;
mod refusals;
mod reject;
mod relay;
mod tunnel;
mod upgrade;
mod upstream;

pub(crate) use body::{Body, full};
pub(crate) use downstream::{ConnectionState, Downstream};
pub(crate) use forward::causes;

use crate::address::Upstream;
use crate::audit::Caller;
use crate::clock::microseconds;
use crate::config::{Config, Current, Reloadable};
use crate::ignore::IgnoreRules;
use crate::metrics::Metrics;
use crate::refusal::ProxyError;
use crate::registry::Registry;
use crate::route::Route;
use crate::session::{ActivitySources, Mode};
use crate::shutdown::{CLOSE_TIMEOUT, Shutdown};
use crate::sock_diag::SockDiag;
use crate::token::{Location, MAX_EXAMINED_BYTES, Requirements, TokenMatch, TokenRules};
use crate::websocket::Keepalive;
use aliases::Aliases;
use audience::RequestSummary;
use body::BufferedBody;
use cookies::SetCookies;
use forward::Pool;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use ipnet::IpNet;
use outage::Outage;
use refusals::Refusals;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use upgrade::Wanted;

/// How much of what a client or the app sends is kept before it is passed on, in bytes: room for a head, so that a
/// client that never ends its head costs no more.
pub(crate) const MAX_BUFFERED_BYTES: usize = 64 * 1024;

/// The connection that a request came on.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    /// Where it has connected to.
    pub(crate) local: SocketAddr,
    /// Closes the connection at once.
    pub(crate) kill: CancellationToken,
    pub(crate) line: Arc<ConnectionState>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, local: SocketAddr) -> Self {
        Self { address, local, kill: CancellationToken::new(), line: Arc::default() }
    }
}

/// All that an exchange needs.
#[derive(Debug)]
pub(crate) struct Proxy {
    upstream: Upstream,
    upgrades: Vec<String>,
    activity: ActivitySources,
    pub(super) keepalive: Option<Keepalive>,
    aliases: Arc<Aliases>,
    /// Read once for each request, and for each tunnel at its end.
    current: Current,
    tokens: TokenRules,
    ignore: IgnoreRules,
    registry: Arc<Registry>,
    pool: Pool,
    /// Makes a connection for each request, and keeps none.
    fresh: Pool,
    shutdown: Shutdown,
    outage: Outage,
    refusals: Refusals,
    set_cookies: SetCookies,
    system: Arc<SockDiag>,
}

impl Proxy {
    /// Reloadable settings come from `current`, not from `config`.
    pub(crate) fn new(
        config: Config,
        current: Current,
        registry: Arc<Registry>,
        shutdown: Shutdown,
        system: SockDiag,
    ) -> Self {
        let Config { upstream, upgrades, activity, ignore, keepalive, tokens, ids, drop_underscores, .. } = config;
        let ignore = IgnoreRules::new(ignore);
        let connector = upstream::Connector { upstream: upstream.clone(), current: current.clone() };
        let (pool, fresh) = (forward::pool(connector.clone(), usize::MAX), forward::pool(connector, 0));
        let named = tokens.iter().filter_map(|rule| match &rule.place {
            Location::Header(name) => Some(name.clone()),
            _ => None,
        });
        let aliases = Arc::new(Aliases::new(drop_underscores, named.collect(), Arc::clone(registry.metrics())));
        registry.metrics().count_rules(&tokens);
        registry.metrics().count_ignored(&ignore.names());
        registry.issues.watch(&tokens);
        let tokens = TokenRules::new(tokens, ids);
        let set_cookies = SetCookies::new(tokens.cookie_names());
        let outage = Outage::default();
        Self {
            upstream,
            upgrades,
            activity,
            keepalive,
            aliases,
            current,
            tokens,
            ignore,
            registry,
            pool,
            fresh,
            shutdown,
            outage,
            refusals: Refusals::default(),
            set_cookies,
            system: Arc::new(system),
        }
    }

    /// Whether bodies and messages may be held until they are examined.
    fn may_hold(&self) -> bool {
        self.registry.mode() != Mode::Off
    }

    pub(crate) fn current(&self) -> &Current {
        &self.current
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        self.registry.metrics()
    }

    /// Answers one request; never fails, since every fault has an answer.
    pub(crate) async fn exchange(self: Arc<Self>, client: Client, mut request: Request<Incoming>) -> Response<Body> {
        let begun = microseconds();
        let settings = self.current.load();
        let wanted = upgrade::wanted(&mut request, &self.upgrades);
        let (head, body) = request.into_parts();
        let summary = RequestSummary::of(&head);
        let waits = headers::lists(&head.headers, &header::EXPECT, "100-continue");
        let aliases = Arc::clone(&self.aliases);
        let mut body = Some(body.map_err(Into::into).map_frame(move |frame| aliases.filter(frame)).boxed_unsync());
        let mut answer = match self.answer(&client, head, &mut body, wanted.clone(), &settings).await {
            Ok(answer) => {
                self.outage.is_over();
                self.set_cookies.learn(answer.headers());
                answer
            }
            Err(error) => {
                if let Some(trouble) = error.upstream_failure() {
                    self.metrics().upstream_failed(trouble);
                }
                // A client that waits for `100 Continue` has sent no body, so there is nothing to read.
                if let Some(body) = body.filter(|_| !waits) {
                    body::discard(body);
                }
                let refused = wanted.and_then(|wanted| upgrade::refuse(&self, wanted, error.words(&settings.cut)?));
                refused.unwrap_or_else(|| self.reject(&error, &summary, &settings))
            }
        };
        if self.shutdown.is_draining() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            // The client's next request goes elsewhere.
            answer.headers_mut().append(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.metrics().answered(&summary.method, answer.status(), begun);
        answer
    }

    /// Handles one request: routes it, finds its tokens, passes the gate, then forwards or upgrades it. Leaves an unused body in
    /// place.
    async fn answer(
        self: &Arc<Self>,
        client: &Client,
        mut head: request::Parts,
        body: &mut Option<Body>,
        wanted: Option<Wanted>,
        settings: &Reloadable,
    ) -> Result<Response<Body>, ProxyError> {
        let route = Route::of(&head);
        if head.method == Method::CONNECT {
            return Err(ProxyError::Connect);
        }
        headers::check(&head)?;
        if settings.deny.contains(&route.path) {
            return Err(ProxyError::Denied);
        }
        self.aliases.drop_from(&mut head.headers);
        to_app(&mut head, client, &settings.trusted_proxies, &self.upstream);
        let address = headers::original_client(&head.headers, client, &settings.trusted_proxies);
        let caller = Caller::new(address, &route.method, route.path.as_bytes());
        let mut matches = self.tokens.in_head(&route, &head);
        if self.may_hold() && self.tokens.reads_requests(&route) {
            match self.in_body(&route, &head, body, settings.response_timeout).await {
                Ok(found) => matches.extend(found),
                Err(error @ (ProxyError::TooLarge | ProxyError::NotJson)) if self.registry.mode() != Mode::Enforce => {
                    tracing::debug!(?error, "a request would be refused");
                }
                Err(error) => return Err(error),
            }
        }
        self.note_matches(&matches, &head);
        let required = Requirements::of(&self.tokens, &route, &head, &settings.cut.logins);
        let ignored = ignore::rule_for(self, &route, &head, body, settings.response_timeout).await?;
        let asked = gate::Asked { caller, activity: self.activity, ignored };
        let pass = gate::admit(&self.registry, asked, matches, (&required, &self.refusals)).await?;
        self.tokens.take_out(&mut head, pass.unwanted());
        if self.tokens.refuse_unknown() && self.registry.mode() == Mode::Enforce {
            self.tokens.keep_admitted(&route, &mut head, &pass.admitted());
        }
        if let Some(wanted) = wanted {
            return upgrade::forward(self, client, &route, head, wanted, pass, settings).await;
        }
        let body = body.take().unwrap_or_else(|| body::full(String::new()));
        forward::forward(self, client, &route, head, body, pass, settings.response_timeout).await
    }

    /// Counts the matches of each rule, and notes where none has any.
    fn note_matches(&self, matches: &[TokenMatch], head: &request::Parts) {
        let metrics = self.metrics();
        let mut is_matched = false;
        for token_match in matches.iter().filter(|token_match| !token_match.loose) {
            is_matched = true;
            metrics.matched(token_match.rule.number);
        }
        if !is_matched && self.may_hold() {
            metrics.unmatched.request(head);
        }
    }

    /// The tokens in a body, which is put back to be forwarded as it came.
    async fn in_body(
        &self,
        route: &Route,
        head: &request::Parts,
        body: &mut Option<Body>,
        timeout: Duration,
    ) -> Result<Vec<TokenMatch>, ProxyError> {
        // A preflight or a GET has no body, and so no token in it.
        let Some(unread) = body.take().filter(|body| !body.is_end_stream()) else { return Ok(Vec::new()) };
        let at_least = unread.size_hint().lower();
        if at_least > u64::try_from(MAX_EXAMINED_BYTES).unwrap_or(u64::MAX) {
            *body = Some(unread);
            return Err(ProxyError::TooLarge);
        }
        let start = read_from_client(unread, timeout).await?;
        let found = match start.whole() {
            None => Err(ProxyError::TooLarge),
            Some(whole) if whole.is_empty() => Ok(Vec::new()),
            // An app that unpacks it would see what is not seen here.
            Some(_) if headers::is_compressed(&head.headers) => Err(ProxyError::NotJson),
            Some(whole) => {
                let found = self.tokens.in_request(route, &whole).map_err(|_| ProxyError::NotJson);
                if found.as_ref().is_ok_and(Vec::is_empty) {
                    self.metrics().unmatched.json("request-json", &whole);
                }
                found
            }
        };
        *body = Some(start.replay());
        found
    }
}

/// The beginning of a request's body, to be examined.
///
/// # Errors
/// The client broke it off, or sends it too slowly.
async fn read_from_client(body: Body, timeout: Duration) -> Result<BufferedBody, ProxyError> {
    let reading = tokio::time::timeout(timeout, BufferedBody::read(body, MAX_EXAMINED_BYTES));
    reading.await.map_err(|_| ProxyError::ClientStalled)?.map_err(|_| ProxyError::ClientGone)
}

/// Turns the head of a request into the one for the app.
fn to_app(head: &mut request::Parts, client: &Client, trusted: &[IpNet], upstream: &Upstream) {
    headers::strip_hop_by_hop(&mut head.headers);
    // The authority of an absolute target replaces Host (RFC 9112 §3.2.2).
    if let Some(authority) = head.uri.authority().map(http::uri::Authority::as_str) {
        let host = authority.rsplit('@').next().unwrap_or(authority);
        if let Ok(host) = HeaderValue::from_str(host) {
            head.headers.insert(header::HOST, host);
        }
    }
    headers::forwarded(&mut head.headers, client, trusted);
    // Only HTTP/1.0 may leave it out, and it is never forwarded in that version.
    if !head.headers.contains_key(header::HOST) {
        head.headers.insert(header::HOST, upstream::host(upstream));
    }
}
