//! Which requests a rule ignores.

use crate::route::includes;
use crate::token::{Conditions, Expected, decoded_parameter};
use http::request::Parts;
use http::{HeaderName, Method};

/// What a request must have to be ignored. All that is given must hold.
#[derive(Clone, Default, Debug)]
pub struct RequestMatch {
    /// `methods`: one of these. `GET` includes `HEAD`.
    pub methods: Option<Vec<Method>>,
    /// `query`: parameters, after percent-decoding.
    pub query: Vec<(String, Expected)>,
    /// `headers`: header fields.
    pub headers: Vec<(HeaderName, Expected)>,
    /// `json`: values in the body.
    pub json: Option<Conditions>,
}

impl RequestMatch {
    /// Whether all hold that depend on the head.
    pub(super) fn matches(&self, head: &Parts) -> bool {
        self.methods.as_ref().is_none_or(|methods| includes(methods, &head.method))
            && self.headers.iter().all(|(name, expected)| {
                let values: Vec<_> = head.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
                expected.holds_for_texts(&values)
            })
            && (self.query.is_empty() || self.query_matches(head.uri.query().unwrap_or_default()))
    }

    fn query_matches(&self, query: &str) -> bool {
        let given: Vec<_> = query.split('&').map(|one| one.split_once('=').unwrap_or((one, ""))).collect();
        self.query.iter().all(|(name, expected)| {
            let of_name = given.iter().filter(|(given, _)| decoded_parameter(given) == name.as_bytes());
            let values: Vec<_> = of_name.map(|(_, value)| decoded_parameter(value)).collect();
            expected.holds_for_texts(&values)
        })
    }
}
