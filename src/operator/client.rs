//! Asks the `[admin]` listener: one request a connection, as it wants it.

use super::place::Place;
use super::words::{Refusal, Trouble};
use crate::config::Upstream;
use crate::stream::Stream;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::io;
use std::time::Duration;

/// How long a connection may take. The listener is near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take: longer than the listener gives itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);

/// More than all replicas of a fleet have to tell.
const ANSWER_AT_MOST: usize = 64 * 1024 * 1024;

/// Asks one listener.
#[derive(Debug)]
pub(super) struct Client {
    place: Place,
}

/// What the listener answered, where it did what was asked.
#[derive(Debug)]
pub(super) struct Answer<'c> {
    body: Bytes,
    address: &'c Upstream,
}

impl Answer<'_> {
    pub(super) fn as_it_came(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What it says.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        serde_json::from_slice(&self.body).map_err(|_| Trouble::Stranger(self.address.clone()))
    }
}

impl Client {
    pub(super) fn new(place: Place) -> Self {
        Self { place }
    }

    /// Asks. `body` is JSON.
    pub(super) async fn ask(&self, method: Method, path: &str, body: String) -> Result<Answer<'_>, Trouble> {
        let address = &self.place.address;
        let stream = Stream::connect(address, CONNECT_TIMEOUT)
            .await
            .map_err(|error| Trouble::Unreachable(address.clone(), error))?;
        let asking = tokio::time::timeout(ANSWER_TIMEOUT, self.ask_on(stream, method, path, body));
        match asking.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok((status, body)) if status.is_success() => Ok(Answer { body, address }),
            Ok((status, body)) => Err(match serde_json::from_slice(&body) {
                Ok(said) => Trouble::Refused(Refusal { status, said }),
                Err(_) => Trouble::Stranger(address.clone()),
            }),
            Err(error) => Err(Trouble::Unanswered(address.clone(), error)),
        }
    }

    async fn ask_on(
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
        let body = Limited::new(body, ANSWER_AT_MOST).collect().await.map_err(io::Error::other)?;
        Ok((head.status, body.to_bytes()))
    }

    fn request(&self, method: Method, path: &str, body: String) -> http::Result<Request<Full<Bytes>>> {
        let host = match &self.place.address {
            Upstream::Tcp(authority) => authority,
            Upstream::Unix(_) => "localhost",
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        if let Some(token) = &self.place.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(Full::new(body.into()))
    }
}
