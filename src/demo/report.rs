//! The demo's terminal output: a line for each login and for each end of a session.

use crate::registry::Registry;
use crate::session::{Reason, SessionId};
use crate::store::Ended;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The largest number of sessions watched for their end.
const MAX_WATCHED: usize = 1000;

/// How many characters of a name are shown.
const MAX_NAME_CHARS: usize = 40;

/// A user has logged in at the app.
pub(super) struct LoggedIn {
    pub(super) username: String,
    pub(super) session: SessionId,
}

/// Prints logins and ends until dropped.
pub(super) async fn report_sessions(
    registry: &Registry,
    mut logged_in: mpsc::Receiver<LoggedIn>,
    print: impl Fn(String),
) {
    let limit = registry.limits().timeout;
    let mut watched: Vec<LoggedIn> = Vec::new();
    let mut tick = tokio::time::interval(CHECK_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(login) = logged_in.recv() => {
                print(login_line(&login, limit));
                if watched.len() < MAX_WATCHED {
                    watched.push(login);
                }
            }
            _ = tick.tick(), if !watched.is_empty() => watched.retain(|login| {
                let session = registry.table.known(login.session);
                let ended = session.as_ref().and_then(|session| session.ended());
                if let Some(ended) = ended {
                    print(end_line(login, ended, limit));
                }
                ended.is_none()
            }),
        }
    }
}

fn login_line(login: &LoggedIn, limit: u64) -> String {
    let name = shown(&login.username);
    format!(
        "{name} logged in. idlegate cuts this session after {limit} s without activity.  (session {})",
        short(login)
    )
}

fn end_line(login: &LoggedIn, ended: &Ended, limit: u64) -> String {
    let name = shown(&login.username);
    let what = match ended.reason {
        Reason::Idle => format!(
            "{name} was idle for {} s, more than {limit} s: idlegate cut the session. Its connections are closed, and its \
             token is rejected from now on.",
            ended.idle()
        ),
        Reason::Lifetime => format!("{name}'s session is older than its lifetime: idlegate cut it."),
        Reason::Logout => format!("{name} logged out."),
        Reason::Operator => format!("An operator ended the session of {name}."),
    };
    format!("{what}  (session {})", short(login))
}

/// The session id as the page shows it.
fn short(login: &LoggedIn) -> String {
    login.session.to_string().chars().take(8).collect()
}

/// Users choose their names, so control characters are escaped.
fn shown(username: &str) -> String {
    username.escape_debug().take(MAX_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Source;

    #[test]
    fn each_reason_has_its_own_end_line() {
        let login = LoggedIn { username: "ada\u{1b}[2J".to_owned(), session: SessionId::of_token(b"token") };
        assert_eq!(
            login_line(&login, 30).split("  (").next(),
            Some("ada\\u{1b}[2J logged in. idlegate cuts this session after 30 s without activity.")
        );
        let line = |reason| {
            let (source, created, last_activity, ended) = (Source::Request, 0, 100, 131);
            let ended = Ended {
                last_activity,
                source,
                created,
                ended,
                reason,
                counting: None,
                watermark: ended,
                remembered_for: 1,
            };
            end_line(&login, &ended, 30)
        };
        assert!(line(Reason::Idle).contains("was idle for 31 s, more than 30 s: idlegate cut the session."));
        assert!(line(Reason::Logout).contains("logged out.  (session "));
        assert!(line(Reason::Operator).starts_with("An operator ended"));
        assert!(!line(Reason::Lifetime).contains('\u{1b}'));
    }
}
