//! The app's logins. They last until logout.

use crate::session::SessionId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// The logins of the app. They never expire, because the app has no idle timeout.
#[derive(Default)]
pub(super) struct Logins(Mutex<HashMap<SessionId, Login>>);

struct Login {
    username: String,
    /// Wakes the socket authenticated with this token when another one replaces it.
    socket: Option<Arc<Notify>>,
}

impl Logins {
    /// Logs a user in and issues a token: 32 random bytes in base64url, like Python's `secrets.token_urlsafe(32)`.
    pub(super) fn begin(&self, username: &str) -> String {
        let token = base64url(&rand::random::<[u8; 32]>());
        let login = Login { username: username.to_owned(), socket: None };
        self.0.lock().insert(SessionId::of_token(token.as_bytes()), login);
        token
    }

    /// The username of a token.
    pub(super) fn username(&self, token: &str) -> Option<String> {
        self.0.lock().get(&SessionId::of_token(token.as_bytes())).map(|login| login.username.clone())
    }

    /// Whether the app still holds the login of this session.
    pub(super) fn holds(&self, session: &SessionId) -> bool {
        self.0.lock().contains_key(session)
    }

    /// Makes `socket` the only socket of the token and wakes the previous one. Returns the username.
    pub(super) fn take_socket(&self, token: &str, socket: &Arc<Notify>) -> Option<String> {
        let mut logins = self.0.lock();
        let login = logins.get_mut(&SessionId::of_token(token.as_bytes()))?;
        if let Some(before) = login.socket.replace(Arc::clone(socket))
            && !Arc::ptr_eq(&before, socket)
        {
            before.notify_one();
        }
        Some(login.username.clone())
    }

    /// Forgets `socket` if it is still the socket of a token.
    pub(super) fn leave_socket(&self, socket: &Arc<Notify>) {
        for login in self.0.lock().values_mut() {
            login.socket.take_if(|current| Arc::ptr_eq(current, socket));
        }
    }

    /// Ends a login. An open socket stays open, as in the real app.
    pub(super) fn end(&self, token: &str) -> bool {
        self.0.lock().remove(&SessionId::of_token(token.as_bytes())).is_some()
    }
}

/// Base64 with `-` and `_`, without padding (RFC 4648 §5).
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().chain([0, 0].iter()).take(3).fold(0, |bits, byte| (bits << 8) | usize::from(*byte));
        for digit in 0..=group.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) & 63]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_matches_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("\u{7ff}", "378")]
        {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn a_token_has_43_characters_and_is_new_every_time() {
        let logins = Logins::default();
        let (one, other) = (logins.begin("ada"), logins.begin("ada"));
        assert!(one != other && one.len() == 43 && other.len() == 43);
        assert_eq!(logins.username(&one).as_deref(), Some("ada"));
        assert!(logins.end(&one) && !logins.end(&one) && logins.username(&one).is_none());
        assert!(logins.username(&other).is_some());
    }
}
