//! `[[token]]`: the rules for where tokens are carried.

use super::error::{ValueError, echo};
use super::section::Section;
use super::value::{boolean, integer, is_token, not_a, path_pattern};
use crate::route::PathSet;
use crate::token::json::Pointer;
use crate::token::{Acceptance, Conditions, Location, Scalar, TokenRule};
use http::HeaderName;
use toml::de::DeValue;

/// `from`: the kind of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Header,
    Bearer,
    Cookie,
    Query,
    RequestJson,
    ResponseJson,
    WsClient,
    WsServer,
}

/// Whether a kind of rule requires, allows or refuses a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Need {
    Required,
    Optional,
    Refused,
}

impl Kind {
    const ALL: [(&'static str, Self); 8] = [
        ("header", Self::Header),
        ("bearer", Self::Bearer),
        ("cookie", Self::Cookie),
        ("query", Self::Query),
        ("request-json", Self::RequestJson),
        ("response-json", Self::ResponseJson),
        ("ws-client", Self::WsClient),
        ("ws-server", Self::WsServer),
    ];

    fn parse(text: &str) -> Result<Self, ValueError> {
        Self::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, kind)| kind).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.into_iter().map(|(name, _)| name).collect();
            let what = format!("{} is not a token location", echo(text));
            ValueError::new(what, format!("write one of {}", names.join(", ")))
        })
    }

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether the token comes with a request, so that the app's response accepts or rejects it.
    fn is_on_requests(self) -> bool {
        matches!(self, Self::Header | Self::Cookie | Self::Query | Self::Bearer | Self::RequestJson)
    }

    /// The keys that only some kinds have, each with the fix to print if it is missing.
    fn needs(self) -> [(&'static str, Need, &'static str); 7] {
        use Need::{Optional, Refused, Required};
        let named = matches!(self, Self::Header | Self::Cookie | Self::Query);
        let on_requests = self.is_on_requests();
        let in_messages = matches!(self, Self::WsClient | Self::WsServer);
        let required = |has: bool| if has { Required } else { Refused };
        let optional = |has: bool| if has { Optional } else { Refused };
        [
            ("name", required(named), "add name = \"session-id\""),
            (
                "pointer",
                required(in_messages || matches!(self, Self::RequestJson | Self::ResponseJson)),
                "add pointer = \"/session_id\"",
            ),
            ("when", required(in_messages), "add when = { \"/cmd\" = \"authenticate\" }"),
            (
                "accept_when",
                if self == Self::WsClient { Required } else { optional(on_requests) },
                "add accept_when = { \"/type\" = \"auth_success\" }",
            ),
            ("reject_when", optional(on_requests || self == Self::WsClient), ""),
            ("ends", optional(on_requests), ""),
            ("accept_type", optional(on_requests), ""),
        ]
    }
}

/// Reads all rules.
pub(super) fn rules(top: &mut Section<'_, '_>) -> Vec<TokenRule> {
    let rules = top.tables("token", rule);
    if rules.as_ref().is_some_and(Vec::is_empty) {
        let fix = "add a rule for where the app sends its token, such as [[token]] from = \"cookie\" name = \"sid\"";
        top.absent("token", "no [[token]] rule: nothing would be tracked", fix);
    }
    let rules = rules.into_iter().flatten().flatten();
    rules.enumerate().map(|(number, rule)| TokenRule { number, ..rule }).collect()
}

/// Reads one rule. Returns `None` if a required key is missing or invalid.
fn rule(table: &mut Section<'_, '_>) -> Option<TokenRule> {
    if !table.has("from") {
        table.absent("from", "nothing says where the token is carried", "add from = \"cookie\", for example");
    }
    let kind = table.text("from", Kind::parse);
    if let Some(kind) = kind {
        check_needs(table, kind);
    }
    // All keys are read for every kind, so that all their errors are reported.
    let name = table.text("name", |text| name(kind, text));
    let pointer = table.text("pointer", pointer);
    let [when, accept_when, reject_when] = ["when", "accept_when", "reject_when"].map(|key| conditions(table, key));
    let paths = rule_paths(table);
    let ends = table.scalar("ends", boolean).unwrap_or(false);
    if ends && !table.has("paths") && kind.is_some() {
        let what = "without paths, every request with a token would be a logout";
        table.fault("ends", ValueError::new(what, "add paths = [\"/api/logout\"]"));
    }
    let media_type = table.text("accept_type", media_type).flatten();
    for key in ["accept_when", "reject_when"] {
        if kind.is_some_and(Kind::is_on_requests) && table.has(key) && !table.has("paths") {
            let what = "without paths, every response to a request with a token would be buffered and parsed";
            table.fault(
                key,
                ValueError::new(what, "name the paths that answer with JSON, such as paths = [\"/api/me\"]"),
            );
        }
    }
    let mut accept = Acceptance { media_type, accept_when, reject_when };
    let place = match kind? {
        Kind::Header => Location::Header(HeaderName::from_bytes(name?.as_bytes()).ok()?),
        Kind::Bearer => Location::Bearer,
        Kind::Cookie => Location::Cookie(name?),
        Kind::Query => Location::Query(name?),
        Kind::RequestJson => Location::RequestJson(pointer?),
        Kind::ResponseJson => Location::ResponseJson(pointer?),
        // For this kind, both conditions are about messages.
        Kind::WsClient => Location::WsClient {
            pointer: pointer?,
            when: when?,
            accept_when: accept.accept_when.take()?,
            reject_when: accept.reject_when.take(),
        },
        Kind::WsServer => Location::WsServer { pointer: pointer?, when: when? },
    };
    Some(TokenRule { number: 0, place, paths, ends, accept })
}

fn check_needs(table: &mut Section<'_, '_>, kind: Kind) {
    for (key, need, fix) in kind.needs() {
        match (need, table.has(key)) {
            (Need::Required, false) => {
                table.absent(key, &format!("a {} rule needs it", kind.name()), fix);
            }
            (Need::Refused, true) => {
                let others: Vec<_> = Kind::ALL
                    .into_iter()
                    .filter(|(_, kind)| {
                        kind.needs().iter().any(|(other, need, _)| *other == key && *need != Need::Refused)
                    })
                    .map(|(name, _)| name)
                    .collect();
                let what = format!("a {} rule has no such key", kind.name());
                table.fault(key, ValueError::new(what, format!("remove it; it is for {}", others.join(", "))));
            }
            (Need::Required | Need::Optional, true) | (Need::Optional | Need::Refused, false) => {}
        }
    }
}

fn name(kind: Option<Kind>, text: &str) -> Result<String, ValueError> {
    match kind {
        Some(Kind::Header | Kind::Cookie) if !is_token(text) || HeaderName::from_bytes(text.as_bytes()).is_err() => {
            let what = format!("{} is not the name of a header or cookie", echo(text));
            Err(ValueError::new(what, "write it like \"session-id\""))
        }
        _ if text.is_empty() => Err(ValueError::new("the name is empty", "write it like \"session-id\"")),
        _ => Ok(text.to_owned()),
    }
}

fn pointer(text: &str) -> Result<Pointer, ValueError> {
    Pointer::parse(text).filter(|pointer| !pointer.segments().is_empty()).ok_or_else(|| {
        let what = format!("{} is not a JSON pointer to a field", echo(text));
        ValueError::new(what, "write it like \"/session_id\" or \"/user/token\" (~1 for /, ~0 for ~ in a name)")
    })
}

fn conditions(table: &mut Section<'_, '_>, key: &str) -> Option<Conditions> {
    let fields = table.entries(key, |name, value| Ok((pointer(name)?, scalar(value)?)))?;
    if fields.is_empty() {
        let fix = "name a field and its value: { \"/type\" = \"auth_success\" }";
        table.fault(key, ValueError::new("an empty table would match every message", fix));
        return None;
    }
    Some(Conditions(fields))
}

fn scalar(value: &DeValue<'_>) -> Result<Scalar, ValueError> {
    let fix = "compare with text, a number, true or false";
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

fn rule_paths(table: &mut Section<'_, '_>) -> Option<PathSet> {
    let paths = table.list("paths", path_pattern).map(PathSet::from_iter);
    if paths.as_ref() == Some(&PathSet::default()) {
        let what = "an empty list: the rule would apply nowhere";
        table.fault("paths", ValueError::new(what, "name paths, or leave out the key for everywhere"));
    }
    paths
}

/// An empty text means any type, so that an environment variable can remove the type of the file.
fn media_type(text: &str) -> Result<Option<String>, ValueError> {
    if text.is_empty() {
        return Ok(None);
    }
    let right =
        text.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype) && !text.contains('*'));
    if right {
        return Ok(Some(text.to_ascii_lowercase()));
    }
    let what = format!("{} is not a media type", echo(text));
    Err(ValueError::new(what, "write it like \"application/json\", without parameters"))
}
