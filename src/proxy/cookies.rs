//! Removing dead cookies from the browser. A browser removes a cookie only if path and domain are those that it was set
//! with (RFC 6265 §5.3), so the app's answers are watched for them.

use crate::refusal::DeadCookie;
use crate::token::removes_cookie;
use http::{HeaderMap, HeaderValue, header};
use parking_lot::RwLock;
use std::fmt::Write as _;

/// How many variants of one cookie are remembered. An app has one or two.
const MAX_VARIANTS: usize = 8;

/// How many folders of a path are tried for a cookie that was set without a path.
const MAX_FOLDERS: usize = 8;

/// How long the value of an attribute may be, in bytes.
const MAX_VALUE_BYTES: usize = 256;

/// How the app sets the cookies that carry tokens.
#[derive(Debug)]
pub(super) struct SetCookies(Vec<SetCookie>);

/// One cookie, and the attributes that the app has set it with.
#[derive(Debug)]
struct SetCookie {
    name: String,
    variants: RwLock<Vec<Attributes>>,
}

/// What a removal must have in common with the cookie.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Attributes {
    /// `None`: the folder of the request that it was set on (RFC 6265 §5.1.4).
    path: Option<String>,
    domain: Option<String>,
    same_site: Option<String>,
    is_secure: bool,
    is_partitioned: bool,
}

impl SetCookies {
    /// For the cookies with these names.
    pub(super) fn new(names: Vec<String>) -> Self {
        Self(names.into_iter().map(|name| SetCookie { name, variants: RwLock::default() }).collect())
    }

    /// Learns from the head of an answer.
    pub(super) fn learn(&self, headers: &HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        for line in headers.get_all(header::SET_COOKIE).iter().filter_map(|line| line.to_str().ok()) {
            let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
            let name = pair.split('=').next().unwrap_or_default().trim();
            let Some(cookie) = self.0.iter().find(|cookie| cookie.name == name) else { continue };
            if removes_cookie(attributes) {
                continue;
            }
            if let Some(found) = Attributes::read(attributes) {
                cookie.learn(found);
            }
        }
    }

    /// The `Set-Cookie` values that remove a cookie which came with a request for `path`: one for each variant.
    pub(super) fn removals(&self, cookie: &DeadCookie, path: &str) -> Vec<HeaderValue> {
        let known = self.0.iter().find(|known| known.name == cookie.name);
        let mut variants = known.map(|known| known.variants.read().clone()).unwrap_or_default();
        if variants.is_empty() {
            // Not set since idlegate started.
            variants.push(Attributes { path: Some("/".to_owned()), ..Attributes::default() });
        }
        let removals = variants.iter().flat_map(|attributes| match &attributes.path {
            Some(path) => vec![attributes.removing(&cookie.name, path)],
            None => folders(path).map(|folder| attributes.removing(&cookie.name, folder)).collect(),
        });
        removals.flatten().collect()
    }
}

impl SetCookie {
    fn learn(&self, found: Attributes) {
        if self.variants.read().contains(&found) {
            return;
        }
        let mut variants = self.variants.write();
        if !variants.contains(&found) {
            if variants.len() >= MAX_VARIANTS {
                variants.remove(0);
            }
            variants.push(found);
        }
    }
}

impl Attributes {
    /// Reads the attributes as browsers do: the last of a name counts (RFC 6265 §5.2). `None` where one cannot be repeated.
    fn read(text: &str) -> Option<Self> {
        let mut found = Self::default();
        for attribute in text.split(';') {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let value = value.trim();
            if value.len() > MAX_VALUE_BYTES {
                return None;
            }
            let given = || (!value.is_empty()).then(|| value.to_owned());
            match name.trim().to_ascii_lowercase().as_str() {
                "path" => found.path = given().filter(|path| path.starts_with('/')),
                "domain" => found.domain = given(),
                "samesite" => found.same_site = given(),
                "secure" => found.is_secure = true,
                "partitioned" => found.is_partitioned = true,
                _ => {}
            }
        }
        Some(found)
    }

    fn removing(&self, name: &str, path: &str) -> Option<HeaderValue> {
        let mut line = format!("{name}=; Path={path}");
        if let Some(domain) = &self.domain {
            let _ = write!(line, "; Domain={domain}");
        }
        line.push_str("; Max-Age=0");
        // Browsers accept a `__Host-` or `__Secure-` cookie only with Secure.
        if self.is_secure || name.starts_with("__") {
            line.push_str("; Secure");
        }
        if let Some(same_site) = &self.same_site {
            let _ = write!(line, "; SameSite={same_site}");
        }
        if self.is_partitioned {
            line.push_str("; Partitioned");
        }
        HeaderValue::from_str(&line).ok()
    }
}

/// The folders in which a cookie may have been set that comes with a request for `path`: a browser sends it below them.
fn folders(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    let below = ends.filter_map(|end| path.get(..end)).filter(|folder| folder.len() > 1 && !folder.contains(';'));
    std::iter::once("/").chain(below).take(MAX_FOLDERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removals(lines: &[&str], name: &str, path: &str) -> Vec<String> {
        let cookies = SetCookies::new(vec!["sid".to_owned(), "__Host-sid".to_owned()]);
        for line in lines {
            cookies.learn(&HeaderMap::from_iter([(header::SET_COOKIE, line.parse().unwrap())]));
        }
        let cookie = DeadCookie { name: name.to_owned(), is_required: false };
        cookies.removals(&cookie, path).iter().map(|line| line.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_removal_has_the_attributes_that_the_app_used() {
        let set = "sid=abc; Path=/app; domain=.Example.org; HttpOnly; secure; SameSite=None; Partitioned; Max-Age=60";
        let removal = "sid=; Path=/app; Domain=.Example.org; Max-Age=0; Secure; SameSite=None; Partitioned";
        assert_eq!(removals(&[set, set], "sid", "/"), [removal]);
        assert_eq!(removals(&["sid=abc; Path=/a; Path=/b"], "sid", "/"), ["sid=; Path=/b; Max-Age=0"]);
    }

    #[test]
    fn each_variant_is_removed() {
        let lines = ["sid=a; Path=/", "sid=a; Path=/app", "sid=; Path=/gone; Max-Age=0"];
        assert_eq!(removals(&lines, "sid", "/x"), ["sid=; Path=/; Max-Age=0", "sid=; Path=/app; Max-Age=0"]);
        let many: Vec<_> = (0..100).map(|number| format!("sid=a; Path=/{number}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(removals(&many, "sid", "/").len(), MAX_VARIANTS);
    }

    #[test]
    fn a_cookie_that_was_set_without_a_path_is_removed_from_each_folder_that_it_may_be_in() {
        for set in ["sid=a", "sid=a; Path=relative"] {
            let folders = ["/", "/app", "/app/edit"].map(|folder| format!("sid=; Path={folder}; Max-Age=0"));
            assert_eq!(removals(&[set], "sid", "/app/edit"), folders, "{set}");
        }
        assert_eq!(removals(&["sid=a"], "sid", "/").len(), 1);
        assert_eq!(removals(&["sid=a"], "sid", "/x;Domain=evil.example/y"), ["sid=; Path=/; Max-Age=0"]);
        assert_eq!(removals(&["sid=a"], "sid", &"/x".repeat(500)).len(), MAX_FOLDERS);
    }

    #[test]
    fn what_was_not_seen_is_removed_from_the_whole_host() {
        assert_eq!(removals(&["other=a; Path=/app"], "sid", "/app/"), ["sid=; Path=/; Max-Age=0"]);
        assert_eq!(removals(&[], "__Host-sid", "/"), ["__Host-sid=; Path=/; Max-Age=0; Secure"]);
        let long = format!("sid=a; Path=/{}", "x".repeat(MAX_VALUE_BYTES));
        assert_eq!(removals(&[&long], "sid", "/"), ["sid=; Path=/; Max-Age=0"]);
    }
}
