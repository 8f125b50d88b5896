//! Responses of the admin listener: JSON, files and errors. None may be cached.

use super::json::Refused;
use crate::proxy::{Body, full};
use crate::refusal::AdminError;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;
use serde_json::json;

pub(super) type AdminResponse = Response<Body>;

/// Refuses methods other than these. A GET never changes anything.
pub(super) fn only(method: &Method, allowed: &'static str, these: &[Method]) -> Result<(), AdminError> {
    if these.contains(method) { Ok(()) } else { Err(AdminError::Method(allowed)) }
}

pub(super) fn refused(refusal: &AdminError) -> AdminResponse {
    let (would_cut, silent) = match refusal {
        AdminError::WouldCut { count, silent } => (Some(*count), Some(*silent)),
        _ => (None, None),
    };
    let body = Refused { error: refusal.to_string(), fix: refusal.fix().to_owned(), would_cut, silent };
    let mut response = json_of(refusal.status(), &body);
    let headers = response.headers_mut();
    match refusal {
        AdminError::Method(allowed) => drop(headers.insert(header::ALLOW, HeaderValue::from_static(allowed))),
        AdminError::Token => drop(headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        _ => {}
    }
    response
}

pub(super) fn json_of(status: StatusCode, value: &impl Serialize) -> AdminResponse {
    respond(status, "application/json", full(format!("{}\n", json!(value))))
}

pub(super) fn respond(status: StatusCode, kind: &'static str, body: Body) -> AdminResponse {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
