//! Access control of the `[admin]` listener: clients with the token, and no pages of other sites.

use crate::refusal::AdminError;
use crate::secret::Secret;
use http::{HeaderMap, HeaderValue, Uri, header};
use sha2::{Digest, Sha256};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use subtle::ConstantTimeEq;

/// The access rule of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// The hash of the token, so that the comparison time does not depend on the token's length.
    token: Option<[u8; 32]>,
}

impl Access {
    /// Requires the token in `file`. Loopback and Unix sockets need no token.
    ///
    /// # Errors
    /// If the file cannot be read or its token is too easy to guess.
    pub(crate) fn new(file: Option<&Path>) -> io::Result<Self> {
        Ok(Self { token: file.map(read).transpose()?.map(|token| hash(token.reveal())) })
    }

    /// Checks an API request.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), AdminError> {
        self.check_names(uri, headers)?;
        if headers.get("sec-fetch-site").is_some_and(is_cross_site) {
            return Err(AdminError::Origin);
        }
        match self.token {
            Some(token) if !offered(headers).is_some_and(|offered| bool::from(hash(offered).ct_eq(&token))) => {
                Err(AdminError::Token)
            }
            _ => Ok(()),
        }
    }

    /// Checks a request for a file of the page. The files hold no data, so they need no token. Another site may link to
    /// the page, but may not load it into its own page.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn check_page(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), AdminError> {
        self.check_names(uri, headers)?;
        let is_navigation = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
        if !is_navigation && headers.get("sec-fetch-site").is_some_and(is_cross_site) {
            return Err(AdminError::Origin);
        }
        Ok(())
    }

    fn check_names(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), AdminError> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host =
            uri.authority().map(http::uri::Authority::as_str).or(hosts.next().and_then(|host| host.to_str().ok()));
        // More than one Host is ambiguous (RFC 9112 §3.2).
        if hosts.next().is_some() {
            return Err(AdminError::Host);
        }
        // DNS rebinding: a name that an attacker resolves to loopback makes the attacker's page same-origin. With a
        // token this is harmless, because no page knows it. Unix sockets are checked too: `ssh -L` can lead a browser
        // there.
        if self.token.is_none() && !host.is_some_and(is_own_name) {
            return Err(AdminError::Host);
        }
        // Check every Origin: browsers send one, and several are ambiguous.
        if !headers.get_all(header::ORIGIN).iter().all(|origin| is_same_origin(origin, host)) {
            return Err(AdminError::Origin);
        }
        Ok(())
    }
}

/// Reads the token in a file, without the white space around it.
pub(crate) fn read(file: &Path) -> io::Result<Secret> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    let token = Secret::in_file(file).map_err(named)?;
    if token.is_short() || !token.reveal().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        let fix = "write the output of `openssl rand -hex 32` into it";
        return Err(named(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("too short, or not one line of ASCII; {fix}"),
        )));
    }
    Ok(token)
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn offered(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a Host is an IP address or `localhost`, which DNS rebinding cannot use.
fn is_own_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

fn is_cross_site(site: &HeaderValue) -> bool {
    site != "same-origin" && site != "none"
}

fn is_same_origin(origin: &HeaderValue, host: Option<&str>) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    named.is_some() && named == host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn check(access: &Access, fields: &[(&'static str, &str)]) -> Result<(), AdminError> {
        access.check(&Uri::from_static("/"), &headers(fields))
    }

    #[test]
    fn without_a_token_only_an_address_or_localhost_is_accepted_as_host() {
        let access = Access::new(None).unwrap();
        for host in ["127.0.0.1:9090", "[::1]:9090", "localhost:9090", "localhost", "LOCALHOST:1", "10.0.0.7"] {
            assert_eq!(check(&access, &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["evil.example:9090", "localhost.evil.example", "127.0.0.1.evil.example", "", ":9090"] {
            assert_eq!(check(&access, &[("host", host)]), Err(AdminError::Host), "{host}");
        }
        assert_eq!(check(&access, &[]), Err(AdminError::Host));
        // An unreadable second Host still counts.
        let mut two = headers(&[("host", "localhost")]);
        two.append("host", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(access.check(&Uri::from_static("/"), &two), Err(AdminError::Host));
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let access = Access::new(None).unwrap();
        let host = ("host", "127.0.0.1:9090");
        assert_eq!(check(&access, &[host, ("origin", "http://127.0.0.1:9090")]), Ok(()));
        for origin in ["http://127.0.0.1:9091", "http://evil.example", "null", "", "127.0.0.1:9090"] {
            assert_eq!(check(&access, &[host, ("origin", origin)]), Err(AdminError::Origin), "{origin}");
        }
        let (ours, foreign) = (("origin", "http://127.0.0.1:9090"), ("origin", "http://evil.example"));
        assert_eq!(check(&access, &[host, ours, foreign]), Err(AdminError::Origin));
        assert_eq!(check(&access, &[host, ("sec-fetch-site", "cross-site")]), Err(AdminError::Origin));
        assert_eq!(check(&access, &[host, ("sec-fetch-site", "same-origin")]), Ok(()));
    }

    #[test]
    fn another_site_may_link_to_the_page_but_not_load_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "0123456789abcdef").unwrap();
        let host = ("host", "127.0.0.1:9090");
        let foreign = ("sec-fetch-site", "cross-site");
        for access in [Access::new(None).unwrap(), Access::new(Some(&file)).unwrap()] {
            let check = |fields: &[_]| access.check_page(&Uri::from_static("/"), &headers(fields));
            assert_eq!(check(&[host]), Ok(()));
            assert_eq!(check(&[host, foreign, ("sec-fetch-mode", "navigate")]), Ok(()));
            assert_eq!(check(&[host, foreign, ("sec-fetch-mode", "no-cors")]), Err(AdminError::Origin));
            assert_eq!(check(&[host, ("origin", "http://evil.example")]), Err(AdminError::Origin));
        }
        let open = Access::new(None).unwrap();
        assert_eq!(
            open.check_page(&Uri::from_static("/"), &headers(&[("host", "evil.example")])),
            Err(AdminError::Host)
        );
        let asked = [host, foreign, ("sec-fetch-mode", "navigate")];
        assert_eq!(check(&open, &asked), Err(AdminError::Origin), "only the page");
    }

    #[test]
    fn a_listener_with_a_token_requires_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        let access = Access::new(Some(&file)).unwrap();
        for scheme in ["Bearer", "bearer"] {
            let right = format!("{scheme} 0123456789abcdef");
            assert_eq!(check(&access, &[("host", "idlegate.internal"), ("authorization", &right)]), Ok(()));
        }
        for wrong in ["Bearer 0123456789abcdee", "Bearer ", "Basic 0123456789abcdef", "0123456789abcdef"] {
            assert_eq!(
                check(&access, &[("host", "127.0.0.1"), ("authorization", wrong)]),
                Err(AdminError::Token),
                "{wrong}"
            );
        }
        assert_eq!(check(&access, &[("host", "127.0.0.1")]), Err(AdminError::Token));
        assert!(!format!("{access:?}").contains("0123456789abcdef"));
        for wrong in ["short\n", "0123456789abcdef\n0123456789abcdef\n", "0123456789abcdefg\u{fc}"] {
            std::fs::write(&file, wrong).unwrap();
            assert!(Access::new(Some(&file)).unwrap_err().to_string().contains("openssl rand -hex 32"), "{wrong}");
        }
    }
}
