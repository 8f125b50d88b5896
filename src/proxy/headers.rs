//! Header fields that change on the way through: hop-by-hop fields, and those that name the client to the app.

use super::Client;
use crate::refusal::ProxyError;
use crate::token::MAX_EXAMINED_BYTES;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Version, request};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REAL_ADDRESS: HeaderName = HeaderName::from_static("x-real-ip");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What belongs to one hop whether `Connection` names it or not (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Refuses a head that two readers could understand in two ways.
pub(super) fn check(head: &request::Parts) -> Result<(), ProxyError> {
    match head.headers.get_all(header::HOST).iter().count() {
        0 if head.version >= Version::HTTP_11 && head.uri.authority().is_none() => {
            return Err(ProxyError::Malformed("it has no Host"));
        }
        0 | 1 => {}
        _ => return Err(ProxyError::Malformed("it has more than one Host")),
    }
    if head.uri.authority().is_some() && head.uri.scheme().is_none() {
        return Err(ProxyError::Malformed("its target is neither a path nor a URL"));
    }
    if is_coded(&head.headers) { Err(ProxyError::Coding) } else { Ok(()) }
}

/// Whether a body has codings other than chunked. Removing the chunks, as this hop does, would leave a body in a coding
/// that is not declared.
pub(super) fn is_coded(headers: &HeaderMap) -> bool {
    let codings: Vec<_> = elements(headers, &header::TRANSFER_ENCODING).collect();
    !matches!(codings[..], []) && !matches!(codings[..], [one] if one.eq_ignore_ascii_case("chunked"))
}

/// Whether a body is compressed, and so cannot be examined.
pub(super) fn is_compressed(headers: &HeaderMap) -> bool {
    elements(headers, &header::CONTENT_ENCODING).any(|coding| !coding.eq_ignore_ascii_case("identity"))
}

/// Whether a message declares that its body is short enough to be read before it is passed on. One without a length may be a
/// stream, which is never held back; a compressed one cannot be read.
pub(super) fn is_short(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    length.is_some_and(|length| length <= MAX_EXAMINED_BYTES) && !is_compressed(headers)
}

/// Removes hop-by-hop fields. `TE: trailers` is set again, for the next hop, since trailers are passed on (RFC 9110
/// §10.1.4); `Trailer` stays, since it declares them end to end (§6.6.2).
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let trailers = lists(headers, &header::TE, "trailers");
    let named: Vec<HeaderName> = elements(headers, &header::CONNECTION)
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        // Naming these would take the message itself apart.
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH && *name != header::TRAILER)
        .collect();
    without(headers, |name| named.contains(name) || HOP_BY_HOP.contains(name));
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("TE"));
    }
}

/// Takes out the fields that are `unwanted`. The others keep their order: `HeaderMap::remove` moves the last field into
/// the place of the one that it removes.
pub(super) fn without(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    if !headers.keys().any(&unwanted) {
        return;
    }
    let mut kept = HeaderMap::with_capacity(headers.keys_len());
    let mut name = None;
    // Further lines of a field come without its name.
    for (next, value) in std::mem::take(headers) {
        name = next.or(name);
        if let Some(name) = name.as_ref().filter(|name| !unwanted(name)) {
            kept.append(name, value);
        }
    }
    *headers = kept;
}

/// The elements of a comma-separated field, over all its lines.
pub(super) fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|element| !element.is_empty())
}

/// Whether a comma-separated field has this element, in any case.
pub(super) fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(wanted))
}

/// Names the client to the app. What the client says about itself counts only if the peer is trusted.
pub(super) fn forwarded(headers: &mut HeaderMap, client: &Client, trusted: &[IpNet]) {
    let peer = client.address.ip().to_canonical();
    let trust = trusted.iter().any(|network| network.contains(&peer));
    let mut chain = String::new();
    if !trust {
        // Some apps believe these rather than the fields below.
        without(headers, |name| *name == header::FORWARDED || *name == REAL_ADDRESS);
    }
    if trust {
        for element in elements(headers, &FORWARDED_FOR) {
            chain.push_str(element);
            chain.push_str(", ");
        }
    }
    chain.push_str(&peer.to_string());
    if let Ok(chain) = HeaderValue::from_str(&chain) {
        headers.insert(FORWARDED_FOR, chain);
    }
    if !(trust && headers.contains_key(FORWARDED_PROTO)) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !(trust && headers.contains_key(FORWARDED_HOST)) {
        match headers.get(header::HOST).cloned() {
            Some(host) => headers.insert(FORWARDED_HOST, host),
            None => headers.remove(FORWARDED_HOST),
        };
    }
}

/// The client's address as [`forwarded`] names it to the app: the last in the chain that is not a trusted proxy. Any
/// client may have written what stands before it.
pub(super) fn original_client(headers: &HeaderMap, client: &Client, trusted: &[IpNet]) -> IpAddr {
    let mut nearest = client.address.ip().to_canonical();
    let chain: Vec<_> = elements(headers, &FORWARDED_FOR).collect();
    for element in chain.into_iter().rev().skip(1) {
        if !trusted.iter().any(|network| network.contains(&nearest)) {
            break;
        }
        // Some proxies write the port as well.
        let with_port = || element.parse::<SocketAddr>().map(|address| address.ip());
        let Ok(address) = element.parse::<IpAddr>().or_else(|_| with_port()) else { break };
        nearest = address.to_canonical();
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_connection_names_stays_on_this_hop() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("te", "trailers, gzip;q=0.5"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x-sum"),
            ("x-kept", "1"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("trailer", "x-sum"), ("x-kept", "1"), ("te", "trailers"), ("connection", "TE")]));
    }

    #[test]
    fn the_fields_that_stay_keep_their_order() {
        let mut headers =
            map(&[("a", "1"), ("connection", "x"), ("b", "2"), ("x", "3"), ("c", "4"), ("b", "5"), ("d", "6")]);
        strip_hop_by_hop(&mut headers);
        let left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(left, [("a", "1"), ("b", "2"), ("b", "5"), ("c", "4"), ("d", "6")]);
    }

    #[test]
    fn connection_cannot_take_the_message_apart() {
        let mut headers = map(&[("connection", "host, content-length"), ("host", "a"), ("content-length", "3")]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("host", "a"), ("content-length", "3")]));
    }

    #[test]
    fn chunked_is_the_only_coding_that_is_taken_off() {
        let coded = |value| is_coded(&map(&[("transfer-encoding", value)]));
        assert!(!is_coded(&HeaderMap::new()) && !coded("chunked") && !coded(" Chunked ,"));
        assert!(coded("gzip, chunked") && coded("chunked, chunked") && coded("identity"));
    }

    #[test]
    fn an_untrusted_peer_cannot_name_another_client() {
        let client = Client::new("127.0.0.1:5".parse().unwrap(), "127.0.0.1:1".parse().unwrap());
        let said = [
            ("host", "app"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-forwarded-host", "evil"),
        ];
        let mut headers = map(&said);
        forwarded(&mut headers, &client, &[]);
        assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
        assert!(!headers.contains_key("x-real-ip") && !headers.contains_key("forwarded"));
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "app");
        let mut headers = map(&said);
        forwarded(&mut headers, &client, &["127.0.0.0/8".parse().unwrap()]);
        assert_eq!(headers["x-forwarded-for"], "6.6.6.6, 127.0.0.1");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "evil");
    }

    #[test]
    fn the_original_client_is_the_last_who_is_not_trusted() {
        let original = |peer: &str, said: &'static str| {
            let client = Client::new(peer.parse().unwrap(), "127.0.0.1:1".parse().unwrap());
            let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
            let mut headers = map(&[("host", "app"), ("x-forwarded-for", said)]);
            forwarded(&mut headers, &client, &trusted);
            original_client(&headers, &client, &trusted).to_string()
        };
        for (peer, said, client) in [
            ("192.0.2.1:5", "6.6.6.6", "192.0.2.1"),
            ("10.0.0.1:5", "", "10.0.0.1"),
            ("10.0.0.1:5", "192.0.2.7", "192.0.2.7"),
            ("10.0.0.1:5", "6.6.6.6, 192.0.2.7, 10.0.0.2", "192.0.2.7"),
            ("10.0.0.1:5", "6.6.6.6, 192.0.2.7:1234", "192.0.2.7"),
            ("[::ffff:10.0.0.1]:5", "[2001:db8::7]:443", "2001:db8::7"),
            ("[::1]:5", "192.0.2.7, unknown", "::1"),
        ] {
            assert_eq!(original(peer, said), client, "{said} by {peer}");
        }
    }
}
