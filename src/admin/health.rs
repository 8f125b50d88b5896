//! The `[health]` listener: liveness, readiness and metrics.
//!
//! It is read-only and exposes no secrets, so the kubelet and Prometheus may reach it without a token.

use super::{Listener, ListenerLimits};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use std::sync::Arc;
use std::time::Duration;

const LIMITS: ListenerLimits = ListenerLimits { connections: 64, life: Duration::from_secs(10) };

const PLAIN: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the endpoints report on.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
}

impl Health {
    pub(crate) fn new(metrics: Arc<Metrics>, shutdown: Shutdown) -> Self {
        Self { metrics, shutdown }
    }

    /// Serves `listener` forever.
    pub(crate) async fn serve(self, listener: Listener) {
        let handler =
            move |request: http::Request<_>| std::future::ready(self.route(request.method(), request.uri().path()));
        listener.serve(LIMITS, handler).await;
    }

    fn route(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let page: fn(&Self) -> Response<Full<Bytes>> = match path {
            "/healthz" => |_| text(StatusCode::OK, "alive\n"),
            "/readyz" => Self::ready,
            "/metrics" => Self::metrics,
            _ => return text(StatusCode::NOT_FOUND, "not found; use /healthz, /readyz or /metrics\n"),
        };
        if matches!(*method, Method::GET | Method::HEAD) {
            return page(self);
        }
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        response
    }

    /// Ready unless draining. The store does not affect readiness: the app is reachable without it, and taking every
    /// replica out of service would turn a store outage into an app outage.
    fn ready(&self) -> Response<Full<Bytes>> {
        if self.shutdown.is_draining() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        text(StatusCode::OK, if self.metrics.store.is_up() { "ready\nstore: up\n" } else { "ready\nstore: out\n" })
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        respond(StatusCode::OK, OPEN_METRICS, self.metrics.text())
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    respond(status, PLAIN, text)
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
