//! Which answers of the app mean that it accepted a request's token.

use super::conditions::Conditions;

/// What a 2xx response must be, beside its status, to accept a token. By default any will do.
///
/// The status alone is often not enough: many apps answer index.html with 200 to any unknown path, or 200 with
/// `{"success": false}` to a token they refuse.
#[derive(Clone, Debug, Default)]
pub struct Acceptance {
    /// `accept_type`: the media type, in lower case, without parameters.
    pub media_type: Option<String>,
    /// `accept_when`: holds in the JSON body of an answer that accepts.
    pub accept_when: Option<Conditions>,
    /// `reject_when`: holds in that of one that does not.
    pub reject_when: Option<Conditions>,
}

impl Acceptance {
    /// Whether the body decides, so that it must be read.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        self.accept_when.is_some() || self.reject_when.is_some()
    }

    /// Whether a 2xx answer accepts the token. `media_type` is without parameters, in any case; `body` is `None` where it
    /// was not read, and then does not count.
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
