//! Upgrading a connection: the handshake is forwarded on a connection of its own, and a tunnel begins with its 101.

use super::body::{self, Body, Progress};
use super::cut::{self, Words};
use super::downstream::Downstream;
use super::forward::{causes, conclude, hand_out, overdue, passed_on, unreachable};
use super::gate::Admitted;
use super::relay::Relay;
use super::tunnel::{AwaitedToken, InBandState, Tunnel};
use super::{CLOSE_TIMEOUT, Client, MAX_BUFFERED_BYTES, Proxy, headers};
use crate::config::Reloadable;
use crate::cut::{CutWords, HandshakeRefusal};
use crate::ignore::MessageRules;
use crate::refusal::ProxyError;
use crate::registry::Attachment;
use crate::route::Route;
use crate::session::Mode;
use crate::stream::Stream;
use crate::token::{InBand, InBandRules};
use crate::websocket::Side;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// A client asks for an upgrade that may be forwarded.
#[derive(Clone)]
pub(super) struct Wanted {
    protocol: HeaderValue,
    websocket: bool,
    /// The key of a WebSocket handshake; `None` where it is none of version 13 (RFC 6455 §4.1).
    key: Option<HeaderValue>,
    /// The first subprotocol that the client offers.
    subprotocol: Option<HeaderValue>,
    client: OnUpgrade,
}

/// Whether a request asks for an upgrade that may be forwarded: to `websocket`, or to what is listed. Any other request
/// is forwarded without its `Upgrade`, which the app may ignore anyway (RFC 9110 §7.8).
pub(super) fn wanted(request: &mut Request<Incoming>, listed: &[String]) -> Option<Wanted> {
    let fields = request.headers();
    if request.version() != Version::HTTP_11
        || !headers::lists(fields, &header::CONNECTION, "upgrade")
        || !request.body().is_end_stream()
    {
        return None;
    }
    let protocol = headers::elements(fields, &header::UPGRADE).find(|protocol| {
        let websocket = protocol.eq_ignore_ascii_case("websocket") && request.method() == Method::GET;
        websocket || listed.iter().any(|listed| protocol.eq_ignore_ascii_case(listed))
    })?;
    let websocket = protocol.eq_ignore_ascii_case("websocket");
    let protocol = HeaderValue::from_str(protocol).ok()?;
    let key = if websocket { key(fields) } else { None };
    let offered = headers::elements(fields, &header::SEC_WEBSOCKET_PROTOCOL).next();
    let subprotocol = offered.and_then(|offered| HeaderValue::from_str(offered).ok());
    Some(Wanted { protocol, websocket, key, subprotocol, client: hyper::upgrade::on(request) })
}

fn key(fields: &HeaderMap) -> Option<HeaderValue> {
    /// 16 bytes in base64 (RFC 6455 §4.1).
    const KEY_BYTES: usize = 24;
    fields.get(header::SEC_WEBSOCKET_VERSION).filter(|version| *version == "13")?;
    fields.get(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == KEY_BYTES).cloned()
}

/// Accepts a handshake that is refused, to say why: a page cannot read the answer to a handshake, but it can read a message
/// and a Close. `None` where the words are for an answer with a status, or it is no WebSocket.
pub(super) fn refuse(proxy: &Proxy, wanted: Wanted, words: &CutWords) -> Option<Response<Body>> {
    let key = wanted.key.filter(|_| words.handshake_refusal() == HandshakeRefusal::Message)?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()?;
    let mut answer = Response::new(body::full(String::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = answer.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(subprotocol) = wanted.subprotocol {
        // Browsers give up where none of those they offered is chosen.
        fields.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    let last_frames = Words::of(words).last_frames();
    proxy.shutdown.spawn_tunnel(async move {
        let Ok(Ok(client)) = tokio::time::timeout(CLOSE_TIMEOUT, wanted.client).await else { return };
        if let Some((client, _)) = client_itself(client) {
            cut::part_with(&client, last_frames).await;
        }
    });
    Some(answer)
}

/// Forwards the handshake; a tunnel begins where the app switches protocols.
pub(super) async fn forward(
    proxy: &Arc<Proxy>,
    client: &Client,
    route: &Route,
    mut head: request::Parts,
    wanted: Wanted,
    mut pass: Admitted<'_>,
    settings: &Reloadable,
) -> Result<Response<Body>, ProxyError> {
    let mut rules = proxy.tokens.in_band(route);
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    head.headers.insert(header::UPGRADE, wanted.protocol.clone());
    let ignoring = if wanted.websocket { ignoring(proxy, route) } else { [None, None] };
    if wanted.websocket && (!rules.is_empty() || ignoring.iter().any(Option::is_some)) {
        // Compressed messages could not be read. Without the offer the app answers in plain (RFC 7692 §5).
        headers::without(&mut head.headers, |name| *name == header::SEC_WEBSOCKET_EXTENSIONS);
    }
    let mut answer = shake_hands(proxy, head, settings).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return conclude(
            proxy,
            client,
            route,
            passed_on(answer, None, &proxy.aliases)?,
            pass,
            settings.response_timeout,
        )
        .await;
    }
    if !rules.is_empty() && answer.headers().contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        // Its messages cannot be read, and a dead token in them would pass.
        if proxy.registry.mode() == Mode::Enforce {
            return Err(ProxyError::BadAnswer("it chose a WebSocket extension that was not offered".to_owned()));
        }
        rules = InBandRules::default();
    }
    hand_out(proxy, route, answer.headers()).await;
    let app = hyper::upgrade::on(&mut answer);
    pass.answered(answer.status(), answer.headers(), None).await?;
    let relays = relays(wanted.websocket, answer.headers(), &rules, ignoring);
    let in_band_state = (!rules.is_empty()).then(|| {
        let awaited = AwaitedToken::of(&rules);
        Box::new(InBandState { in_band: InBand::new(rules), caller: pass.caller().clone(), awaited })
    });
    let tunnel = begin(Arc::clone(proxy), [wanted.client, app], relays, in_band_state, pass.into_attached());
    proxy.shutdown.spawn_tunnel(tunnel);
    Ok(answer.map(|_| body::full(String::new())))
}

/// Sends the handshake on a fresh connection. It is never sent twice: the app counts its sockets.
async fn shake_hands(
    proxy: &Proxy,
    mut head: request::Parts,
    settings: &Reloadable,
) -> Result<Response<Incoming>, ProxyError> {
    let stream =
        Stream::connect(&proxy.upstream, settings.connect_timeout).await.map_err(|error| unreachable(&error))?;
    let (mut sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(MAX_BUFFERED_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| ProxyError::BadAnswer(causes(&error)))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(error = causes(&error), "the connection of a handshake ended");
        }
    });
    head.uri = head.uri.path_and_query().map(|target| target.clone().into()).unwrap_or_default();
    head.version = Version::HTTP_11;
    let progress = Progress::new(proxy.registry.clock().clone());
    tokio::select! {
        answer = sender.send_request(Request::from_parts(head, body::full(String::new()))) => {
            answer.map_err(|error| ProxyError::BadAnswer(causes(&error)))
        }
        error = overdue(&progress, settings.response_timeout) => Err(error),
    }
}

/// The `[[ignore]]` rules for the messages of the client and of the app, where those count at all.
fn ignoring(proxy: &Proxy, route: &Route) -> [Option<Arc<MessageRules>>; 2] {
    let rules = |side, counts: bool| if counts { proxy.ignore.for_messages(route, side) } else { None };
    [rules(Side::Client, proxy.activity.client_frames), rules(Side::Server, proxy.activity.server_frames)]
}

fn relays(
    websocket: bool,
    answer: &HeaderMap,
    rules: &InBandRules,
    [ignored_up, ignored_down]: [Option<Arc<MessageRules>>; 2],
) -> [Relay; 2] {
    if !websocket {
        return [Relay::opaque(Side::Client), Relay::opaque(Side::Server)];
    }
    let extensions = answer.contains_key(header::SEC_WEBSOCKET_EXTENSIONS);
    [
        Relay::new(Side::Client, extensions, rules.examine_client()).ignoring(ignored_up),
        Relay::new(Side::Server, extensions, rules.examine_server()).ignoring(ignored_down),
    ]
}

/// Takes both sockets back from hyper, with what it has read beyond the handshake, and relays.
async fn begin(
    proxy: Arc<Proxy>,
    [client, app]: [OnUpgrade; 2],
    relays: [Relay; 2],
    in_band_state: Option<Box<InBandState>>,
    attached: Vec<Attachment>,
) {
    let both = tokio::time::timeout(CLOSE_TIMEOUT, async { tokio::try_join!(client, app) });
    let (client, app) = match both.await {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => return tracing::debug!(error = causes(&error), "a tunnel did not begin"),
        Err(_) => return tracing::debug!("a tunnel did not begin: its client did not take the answer"),
    };
    let (Some((client, from_client)), Some((app, from_app))) = (client_itself(client), app_itself(app)) else {
        return tracing::error!("a tunnel did not begin: its socket could not be taken back; please report this");
    };
    let shutdown = proxy.shutdown.clone();
    let tunnel = Tunnel::new(proxy, [client, app], relays, in_band_state, attached);
    // As a task of its own, so that an idle tunnel does not carry the room that only its beginning needs.
    shutdown.spawn_tunnel(tunnel.run([from_client, from_app]));
}

fn client_itself(upgraded: Upgraded) -> Option<(Stream, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<Downstream>>().ok()?;
    Some((parts.io.into_inner().into_stream()?, parts.read_buf))
}

fn app_itself(upgraded: Upgraded) -> Option<(Stream, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}
