//! The HTTP side of the app.

use super::app::App;
use super::watch::WatchBody;
use super::{page, socket};
use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The largest upload, in bytes.
pub(super) const MAX_UPLOAD_BYTES: usize = 10 * 1024 * 1024;
const MAX_JSON_BYTES: usize = 64 * 1024;

type AppResponse = Response<Either<Full<Bytes>, WatchBody>>;

pub(super) async fn serve_connection(stream: TcpStream, app: Arc<App>) {
    let service = hyper::service::service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(route(&app, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.with_upgrades().await {
        tracing::debug!(%error, "a connection of the demo app failed");
    }
}

async fn route(app: &Arc<App>, request: Request<Incoming>) -> AppResponse {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::POST, "/api/login") => login(app, request).await,
        (&Method::POST, "/api/validate-session" | "/api/renew-session") => {
            match token_in(&body_json(request).await).and_then(|token| app.logins.username(&token)) {
                Some(username) => done(&json!({ "success": true, "username": username })),
                None => no_such_session(),
            }
        }
        (&Method::POST, "/api/logout") => {
            match token_in(&body_json(request).await).filter(|token| app.logins.end(token)) {
                Some(_) => done(&json!({ "success": true })),
                None => no_such_session(),
            }
        }
        (&Method::POST, "/api/upload-file") => upload(app, request).await,
        (&Method::GET, "/health") => done(&json!({ "status": "ok" })),
        (&Method::GET, "/demo/watch") => {
            let body = WatchBody::new(Arc::clone(app), request.uri().query().unwrap_or_default());
            page::respond(StatusCode::OK, "text/event-stream", Either::Right(body))
        }
        (&Method::GET, "/ws") => open_socket(app, request),
        (&Method::GET, path) => page::file(path).map(Either::Left),
        _ => failed(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
    }
}

async fn login(app: &App, request: Request<Incoming>) -> AppResponse {
    let body = body_json(request).await;
    let given = |field: &str| body.get(field).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let (Some(username), Some(_)) = (given("username"), given("password")) else {
        return failed(StatusCode::UNAUTHORIZED, "Invalid username or password");
    };
    done(&json!({ "success": true, "session_id": app.log_in(username), "username": username }))
}

async fn upload(app: &App, request: Request<Incoming>) -> AppResponse {
    let token = request.headers().get("session-id").and_then(|value| value.to_str().ok());
    let known = token.is_some_and(|token| app.logins.username(token).is_some());
    let mut body = request.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return failed(StatusCode::BAD_REQUEST, "The upload was interrupted");
        };
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > MAX_UPLOAD_BYTES {
            return failed(StatusCode::PAYLOAD_TOO_LARGE, "The file is too large");
        }
    }
    if known { done(&json!({ "success": true, "bytes": bytes })) } else { no_such_session() }
}

fn open_socket(app: &Arc<App>, mut request: Request<Incoming>) -> AppResponse {
    let asks = request.headers().get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let key = request.headers().get(SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let (true, Some(accept)) = (asks, key.and_then(|key| HeaderValue::from_str(&key).ok())) else {
        return failed(StatusCode::BAD_REQUEST, "Can \"Upgrade\" only to \"WebSocket\"");
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let stop = app.stop.clone();
        let conversation = async {
            match upgrade.await {
                Ok(upgraded) => socket::converse(TokioIo::new(upgraded), &app).await,
                Err(error) => tracing::debug!(%error, "a WebSocket of the demo app was not opened"),
            }
        };
        stop.run_until_cancelled(conversation).await
    });
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// The JSON body of a request, or `null`.
async fn body_json(request: Request<Incoming>) -> Value {
    let body = Limited::new(request.into_body(), MAX_JSON_BYTES).collect().await;
    body.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok()).unwrap_or_default()
}

fn token_in(body: &Value) -> Option<String> {
    body.get("session_id").and_then(Value::as_str).map(str::to_owned)
}

fn done(body: &Value) -> AppResponse {
    json_response(StatusCode::OK, body)
}

fn failed(status: StatusCode, error: &str) -> AppResponse {
    json_response(status, &json!({ "success": false, "error": error }))
}

fn no_such_session() -> AppResponse {
    failed(StatusCode::UNAUTHORIZED, "Invalid or expired session")
}

fn json_response(status: StatusCode, body: &Value) -> AppResponse {
    page::respond(status, "application/json", Either::Left(Full::new(Bytes::from(body.to_string()))))
}
