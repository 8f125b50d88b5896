//! Whether a client still takes what it is sent. One that has gone without a word looks like one that is silent, for as long as
//! the system has room for what the app sends: a quarter of an hour and more.

use crate::clock::Moment;
use crate::sock_diag::Sent;

/// How often the system is asked, in milliseconds.
const EVERY: u64 = 1000;

/// How long a client may acknowledge nothing while something waits, in milliseconds: longer than the way to it and back.
const PATIENCE: u64 = 3000;

/// What is known of one client.
#[derive(Debug)]
pub(super) struct ClientReach {
    asked: Option<Moment>,
    acknowledged: u64,
    /// When it acknowledged something, or nothing was waiting.
    reached: Moment,
}

impl ClientReach {
    pub(super) fn new() -> Self {
        Self { asked: None, acknowledged: 0, reached: Moment(0) }
    }

    /// Whether what is sent to it `now` counts as activity. Asks at most once a second; where the system does not tell, it counts.
    pub(super) fn takes(&mut self, now: Moment, ask: impl FnOnce() -> Option<Sent>) -> bool {
        let is_due = self.asked.is_none_or(|asked| now.since(asked) >= EVERY);
        if is_due {
            let is_first = self.asked.replace(now).is_none();
            match ask() {
                Some(sent) => {
                    if is_first || sent.waiting == 0 || sent.acknowledged != self.acknowledged {
                        self.reached = now;
                    }
                    self.acknowledged = sent.acknowledged;
                }
                None => self.reached = now,
            }
        }
        now.since(self.reached) < PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each of these counts: at a second, so many bytes waited and so many had been acknowledged.
    fn taken(sent: &[(u64, u32, u64)]) -> Vec<bool> {
        let mut reach = ClientReach::new();
        sent.iter()
            .map(|(second, waiting, acknowledged)| {
                let sent = Sent { waiting: *waiting, acknowledged: *acknowledged };
                reach.takes(Moment(second * 1000), || Some(sent))
            })
            .collect()
    }

    #[test]
    fn a_client_that_acknowledges_is_reached() {
        assert_eq!(taken(&[(0, 5, 0), (1, 5, 5), (600, 5, 10), (1200, 0, 20), (5000, 0, 20)]), [true; 5]);
        // A long way: what was sent last is always under way.
        assert_eq!(taken(&[(0, 5, 0), (1, 10, 0), (2, 10, 5), (3, 10, 10), (4, 10, 10), (5, 10, 20)]), [true; 6]);
    }

    #[test]
    fn a_client_that_has_gone_is_not() {
        assert_eq!(
            taken(&[(0, 5, 50), (1, 10, 50), (2, 15, 50), (3, 20, 50), (4, 25, 50)]),
            [true, true, true, false, false]
        );
        // The app is silent for ten minutes: the first message after that is the last that counts.
        assert_eq!(taken(&[(0, 5, 0), (600, 5, 5), (1200, 10, 5)]), [true, true, false]);
        assert_eq!(taken(&[(0, 5, 0), (600, 5, 0), (1200, 10, 0), (1201, 5, 9)]), [true, false, false, true]);
    }

    #[test]
    fn the_system_is_asked_once_a_second_and_where_it_does_not_tell_all_counts() {
        let mut reach = ClientReach::new();
        let mut asked = 0;
        for now in 0..10_000 {
            assert!(reach.takes(Moment(now), || {
                asked += 1;
                None
            }));
        }
        assert_eq!(asked, 10);
    }
}
