//! Types of single values, and validation that several keys share.

use super::error::{ValueError, echo};
use crate::route::PathPattern;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::DeValue;

/// How to parse the text of an environment variable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// Verbatim.
    Text,
    /// A TOML array, or comma-separated text.
    List,
    /// A TOML value.
    Toml,
}

/// The error for a value of the wrong type.
pub(super) fn not_a(value: &DeValue<'_>, wanted: &str, fix: &str) -> ValueError {
    let found = match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    ValueError::new(format!("expected {wanted}, found {found}"), fix)
}

/// Parses the value of an environment variable.
pub(super) fn of_variable(raw: &str, form: Form) -> Result<DeValue<'_>, ValueError> {
    let text = |text: &'_ str| DeValue::String(text.to_owned().into());
    let trimmed = raw.trim();
    let compound = trimmed.starts_with(['[', '{']);
    match form {
        Form::Text => Ok(text(raw)),
        Form::List if trimmed.is_empty() => Ok(DeValue::Array(std::iter::empty().collect())),
        Form::List if !compound => {
            Ok(DeValue::Array(trimmed.split(',').map(|item| Spanned::new(0..0, text(item.trim()))).collect()))
        }
        Form::List | Form::Toml => match DeValue::parse(trimmed) {
            Ok(value) => Ok(value.into_inner()),
            Err(error) if compound => Err(syntax_fault(error.message())),
            // For example a word instead of a number. The type check gives a better error.
            Err(_) => Ok(text(raw)),
        },
    }
}

/// The error for invalid TOML. `message` is from the parser.
pub(super) fn syntax_fault(message: &str) -> ValueError {
    let message = message.lines().collect::<Vec<_>>().join(", ");
    let fix = if message.contains("duplicate key") {
        "keep one of them"
    } else if message.contains("quoted") {
        "write text in quotes: key = \"text\""
    } else {
        "write it as TOML: key = \"text\", key = 7, key = true, key = [\"a\", \"b\"], [table]"
    };
    ValueError::new(format!("not valid TOML: {message}"), fix)
}

/// `true` or `false`.
pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, ValueError> {
    match value {
        DeValue::Boolean(value) => Ok(*value),
        other => Err(not_a(other, "true or false", "write true or false, without quotes")),
    }
}

/// A whole number.
pub(super) fn integer(value: &DeValue<'_>) -> Result<i64, ValueError> {
    match value {
        DeValue::Integer(value) => i64::from_str_radix(value.as_str(), value.radix())
            .map_err(|_| ValueError::new(format!("{value} is too large"), "write a smaller number")),
        other => Err(not_a(other, "a whole number", "write digits only, without quotes")),
    }
}

/// A whole number in `range`.
pub(super) fn integer_in<T>(value: &DeValue<'_>, range: RangeInclusive<T>) -> Result<T, ValueError>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    let value = integer(value)?;
    T::try_from(value).ok().filter(|value| range.contains(value)).ok_or_else(|| {
        let (first, last) = range.into_inner();
        ValueError::new(format!("{value} is out of range"), format!("write a number from {first} to {last}"))
    })
}

/// The maximum duration. A longer one must be a mistake, and could overflow when added to a point in time.
const MAX_LENGTH: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A duration such as `1h` or `500ms`, longer than zero and up to ten years.
///
/// # Errors
/// If the text is not a duration or is out of range.
pub(crate) fn duration(text: &str) -> Result<Duration, ValueError> {
    const FIX: &str = "write it like \"1h\" or \"45s\"";
    // humantime panics if the last fraction overflows a u64 of seconds. Twelve digits cannot overflow it.
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    #[expect(clippy::disallowed_methods, reason = "the length check above prevents its panic")]
    let duration = if digits <= 12 { humantime::parse_duration(text).ok() } else { None };
    match duration {
        Some(Duration::ZERO) => Err(ValueError::new("the duration is zero", FIX)),
        None => {
            Err(without_unit(text).unwrap_or_else(|| ValueError::new(format!("{} is not a duration", echo(text)), FIX)))
        }
        Some(duration) if duration > MAX_LENGTH => {
            Err(ValueError::new(format!("{} is longer than ten years", echo(text)), FIX))
        }
        Some(duration) => Ok(duration),
    }
}

/// Like [`duration`], but zero is allowed.
pub(super) fn duration_or_zero(text: &str) -> Result<Duration, ValueError> {
    if matches!(text.trim(), "0" | "0s" | "0ms") { Ok(Duration::ZERO) } else { duration(text) }
}

/// The error for a duration that is a bare number.
fn without_unit(text: &str) -> Option<ValueError> {
    let seconds = text.trim().parse::<u32>().ok()?;
    let plain = format!("{seconds}s");
    let usual = humantime::format_duration(Duration::from_secs(seconds.into())).to_string();
    let seconds_or = if usual == plain { String::new() } else { format!(", which is \"{usual}\"") };
    Some(ValueError::new(format!("{seconds} has no unit"), format!("for seconds write \"{plain}\"{seconds_or}")))
}

/// A duration in whole seconds, at least 1.
pub(super) fn seconds(text: &str) -> Result<u64, ValueError> {
    let duration = duration(text)?;
    if duration.subsec_nanos() == 0 {
        return Ok(duration.as_secs());
    }
    let what = format!("{} is not a whole number of seconds", echo(text));
    Err(ValueError::new(what, "write it in seconds or more, like \"45s\" or \"1h\""))
}

/// An absolute path: it must not depend on the working directory.
pub(super) fn absolute(text: &str, example: &str) -> Result<PathBuf, ValueError> {
    if text.starts_with('/') && !text.contains('\0') {
        return Ok(PathBuf::from(text));
    }
    Err(ValueError::new(format!("{} is not an absolute path", echo(text)), format!("write it like \"{example}\"")))
}

/// Whether `text` is a `token` (RFC 9110 §5.6.2), the syntax of header, cookie and protocol names.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A path pattern.
pub(super) fn path_pattern(text: &str) -> Result<PathPattern, ValueError> {
    PathPattern::parse(text).map_err(|error| {
        let what = format!("{} is not a path: {error}", echo(text));
        ValueError::new(what, "write it like \"/api/login\" or \"/api/admin/*\"")
    })
}
