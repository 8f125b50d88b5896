//! What a value is compared with: the same words in `when`, `accept_when`, `reject_when` and `[[ignore]]`.

use super::error::{ValueError, echo};
use super::section::Section;
use super::value::{boolean, integer, not_a};
use crate::token::json::Pointer;
use crate::token::{Conditions, Expected, Pattern, Scalar};
use toml::de::DeValue;

/// How a value is compared, for a message to who wrote something else.
const WORDS: &str =
    "compare with text, a number, true or false; with a list of these; or with { exists = true } or { regex = '^a' }";

/// A JSON pointer to a field.
pub(super) fn pointer(text: &str) -> Result<Pointer, ValueError> {
    Pointer::parse(text).filter(|pointer| !pointer.segments().is_empty()).ok_or_else(|| {
        let what = format!("{} is not a JSON pointer to a field", echo(text));
        ValueError::new(what, "write it like \"/session_id\" or \"/user/token\" (~1 for /, ~0 for ~ in a name)")
    })
}

/// The conditions on a JSON document at `key`.
pub(super) fn conditions(table: &mut Section<'_, '_>, key: &str) -> Option<Conditions> {
    let fields = table.entries(key, |name, value| Ok((pointer(name)?, expected(value)?)))?;
    if fields.is_empty() {
        let fix = "name a field and its value: { \"/type\" = \"auth_success\" }";
        table.fault(key, ValueError::new("an empty table would match every message", fix));
        return None;
    }
    Some(Conditions(fields))
}

/// What one value is compared with.
pub(super) fn expected(value: &DeValue<'_>) -> Result<Expected, ValueError> {
    match value {
        DeValue::Array(items) if items.is_empty() => {
            Err(ValueError::new("an empty list: no value would match", "name the values that match"))
        }
        DeValue::Array(items) => {
            items.iter().map(|item| scalar(item.get_ref())).collect::<Result<_, _>>().map(Expected::OneOf)
        }
        DeValue::Table(table) => {
            let mut entries = table.iter().map(|(word, value)| (word.get_ref().as_ref(), value.get_ref()));
            match (entries.next(), entries.next()) {
                (Some(("exists", value)), None) => boolean(value).map(Expected::Exists),
                (Some(("regex", DeValue::String(text))), None) => regex(text).map(Expected::Regex),
                _ => Err(ValueError::new("not a comparison that idlegate knows", WORDS)),
            }
        }
        _ => scalar(value).map(Expected::Equal),
    }
}

/// A regular expression that may match anywhere.
pub(super) fn regex(text: &str) -> Result<Pattern, ValueError> {
    Pattern::anywhere(text).map_err(|error| {
        let what = format!("{} is not a regular expression: {error}", echo(text));
        ValueError::new(what, "write it in single quotes, like '^ping'")
    })
}

fn scalar(value: &DeValue<'_>) -> Result<Scalar, ValueError> {
    let fix = WORDS;
    match value {
        DeValue::String(text) => Ok(Scalar::Text(text.clone().into_owned())),
        DeValue::Boolean(value) => Ok(Scalar::Bool(*value)),
        DeValue::Integer(_) => Ok(Scalar::Number(integer(value)?.to_string())),
        // Digits are compared as written in JSON. JSON has no leading "+" and no infinity.
        DeValue::Float(number) if number.as_str().contains(|character: char| character.is_ascii_digit()) => {
            Ok(Scalar::Number(number.as_str().trim_start_matches('+').to_owned()))
        }
        DeValue::Float(number) => Err(ValueError::new(format!("JSON has no {number}"), fix)),
        other => Err(not_a(other, "a single value", fix)),
    }
}
