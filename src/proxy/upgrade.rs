//! Upgrading a connection: the handshake is forwarded on a connection of its own, and a tunnel begins with its 101.

use super::body::{self, Body, Progress};
use super::downstream::Downstream;
use super::forward::{causes, conclude, overdue, passed_on, unreachable};
use super::gate::Pass;
use super::lane::Lane;
use super::tunnel::{Talk, Tunnel};
use super::{BUFFERED_AT_MOST, Client, FAREWELL, Proxy, headers};
use crate::config::Reloadable;
use crate::frame::Side;
use crate::keeper::Attached;
use crate::refusal::Fault;
use crate::route::NormalPath;
use crate::session::Mode;
use crate::stream::Stream;
use crate::token::{InBand, InBandRules};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::sync::Arc;

/// A client asks for an upgrade that may be forwarded.
pub(super) struct Wanted {
    protocol: HeaderValue,
    websocket: bool,
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
    Some(Wanted { protocol, websocket, client: hyper::upgrade::on(request) })
}

/// Forwards the handshake; a tunnel begins where the app switches protocols.
pub(super) async fn forward(
    proxy: &Arc<Proxy>,
    client: &Client,
    path: &NormalPath,
    mut head: request::Parts,
    wanted: Wanted,
    mut pass: Pass<'_>,
    settings: &Reloadable,
) -> Result<Response<Body>, Fault> {
    let mut rules = proxy.tokens().in_band(path);
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    head.headers.insert(header::UPGRADE, wanted.protocol.clone());
    if wanted.websocket && !rules.is_empty() {
        // Compressed messages could not be read. Without the offer the app answers in plain (RFC 7692 §5).
        headers::without(&mut head.headers, |name| *name == header::SEC_WEBSOCKET_EXTENSIONS);
    }
    let mut answer = shake_hands(proxy, head, settings).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return conclude(
            proxy,
            client,
            path,
            passed_on(answer, None, &proxy.aliases)?,
            pass,
            settings.response_timeout,
        )
        .await;
    }
    if !rules.is_empty() && answer.headers().contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        // Its messages cannot be read, and a dead token in them would pass.
        if proxy.keeper.mode() == Mode::Enforce {
            return Err(Fault::BadAnswer("it chose a WebSocket extension that nobody offered".to_owned()));
        }
        rules = InBandRules::default();
    }
    let app = hyper::upgrade::on(&mut answer);
    pass.answered(answer.status(), answer.headers(), None).await;
    let lanes = lanes(wanted.websocket, answer.headers(), &rules);
    let talk =
        (!rules.is_empty()).then(|| Box::new(Talk { in_band: InBand::new(rules), caller: pass.caller().clone() }));
    let tunnel = begin(Arc::clone(proxy), [wanted.client, app], lanes, talk, pass.into_attached());
    proxy.shutdown.spawn_tunnel(tunnel);
    Ok(answer.map(|_| body::full(String::new())))
}

/// Sends the handshake on a fresh connection. It is never sent twice: the app counts its sockets.
async fn shake_hands(
    proxy: &Proxy,
    mut head: request::Parts,
    settings: &Reloadable,
) -> Result<Response<Incoming>, Fault> {
    let stream =
        Stream::connect(&proxy.upstream, settings.connect_timeout).await.map_err(|error| unreachable(&error))?;
    let (mut sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(BUFFERED_AT_MOST)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Fault::BadAnswer(causes(&error)))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(error = causes(&error), "the connection of a handshake ended");
        }
    });
    head.uri = head.uri.path_and_query().map(|target| target.clone().into()).unwrap_or_default();
    head.version = Version::HTTP_11;
    let progress = Progress::new(proxy.keeper.clock().clone());
    tokio::select! {
        answer = sender.send_request(Request::from_parts(head, body::full(String::new()))) => {
            answer.map_err(|error| Fault::BadAnswer(causes(&error)))
        }
        fault = overdue(&progress, settings.response_timeout) => Err(fault),
    }
}

fn lanes(websocket: bool, answer: &HeaderMap, rules: &InBandRules) -> [Lane; 2] {
    if !websocket {
        return [Lane::opaque(Side::Client), Lane::opaque(Side::Server)];
    }
    let extensions = answer.contains_key(header::SEC_WEBSOCKET_EXTENSIONS);
    [
        Lane::new(Side::Client, extensions, rules.examine_client()),
        Lane::new(Side::Server, extensions, rules.examine_server()),
    ]
}

/// Takes both sockets back from hyper, with what it has read beyond the handshake, and relays.
async fn begin(
    proxy: Arc<Proxy>,
    [client, app]: [OnUpgrade; 2],
    lanes: [Lane; 2],
    talk: Option<Box<Talk>>,
    attached: Vec<Attached>,
) {
    let both = tokio::time::timeout(FAREWELL, async { tokio::try_join!(client, app) });
    let (client, app) = match both.await {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => return tracing::debug!(error = causes(&error), "a tunnel did not begin"),
        Err(_) => return tracing::debug!("a tunnel did not begin: its client did not take the answer"),
    };
    let (Some((client, from_client)), Some((app, from_app))) = (client_itself(client), app_itself(app)) else {
        return tracing::error!("a tunnel did not begin: its socket could not be taken back; please report this");
    };
    let shutdown = proxy.shutdown.clone();
    let tunnel = Tunnel::new(proxy, [client, app], lanes, talk, attached);
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
