//! Sources of activity, and which of them count.

use std::fmt;

/// Where an activity came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A request began or ended, or its response is still awaited.
    Request = 0,
    /// Body bytes moved.
    Transfer = 1,
    /// The client sent a data frame. Ping frames never count as activity.
    ClientFrame = 2,
    /// The app sent a data frame.
    ServerFrame = 3,
    /// The client answered a ping.
    ClientPong = 4,
    /// The app accepted the token: the session began.
    Accepted = 5,
    /// An operator extended the session.
    Operator = 6,
}

impl Source {
    pub(crate) const ALL: [Self; 7] = [
        Self::Request,
        Self::Transfer,
        Self::ClientFrame,
        Self::ServerFrame,
        Self::ClientPong,
        Self::Accepted,
        Self::Operator,
    ];

    /// The name in logs and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Transfer => "transfer",
            Self::ClientFrame => "client-frame",
            Self::ServerFrame => "server-frame",
            Self::ClientPong => "client-pong",
            Self::Accepted => "accepted",
            Self::Operator => "operator",
        }
    }

    /// The source with this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }

    /// The source whose discriminant is `code`.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which activity counts (`[activity]` of the configuration).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ActivitySources {
    /// Data frames from the client.
    pub client_frames: bool,
    /// Data frames from the app.
    pub server_frames: bool,
    /// Pongs from the client.
    pub client_pongs: bool,
    /// A request's start and end.
    pub requests: bool,
    /// Bytes of a request's body.
    pub uploads: bool,
    /// Bytes of a response's body.
    pub downloads: bool,
}

impl ActivitySources {
    /// `profile = "tab"`: an open tab keeps the session active, as long as its browser answers pings.
    pub const TAB: Self = Self {
        client_frames: true,
        server_frames: true,
        client_pongs: true,
        requests: true,
        uploads: true,
        downloads: true,
    };
    /// `profile = "person"`: only activity that a person causes.
    pub const PERSON: Self = Self { server_frames: false, client_pongs: false, downloads: false, ..Self::TAB };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_found_by_its_code() {
        for source in Source::ALL {
            assert_eq!(Source::from_code(source as u8), Some(source));
        }
        assert_eq!(Source::from_code(7), None);
    }
}
