//! `[[ignore]]` and the presets of `activity.ignore`: what is not activity.

use super::Variables;
use super::condition::{conditions, expected, regex};
use super::document::Document;
use super::error::{ValueError, echo};
use super::section::{Section, read_document};
use super::token::{rule_methods, rule_paths};
use super::value::is_token;
use crate::ignore::{IgnoreRule, Ignored, MAX_MESSAGE_BYTES, MAX_RULES, MessageMatch, RequestMatch};
use crate::websocket::Side;
use http::HeaderName;
use std::ops::RangeInclusive;
use toml::de::DeValue;

/// The rules of each preset.
pub(crate) const PRESETS: &str = include_str!("presets.toml");

/// The longest `text`, `prefix` and `binary_prefix`, in bytes.
const MAX_LITERAL_BYTES: usize = 1024;

/// The keys of rules for requests, and of rules for messages.
const OF_REQUESTS: [&str; 3] = ["methods", "query", "headers"];
const OF_MESSAGES: [&str; 5] = ["text", "prefix", "regex", "binary_prefix", "size"];

/// Reads all rules of the file. Rules with errors are left out.
pub(super) fn rules(top: &mut Section<'_, '_>) -> Vec<IgnoreRule> {
    let rules: Vec<_> = top.tables("ignore", rule).into_iter().flatten().collect();
    let named = rules.into_iter().enumerate().filter_map(|(number, rule)| {
        let (name, rule) = rule?;
        Some(IgnoreRule { name: name.unwrap_or_else(|| format!("ignore.{number}")), ..rule })
    });
    named.collect()
}

/// Reads `activity.ignore`: the rules of the presets that it names.
pub(super) fn presets(activity: &mut Section<'_, '_>) -> Vec<IgnoreRule> {
    let named = activity.list("ignore", |name| {
        preset(name).ok_or_else(|| {
            let what = format!("{} is not a preset", echo(name));
            ValueError::new(what, format!("write one of {}", preset_names().join(", ")))
        })
    });
    named.unwrap_or_default().into_iter().flatten().collect()
}

/// Adds the rules of the presets to those of the file, within bounds.
pub(super) fn all(top: &mut Section<'_, '_>, mut rules: Vec<IgnoreRule>, presets: Vec<IgnoreRule>) -> Vec<IgnoreRule> {
    rules.extend(presets);
    if rules.len() > MAX_RULES {
        let what = format!("{} rules, with those of presets, are too many", rules.len());
        top.fault("ignore", ValueError::new(what, format!("keep at most {MAX_RULES}")));
        rules.truncate(MAX_RULES);
    }
    rules
}

/// The names of the presets, in the order of their file.
pub(crate) fn preset_names() -> Vec<String> {
    let heads = PRESETS.lines().filter_map(|line| line.strip_prefix("[[")?.strip_suffix("]]"));
    let mut names: Vec<_> = heads.map(|head| head.trim_matches('"').to_owned()).collect();
    names.dedup();
    names
}

/// The presets that may be about a message of this side and length.
pub(crate) fn presets_for_messages(side: Side, size: u64) -> Vec<String> {
    let may_match = |rule: &IgnoreRule| match &rule.what {
        Ignored::Message(from, message) if *from == side => {
            let texts = message.text.as_ref();
            texts.is_some_and(|texts| texts.iter().any(|text| text.len() as u64 == size))
                || message.size.as_ref().is_some_and(|sizes| sizes.contains(&size))
        }
        _ => false,
    };
    preset_names().into_iter().filter(|name| preset(name).is_some_and(|rules| rules.iter().any(may_match))).collect()
}

/// The rules of one preset.
fn preset(name: &str) -> Option<Vec<IgnoreRule>> {
    if !preset_names().iter().any(|known| known == name) {
        return None;
    }
    let variables = Variables::default();
    let mut document = Document::new("presets.toml", PRESETS, &variables);
    let rules = read_document(&mut document, |top| top.tables(name, rule));
    let rules = rules.into_iter().flatten().flatten();
    Some(rules.map(|(_, rule)| IgnoreRule { name: name.to_owned(), ..rule }).collect())
}

/// One rule, and its `name`. `None` if it has errors.
fn rule(table: &mut Section<'_, '_>) -> Option<(Option<String>, IgnoreRule)> {
    let name = table.text("name", rule_name);
    let from = table.text("from", side);
    let paths = rule_paths(table);
    let json = conditions(table, "json");
    let methods = rule_methods(table);
    let query = entries(table, "query", |name| Ok(name.to_owned()));
    let headers = entries(table, "headers", header_name);
    let text = one_or_more(table);
    let prefix = table.text("prefix", literal);
    let regex = table.text("regex", regex);
    let binary_prefix = table.text("binary_prefix", hex);
    let size = table.scalar("size", size);
    let has_from = table.has("from");
    let (others, kind, fix) = if has_from {
        (&OF_REQUESTS[..], "messages", "remove it, or \"from\"")
    } else {
        (&OF_MESSAGES[..], "requests", "remove it, or add from = \"client\" for WebSocket messages")
    };
    for key in others {
        if table.has(key) {
            table.fault(key, ValueError::new(format!("a rule for {kind} has no such key"), fix));
            return None;
        }
    }
    let has_any = |keys: &[&str]| keys.iter().any(|key| table.has(key));
    let is_empty = if has_from {
        !has_any(&OF_MESSAGES) && !table.has("json")
    } else {
        !has_any(&OF_REQUESTS) && !has_any(&["json", "paths"])
    };
    if is_empty {
        let fix = if has_from {
            "say which, such as text = \"ping\""
        } else {
            "say which, such as paths = [\"/api/status\"]"
        };
        table.absent("paths", &format!("it would ignore all {kind}, and cut everyone"), fix);
        return None;
    }
    let what = if has_from {
        Ignored::Message(from?, MessageMatch { text, prefix, json, regex, binary_prefix, size })
    } else {
        Ignored::Request(RequestMatch { methods, query, headers, json })
    };
    Some((name, IgnoreRule { name: String::new(), paths, what }))
}

fn rule_name(text: &str) -> Result<String, ValueError> {
    let is_short = !text.is_empty() && text.len() <= 60 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if is_short {
        return Ok(text.to_owned());
    }
    Err(ValueError::new(format!("{} is not a name", echo(text)), "write up to 60 characters of ASCII, like \"polls\""))
}

fn side(text: &str) -> Result<Side, ValueError> {
    match text {
        "client" => Ok(Side::Client),
        "server" => Ok(Side::Server),
        _ => {
            let what = format!("{} is not a side of a WebSocket", echo(text));
            Err(ValueError::new(what, "write \"client\" or \"server\"; leave it out for requests"))
        }
    }
}

fn entries<N>(
    table: &mut Section<'_, '_>,
    key: &str,
    name: impl Fn(&str) -> Result<N, ValueError>,
) -> Vec<(N, crate::token::Expected)> {
    let found = table.entries(key, |text, value| Ok((name(text)?, expected(value)?)));
    if found.as_ref().is_some_and(Vec::is_empty) {
        table.fault(key, ValueError::new("an empty table", "name something to compare, or leave out the key"));
    }
    found.unwrap_or_default()
}

fn header_name(text: &str) -> Result<HeaderName, ValueError> {
    HeaderName::from_bytes(text.as_bytes()).ok().filter(|_| is_token(text)).ok_or_else(|| {
        ValueError::new(format!("{} is not the name of a header", echo(text)), "write it like \"X-Silent-Poll\"")
    })
}

/// `text`: one text, or a list.
fn one_or_more(table: &mut Section<'_, '_>) -> Option<Vec<String>> {
    table.scalar("text", |value| match value {
        DeValue::String(text) => Ok(vec![literal(text)?]),
        DeValue::Array(items) if !items.is_empty() => {
            let texts = items.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => literal(text),
                _ => Err(ValueError::new("not a text", "write every element of the list in quotes")),
            });
            texts.collect()
        }
        _ => Err(ValueError::new("neither a text nor a list of texts", "write it like \"ping\" or [\"2\", \"3\"]")),
    })
}

fn literal(text: &str) -> Result<String, ValueError> {
    if text.is_empty() || text.len() > MAX_LITERAL_BYTES {
        let what = format!("{} bytes are not a text to compare with", text.len());
        return Err(ValueError::new(what, format!("write 1 to {MAX_LITERAL_BYTES} bytes")));
    }
    Ok(text.to_owned())
}

/// Bytes in hexadecimal digits, with or without spaces between them.
fn hex(text: &str) -> Result<Vec<u8>, ValueError> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
    let pairs = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok().filter(|_| !pair.starts_with('+'))
    });
    pairs.collect::<Option<Vec<_>>>().filter(|bytes| !bytes.is_empty() && bytes.len() <= MAX_LITERAL_BYTES).ok_or_else(
        || {
            ValueError::new(
                format!("{} is not bytes in hexadecimal", echo(text)),
                "write two digits a byte, like \"c0 00\"",
            )
        },
    )
}

/// A length in bytes: a number, or a range such as `"1..20"`, both ends included.
fn size(value: &DeValue<'_>) -> Result<RangeInclusive<u64>, ValueError> {
    let text = match value {
        DeValue::Integer(number) => number.as_str(),
        DeValue::String(text) => text.as_ref(),
        _ => "",
    };
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let limit = MAX_MESSAGE_BYTES as u64;
    match (least.parse(), most.parse()) {
        (Ok(least), Ok(most)) if least <= most && most <= limit => Ok(least..=most),
        _ => {
            let what = format!("{} is not a length up to {limit} bytes", echo(text));
            Err(ValueError::new(what, "write it like 13 or \"1..20\""))
        }
    }
}
