//! How long a message is, as the next hop is to read it (RFC 9112 §6.3).

use super::body::{Body, Error};
use super::headers::{elements, without};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header, response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Declares a body of unknown length as chunked. hyper would send no body with a GET or a HEAD.
pub(super) fn announce(headers: &mut HeaderMap) {
    if !headers.contains_key(header::CONTENT_LENGTH) {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Leaves an answer with one length, or none where it has chunks. `Err` where it has several lengths.
pub(super) fn settle(head: &mut response::Parts) -> Result<(), String> {
    let is_length = |name: &header::HeaderName| *name == header::CONTENT_LENGTH;
    if head.headers.contains_key(header::TRANSFER_ENCODING) || head.status == StatusCode::NO_CONTENT {
        // Chunks take precedence, and this status has no length (RFC 9110 §8.6).
        without(&mut head.headers, is_length);
    }
    let mut lengths = elements(&head.headers, &header::CONTENT_LENGTH);
    let Some(first) = lengths.next() else {
        return if head.headers.contains_key(header::CONTENT_LENGTH) { Err(no_length()) } else { Ok(()) };
    };
    if !first.bytes().all(|digit| digit.is_ascii_digit()) || lengths.any(|length| length != first) {
        return Err(no_length());
    }
    let length = HeaderValue::from_str(first).map_err(|_| no_length())?;
    drop(lengths);
    head.headers.insert(header::CONTENT_LENGTH, length);
    Ok(())
}

fn no_length() -> String {
    "its Content-Length is not one number".to_owned()
}

/// The body of a response that has none but declares a length: hyper drops the length of a 304 without a body.
pub(super) fn with_declared_length(head: &response::Parts, body: Body) -> Body {
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    match length {
        Some(length) if head.status == StatusCode::NOT_MODIFIED => DeclaredLength(length).boxed_unsync(),
        _ => body,
    }
}

/// Has a length and is never sent: the status means that no body follows.
struct DeclaredLength(u64);

impl http_body::Body for DeclaredLength {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;

    /// The lengths that are left of those.
    fn settled(status: u16, lines: &[(&'static str, &'static str)]) -> Option<Vec<String>> {
        let mut head = Response::builder().status(status);
        for (name, value) in lines {
            head = head.header(*name, *value);
        }
        let mut head = head.body(()).unwrap().into_parts().0;
        settle(&mut head).ok()?;
        Some(head.headers.get_all("content-length").iter().map(|value| value.to_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn an_answer_has_one_length() {
        let length = |value| ("content-length", value);
        let one = Some(vec!["3".to_owned()]);
        assert_eq!(settled(200, &[]), Some(vec![]));
        assert_eq!(settled(200, &[length("3")]), one);
        assert_eq!(settled(200, &[length("3"), length("3")]), one);
        assert_eq!(settled(200, &[length("3, 3")]), one);
        assert_eq!(settled(304, &[length("3")]), one);
        assert_eq!(settled(200, &[length("3"), ("transfer-encoding", "chunked")]), Some(vec![]));
        assert_eq!(settled(204, &[length("3")]), Some(vec![]));
        for lengths in [["3", "4"], ["3, 4", "3"], ["+3", "+3"], ["", ""], ["x", "x"]] {
            assert_eq!(settled(200, &lengths.map(length)), None, "{lengths:?}");
        }
    }
}
