//! Which responses mean that the app accepted the token of a request.

use super::conditions::Conditions;

/// What a 2xx response must contain to accept a token. By default, any 2xx response accepts it.
///
/// The status alone is often not enough: many apps answer any unknown path with index.html and 200, or a
/// refused token with 200 and `{"success": false}`.
#[derive(Clone, Debug, Default)]
pub struct Acceptance {
    /// `accept_type`: the media type, in lower case, without parameters.
    pub media_type: Option<String>,
    /// `accept_when`: must hold in the JSON body of a response that accepts the token.
    pub accept_when: Option<Conditions>,
    /// `reject_when`: must not hold in that body.
    pub reject_when: Option<Conditions>,
}

impl Acceptance {
    /// Whether the decision depends on the body, which must then be read.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        self.accept_when.is_some() || self.reject_when.is_some()
    }

    /// Whether a 2xx response accepts the token. `media_type` has no parameters; its case is ignored. `body` is `None`
    /// if it was not read; the body conditions are then ignored.
    #[must_use]
    pub fn is_met_by(&self, media_type: &str, body: Option<&[u8]>) -> bool {
        let holds = |conditions: &Option<Conditions>, unread| match (conditions, body) {
            (Some(conditions), Some(body)) => conditions.hold_in(body),
            _ => unread,
        };
        self.media_type.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(media_type))
            && holds(&self.accept_when, true)
            && !holds(&self.reject_when, false)
    }
}
