//! `[[token]]`: the rules for where tokens are carried.

use super::condition::{conditions, pointer};
use super::cut::message;
use super::error::{ValueError, echo};
use super::section::{Place, Section};
use super::value::{boolean, duration, is_token, not_a, path_pattern};
use crate::route::PathSet;
use crate::token::{Acceptance, Location, Pattern, Required, TokenRule};
use http::{HeaderName, Method};
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
    fn needs(self) -> [(&'static str, Need, &'static str); 12] {
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
            // The handshake of a WebSocket is always a GET.
            ("methods", optional(!in_messages), ""),
            ("required", optional(on_requests), ""),
            ("required_within", optional(self == Self::WsClient), ""),
            ("unknown", optional(on_requests || self == Self::WsClient), ""),
            ("unknown_message", optional(self == Self::WsClient), ""),
        ]
    }
}

/// A rule, and where its `required` stands, if it has one.
pub(super) struct RuleRead {
    pub(super) rule: TokenRule,
    pub(super) required_at: Option<Place>,
}

/// Reads all rules. Rules with errors are left out.
pub(super) fn rules(top: &mut Section<'_, '_>) -> Vec<RuleRead> {
    let rules = top.tables("token", |table| {
        let rule = rule(table);
        rule.map(|rule| RuleRead { rule, required_at: table.has("required").then(|| table.place_of("required")) })
    });
    if rules.as_ref().is_some_and(Vec::is_empty) {
        let fix = "add a rule for where the app sends its token, such as [[token]] from = \"cookie\" name = \"sid\"";
        top.absent("token", "no [[token]] rule: nothing would be tracked", fix);
    }
    let mut rules: Vec<_> = rules.into_iter().flatten().flatten().collect();
    for (number, read) in rules.iter_mut().enumerate() {
        read.rule.number = number;
    }
    rules
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
    let except = except_paths(table, paths.as_ref());
    let methods = rule_methods(table);
    let required = table.scalar("required", required).flatten();
    let required_within = table.text("required_within", duration);
    let format = table.text("format", format);
    let refuses_unknown = table.text("unknown", unknown).unwrap_or(false);
    let unknown_message = table.text("unknown_message", message).flatten();
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
    Some(TokenRule {
        paths,
        except,
        methods,
        required,
        required_within,
        refuses_unknown,
        unknown_message,
        format,
        ends,
        accept,
        ..TokenRule::new(place)
    })
}

/// `unknown`: whether unknown tokens are refused.
fn unknown(text: &str) -> Result<bool, ValueError> {
    match text {
        "admit" => Ok(false),
        "refuse" => Ok(true),
        _ => {
            Err(ValueError::new(format!("{} is neither admit nor refuse", echo(text)), "write \"admit\" or \"refuse\""))
        }
    }
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
                let fix = match (key, kind) {
                    ("required", Kind::WsClient) => "write required_within = \"10s\" instead".to_owned(),
                    _ => format!("remove it; it is for {}", others.join(", ")),
                };
                table.fault(key, ValueError::new(what, fix));
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

pub(super) fn rule_paths(table: &mut Section<'_, '_>) -> Option<PathSet> {
    let paths = table.list("paths", path_pattern).map(PathSet::from_iter);
    if paths.as_ref() == Some(&PathSet::default()) {
        let what = "an empty list: the rule would apply nowhere";
        table.fault("paths", ValueError::new(what, "name paths, or leave out the key for everywhere"));
    }
    paths
}

fn except_paths(table: &mut Section<'_, '_>, paths: Option<&PathSet>) -> PathSet {
    let except: PathSet = table.list("except_paths", path_pattern).unwrap_or_default().into_iter().collect();
    if !except.is_empty() && except.covers(paths.unwrap_or(&PathSet::everywhere())) {
        let what = "it has every path of the rule: the rule would apply nowhere";
        table.fault("except_paths", ValueError::new(what, "name only the paths where the rule does not apply"));
    }
    except
}

pub(super) fn rule_methods(table: &mut Section<'_, '_>) -> Option<Vec<Method>> {
    let methods = table.list("methods", |text| {
        let method = Method::from_bytes(text.as_bytes()).ok().filter(|_| text.to_ascii_uppercase() == text);
        method.ok_or_else(|| {
            ValueError::new(format!("{} is not a method", echo(text)), "write it in capitals, like \"POST\"")
        })
    });
    if methods.as_ref().is_some_and(Vec::is_empty) {
        let what = "an empty list: the rule would apply to no request";
        table.fault("methods", ValueError::new(what, "name methods, or leave out the key for all"));
    }
    methods
}

/// `true`, `false`, or the name of a group.
fn required(value: &DeValue<'_>) -> Result<Option<Required>, ValueError> {
    match value {
        DeValue::Boolean(required) => Ok(required.then_some(Required::Own)),
        DeValue::String(name) if !name.is_empty() => Ok(Some(Required::Group(name.clone().into_owned()))),
        other => {
            let fix = "write true, or the same name in all rules that carry the token by turns, such as \"login\"";
            Err(not_a(other, "true, false or a name", fix))
        }
    }
}

fn format(text: &str) -> Result<Pattern, ValueError> {
    Pattern::whole(text).map_err(|error| {
        let what = format!("{} is not a format: {error}", echo(text));
        ValueError::new(what, "write a regular expression for the whole token, like '[A-Za-z0-9_-]{43}'")
    })
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
