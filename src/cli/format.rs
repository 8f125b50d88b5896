//! Formats responses for people: a sentence first, then one fact per line.

use super::mode::Switching;
use crate::admin::json::{Drained, Explained, ManySessions, Modes, OneSession, SwitchSetting, Warnings};
use crate::clock::epoch_milliseconds;
use crate::counted::{counted, span, when};
use crate::registry::{MAX_LISTED, State, Switch, unissued_tokens};
use crate::session::{Mode, Reason};
use crate::token_changes::changing_tokens;

/// The state of the switches. If the mode in force is less strict than requested, names the switch that decides it.
pub(super) fn mode(modes: &Modes, switching: &Switching) -> String {
    let mut lines = Lines::default();
    lines.warnings(&modes.warnings);
    lines.add("mode", &modes.mode);
    for (switch, setting) in &modes.switches {
        lines.add(&format!("  {switch}"), &setting_text(setting));
    }
    if !modes.switches.contains_key(Switch::Fleet.name())
        && let Some(store) = &modes.store
    {
        lines.add("  fleet", &format!("none: a {store} store is not shared with other replicas"));
    }
    lines.add("past the limit", &format!("{} known to this replica", counted(modes.past_the_limit, "session")));
    lines.add("replica", &modes.replica);
    if let Some(requested) = switching.mode.as_deref().and_then(Mode::from_name)
        && Mode::from_name(&modes.mode).is_some_and(|mode| mode < requested)
    {
        let others = modes.switches.iter().filter(|(_, setting)| setting.mode == modes.mode);
        for (switch, _) in others {
            let how = match switch.as_str() {
                "file" => format!("idle.mode = \"{requested}\" in the configuration"),
                "fleet" => format!("idlegate mode {requested} --fleet"),
                _ => format!("idlegate mode {requested}"),
            };
            lines.say(&format!(
                "The mode stays {}, because the switch {switch} is less strict. To change it: {how}",
                modes.mode
            ));
        }
    }
    let returns =
        |setting: &SwitchSetting| setting.until.as_ref().is_some_and(|until| until.then == Mode::Enforce.name());
    if modes.switches.values().any(|setting| setting.mode == Mode::Observe.name() && returns(setting)) {
        lines.say("When observe ends, sessions past the limit are cut without confirmation.");
    }
    lines.0
}

fn setting_text(SwitchSetting { mode, until }: &SwitchSetting) -> String {
    until
        .as_ref()
        .map_or_else(|| mode.clone(), |until| format!("{mode}, {} left, then {}", span(until.seconds_left), until.then))
}

/// The progress of a drain.
pub(super) fn drain(drained: &Drained) -> String {
    let Drained { phase, tunnels, requests, seconds_left, .. } = drained;
    let (tunnels, requests) = (counted(*tunnels, "tunnel"), counted(*requests, "request"));
    format!("{phase}: {tunnels} and {requests} left, up to {} to finish\n", span(*seconds_left))
}

/// Why a session is live or has ended.
pub(super) fn session(explained: &Explained) -> String {
    let Explained { session, mode, silent, .. } = explained;
    let OneSession { view, now, idle, limit, seconds_left, left_until, says } = session;
    let when = |at: u64| when(at, *now);
    let mut lines = Lines::default();
    lines.say(says);
    lines.0.push('\n');
    lines.add("session", &view.session);
    lines.add("state", state(view.state));
    lines.add("idle", &format!("{} of {}", span(*idle), span(*limit)));
    if seconds_left.is_some() && mode == Mode::Off.name() {
        lines.add("left", "idle time does not count in mode off");
    } else if let Some(left) = seconds_left {
        let is_old = left_until.as_deref() == Some(Reason::Lifetime.name());
        lines.add("left", &format!("{}{}", span(*left), if is_old { " of its lifetime" } else { "" }));
    }
    lines.add("created", &when(view.created));
    if let Some(last_request) = &view.last_request {
        lines.add("client", &last_request.client);
        lines.add("path", &last_request.route);
    }
    let mut sources: Vec<_> = view.activity.iter().collect();
    sources.sort_by_key(|(_, at)| std::cmp::Reverse(**at));
    lines.all("activity", sources.iter().map(|(source, at)| (source.as_str(), when(**at))));
    lines.all("connections", view.connections.iter().map(|(replica, count)| (replica.as_str(), count.to_string())));
    if let Some(close) = &view.last_close {
        lines.add("last WebSocket", &format!("closed {} by {}", when(close.at), close.closed_by()));
    }
    if let Some(end) = &view.end {
        let label = if view.state == State::Ended { "ended" } else { "overdue since" };
        lines.add(label, &format!("{}  by {}", when(end.at), end.reason));
    }
    if *silent > 0 {
        lines.say(&format!("{} did not respond: their data is missing.", counted(silent, "replica")));
    }
    lines.0
}

/// A table of sessions, one per line.
pub(super) fn table(listed: &ManySessions) -> String {
    let ManySessions { warnings, mode, sessions, silent, .. } = listed;
    let mut lines = Lines::default();
    lines.warnings(warnings);
    let row = |id: &str, state: &str, idle: &str, left: &str, source: &str, connections: &str, client: &str| {
        let row = format!("{id:<32}  {state:<6}  {idle:>12}  {left:>12}  {source:<12}  {connections:>11}  {client}");
        row.trim_end().to_owned()
    };
    lines.say(&row("SESSION", "STATE", "IDLE", "LEFT", "KEPT BY", "CONNECTIONS", "CLIENT, PATH"));
    for OneSession { view, idle, seconds_left, .. } in sessions {
        let connections = view.connections.values().sum::<usize>().to_string();
        // In mode `off` idle time does not count, so no time is left or used up.
        let left = seconds_left.filter(|_| mode != Mode::Off.name()).map_or_else(String::new, span);
        let client = view
            .last_request
            .as_ref()
            .map_or(String::new(), |last_request| format!("{} {}", last_request.client, last_request.route));
        let state = state(view.state);
        lines.say(&row(&view.session, state, &span(*idle), &left, &view.source, &connections, &client));
    }
    lines.0.push('\n');
    let more = if sessions.len() >= MAX_LISTED { "; there may be more that were idle for less time" } else { "" };
    let silent = match silent {
        0 => String::new(),
        _ => format!("; {} did not respond: their sessions are missing", counted(silent, "replica")),
    };
    lines.say(&format!("{}, mode {mode}{more}{silent}", counted(sessions.len(), "session")));
    lines.0
}

fn state(state: State) -> &'static str {
    match state {
        State::Live => "live",
        State::Overdue => "overdue",
        State::Ended => "ended",
    }
}

/// Aligned lines of a label and a text.
#[derive(Default)]
struct Lines(String);

impl Lines {
    /// No session expires while the store is unavailable, or for rules that find no token, or one that does not stay the
    /// same.
    fn warnings(&mut self, Warnings { changing, unissued, no_match, held_since }: &Warnings) {
        if let Some(since) = held_since {
            let since = when(*since, epoch_milliseconds() / 1000);
            self.say(&format!(
                "No session expires: the store has been unavailable since {since}. See the log, or idlegate doctor.\n"
            ));
        }
        if let Some(no_match) = no_match {
            self.say(&format!("{no_match}\n"));
        }
        if !unissued.is_empty() {
            self.say(&format!("{}\n", unissued_tokens(unissued)));
        }
        if !changing.is_empty() {
            self.say(&format!("{}\n", changing_tokens(changing)));
        }
    }

    fn say(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn add(&mut self, label: &str, text: &str) {
        // Fits the longest label. Long replica names may exceed it.
        let line = format!("{label:<18}  {text}");
        self.say(line.trim_end());
    }

    /// Several entries under one label, or `none`.
    fn all<'a>(&mut self, label: &str, entries: impl Iterator<Item = (&'a str, String)>) {
        let mut entries = entries.peekable();
        self.add(label, if entries.peek().is_none() { "none" } else { "" });
        for (name, text) in entries {
            self.add(&format!("  {name}"), &text);
        }
    }
}
