//! What replicas publish, and the stored form of the fleet's mode.

use crate::session::Mode;
use crate::store::{Fleet, Notification, Question};

/// The prefix of a message that sets the fleet's mode.
const SWITCHED: &str = "mode ";

/// The prefix of a question to all replicas. The number of the question and its text follow.
pub(super) const ASKED: &str = "ask ";

/// The message that asks for an early report.
const HINT: &str = "exchange";

/// The length of a question's number, in hexadecimal digits.
pub(super) const NUMBER_DIGITS: usize = 16;

/// Parses a message from the channel. `None` for a message of another version.
pub(super) fn notification(message: &str) -> Option<Notification> {
    if let Some(value) = message.strip_prefix(SWITCHED) {
        return fleet_of_text(value).map(Notification::Switched);
    }
    if let Some(asked) = message.strip_prefix(ASKED) {
        // Not a key from the message: any client can publish here, and could make replicas write anywhere.
        let (number, text) = asked.split_once(' ').filter(|(number, _)| number.len() == NUMBER_DIGITS)?;
        let number = u64::from_str_radix(number, 16).ok()?;
        return Some(Notification::Asked(Question { number, text: text.to_owned() }));
    }
    (message == HINT).then_some(Notification::Hint)
}

/// The stored form of the fleet's mode: `off`, or `off 1759431600 enforce` for `off` until then and `enforce` after it.
pub(super) fn fleet_value(fleet: Fleet) -> String {
    match fleet.until {
        Some((until, then)) => format!("{} {until} {then}", fleet.mode),
        None => fleet.mode.to_string(),
    }
}

/// Reads what [`fleet_value`] wrote, or a person by hand.
pub(super) fn fleet_of_text(text: &str) -> Option<Fleet> {
    let mut words = text.split_whitespace();
    let mode = words.next().and_then(Mode::from_name)?;
    let until = words.next().and_then(|until| until.parse().ok());
    let then = words.next().and_then(Mode::from_name).unwrap_or(Mode::Enforce);
    Some(Fleet { mode, until: until.map(|until| (until, then)) })
}
