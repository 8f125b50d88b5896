//! Whether all JSON parsers read a message in the same way.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// Whether every JSON parser reads `message` in the same way: strict JSON (RFC 8259) without duplicate keys, and
/// without numbers or nesting beyond what parsers commonly support.
pub(super) fn is_plain(message: &[u8]) -> bool {
    std::str::from_utf8(message).is_ok_and(|text| serde_json::from_str::<Plain>(text).is_ok())
}

struct Plain;

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate keys")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some((key, Self)) = members.next_entry::<String, Self>()? {
            if !keys.insert(key) {
                return Err(A::Error::custom("duplicate key"));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_all_parsers_read_alike_are_plain() {
        for text in [r#"{"a": [1, -2.5e3, null, true, "\u00e4"], "b": {"a": {}}}"#, " 7 ", r#""x""#] {
            assert!(is_plain(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn messages_that_parsers_read_differently_are_not_plain() {
        let long_number = format!("[1{}]", "0".repeat(5000));
        let deep = "[".repeat(2000) + &"]".repeat(2000);
        let odd = [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"[{"b":{"a":1,"a":2}}]"#,
            "[NaN]",
            "[-Infinity]",
            "\u{feff}{}",
            "[\"\n\"]",
            r#"["\ud800"]"#,
            "",
            "{} {}",
            &long_number,
            &deep,
        ];
        for text in odd {
            assert!(!is_plain(text.as_bytes()), "{}", &text[..text.len().min(40)]);
        }
        assert!(!is_plain(b"[\"\xff\"]"));
        assert!(!is_plain(b"{\0}\0"));
    }
}
