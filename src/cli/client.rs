//! HTTP client of the `[admin]` listener, which serves one request per connection.

use super::connect::Endpoint;
use super::error::{CliError, ServerError};
use crate::address::Upstream;
use crate::stream::Stream;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::io;
use std::time::Duration;

/// How long connecting may take. The listener is usually on the same host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a response may take: longer than the listener's own limit.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(35);

/// More than the data of a whole fleet.
const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;

/// A client of one listener.
#[derive(Debug)]
pub(super) struct AdminClient {
    endpoint: Endpoint,
}

/// The body of a successful response.
#[derive(Debug)]
pub(super) struct Reply<'c> {
    body: Bytes,
    address: &'c Upstream,
}

impl Reply<'_> {
    pub(super) fn raw(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Parses the body.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        serde_json::from_slice(&self.body).map_err(|_| CliError::NotIdlegate(self.address.clone()))
    }
}

impl AdminClient {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// Sends a request. `body` is JSON.
    pub(super) async fn send(&self, method: Method, path: &str, body: String) -> Result<Reply<'_>, CliError> {
        let address = &self.endpoint.address;
        let stream = Stream::connect(address, CONNECT_TIMEOUT)
            .await
            .map_err(|error| CliError::Unreachable(address.clone(), error))?;
        let exchange = tokio::time::timeout(RESPONSE_TIMEOUT, self.send_on(stream, method, path, body));
        match exchange.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok((status, body)) if status.is_success() => Ok(Reply { body, address }),
            Ok((status, body)) => Err(match serde_json::from_slice(&body) {
                Ok(said) => CliError::Refused(ServerError { status, said }),
                Err(_) => CliError::NotIdlegate(address.clone()),
            }),
            Err(error) => Err(CliError::Unanswered(address.clone(), error)),
        }
    }

    async fn send_on(
        &self,
        stream: Stream,
        method: Method,
        path: &str,
        body: String,
    ) -> io::Result<(StatusCode, Bytes)> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let request = self.request(method, path, body).map_err(io::Error::other)?;
        let (head, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
        let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await.map_err(io::Error::other)?;
        Ok((head.status, body.to_bytes()))
    }

    fn request(&self, method: Method, path: &str, body: String) -> http::Result<Request<Full<Bytes>>> {
        let host = match &self.endpoint.address {
            Upstream::Tcp(authority) => authority,
            Upstream::Unix(_) => "localhost",
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        if let Some(token) = &self.endpoint.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(Full::new(body.into()))
    }
}
