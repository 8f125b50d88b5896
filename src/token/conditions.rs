//! Conditions on JSON documents: `when`, `accept_when` and `reject_when`.

use super::json::{self, JsonValue, Pointer};

/// Expected values at JSON pointers. All must match. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conditions(pub Vec<(Pointer, Scalar)>);

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
        self.0.iter().zip(found).all(|((_, scalar), values)| json::matches(values, scalar))
    }

    /// Whether all conditions hold in a document. They never hold if it is not JSON.
    #[must_use]
    pub fn hold_in(&self, document: &[u8]) -> bool {
        let pointers: Vec<_> = self.pointers().collect();
        json::find(document, &pointers).is_ok_and(|found| self.hold(&found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_conditions_must_hold_and_none_holds_without_json() {
        let field = |pointer: &str, scalar| (Pointer::parse(pointer).unwrap(), scalar);
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
}
