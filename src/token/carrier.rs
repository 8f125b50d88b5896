//! What carries a token to the proxy.

/// How a token reached the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    /// In a request, or in the handshake of a tunnel.
    Request = 0,
    /// In a message in a tunnel.
    Tunnel = 1,
}

impl Carrier {
    pub(crate) const ALL: [Self; 2] = [Self::Request, Self::Tunnel];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Tunnel => "tunnel",
        }
    }
}
