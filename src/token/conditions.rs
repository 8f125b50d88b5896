//! Conditions on JSON documents: `when`, `accept_when` and `reject_when`.

use super::Pattern;
use super::json::{self, JsonValue, Pointer};

/// Expected values at JSON pointers. All must match. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conditions(pub Vec<(Pointer, Expected)>);

/// What a value is compared with. Of several values, any may match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expected {
    /// It equals this.
    Equal(Scalar),
    /// It equals one of these.
    OneOf(Vec<Scalar>),
    /// It is there, whatever it is, or it is not.
    Exists(bool),
    /// It is a text or a number that matches.
    Regex(Pattern),
}

/// A JSON value that can be compared: `"authenticate"`, `true`, `7`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scalar {
    /// A string, unescaped.
    Text(String),
    /// A number, with its digits as written.
    Number(String),
    /// `true` or `false`.
    Bool(bool),
}

impl Conditions {
    /// The pointers whose values are compared.
    pub fn pointers(&self) -> impl Iterator<Item = &Pointer> {
        self.0.iter().map(|(pointer, _)| pointer)
    }

    /// Whether all conditions hold. `found` has the values at each of [`Conditions::pointers`], in that order.
    #[must_use]
    pub fn hold(&self, found: &[Vec<JsonValue>]) -> bool {
        self.0.iter().zip(found).all(|((_, expected), values)| expected.holds(values))
    }

    /// Whether all conditions hold in a document. They never hold if it is not JSON.
    #[must_use]
    pub fn hold_in(&self, document: &[u8]) -> bool {
        let pointers: Vec<_> = self.pointers().collect();
        json::find(document, &pointers).is_ok_and(|found| self.hold(&found))
    }
}

impl Expected {
    /// Whether it holds for what was found at a place of a JSON document.
    #[must_use]
    pub fn holds(&self, found: &[JsonValue]) -> bool {
        match self {
            Self::Equal(scalar) => json::matches(found, scalar),
            Self::OneOf(scalars) => scalars.iter().any(|scalar| json::matches(found, scalar)),
            Self::Exists(exists) => found.is_empty() != *exists,
            Self::Regex(pattern) => found.iter().any(|value| match value {
                JsonValue::Text(text) | JsonValue::Number(text) => pattern.matches(text.as_bytes()),
                JsonValue::Bool(_) | JsonValue::Other => false,
            }),
        }
    }

    /// Whether it holds for the values of a header field or a query parameter, which are all text.
    #[must_use]
    pub fn holds_for_texts(&self, found: &[impl AsRef<[u8]>]) -> bool {
        let equals = |scalar: &Scalar| found.iter().any(|value| scalar.as_text().as_bytes() == value.as_ref());
        match self {
            Self::Equal(scalar) => equals(scalar),
            Self::OneOf(scalars) => scalars.iter().any(equals),
            Self::Exists(exists) => found.is_empty() != *exists,
            Self::Regex(pattern) => found.iter().any(|value| pattern.matches(value.as_ref())),
        }
    }

    /// The texts that it compares with, where there are no others.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Equal(Scalar::Text(text)) => Some(text),
            _ => None,
        }
    }
}

impl Scalar {
    fn as_text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
            Self::Bool(true) => "true",
            Self::Bool(false) => "false",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_conditions_must_hold_and_none_holds_without_json() {
        let field = |pointer: &str, scalar| (Pointer::parse(pointer).unwrap(), Expected::Equal(scalar));
        let both =
            Conditions(vec![field("/success", Scalar::Bool(true)), field("/user/role", Scalar::Text("admin".into()))]);
        for (document, holds) in [
            (r#"{"success": true, "user": {"role": "admin"}}"#, true),
            (r#"{"success": true, "user": {"role": "guest"}}"#, false),
            (r#"{"success": true}"#, false),
            (r#"{"success": "true", "user": {"role": "admin"}}"#, false),
            ("<!doctype html>", false),
            ("", false),
        ] {
            assert_eq!(both.hold_in(document.as_bytes()), holds, "{document}");
        }
    }

    #[test]
    fn a_value_is_one_of_a_list_exists_or_matches_a_pattern() {
        let text = |text: &str| Scalar::Text(text.to_owned());
        let of = |expected| Conditions(vec![(Pointer::parse("/type").unwrap(), expected)]);
        let one_of = of(Expected::OneOf(vec![text("ping"), Scalar::Number("6".to_owned())]));
        let exists = of(Expected::Exists(true));
        let absent = of(Expected::Exists(false));
        let regex = of(Expected::Regex(Pattern::anywhere("^p[io]ng$").unwrap()));
        for (document, expected) in [
            (r#"{"type": "ping"}"#, [true, true, false, true]),
            (r#"{"type": 6}"#, [true, true, false, false]),
            (r#"{"type": "pingpong"}"#, [false, true, false, false]),
            (r#"{"type": null}"#, [false, true, false, false]),
            (r#"{"kind": "ping"}"#, [false, false, true, false]),
            ("ping", [false; 4]),
        ] {
            let holds = [&one_of, &exists, &absent, &regex].map(|conditions| conditions.hold_in(document.as_bytes()));
            assert_eq!(holds, expected, "{document}");
        }
    }

    #[test]
    fn header_fields_and_parameters_are_compared_as_text() {
        let holds = |expected: Expected, values: &[&str]| expected.holds_for_texts(values);
        assert!(holds(Expected::Equal(Scalar::Number("1".to_owned())), &["0", "1"]));
        assert!(holds(Expected::Equal(Scalar::Bool(true)), &["true"]));
        assert!(!holds(Expected::Equal(Scalar::Text("a".to_owned())), &["A"]));
        assert!(holds(Expected::Exists(false), &[]) && !holds(Expected::Exists(false), &[""]));
    }
}
