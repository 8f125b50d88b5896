//! Which characters a request's target may have, exactly: the limits of the libraries that read it, so that one that is
//! lifted is noticed.

use crate::harness::{Recorder, Wire};
use crate::http::plain;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The printable characters of ASCII that are refused where `target` puts them, as `%` and others stand for themselves.
async fn refused(target: impl Fn(&str) -> String) -> String {
    let app = Recorder::answering(OK).await;
    let proxy = plain(&app.upstream());
    let mut refused = String::new();
    for byte in 0x21..=0x7e_u8 {
        let character = char::from(byte).to_string();
        let mut client = Wire::connect(proxy.address).await;
        let answer = client.ask(format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", target(&character))).await;
        match answer.status() {
            200 => {
                let sent = target(&character);
                // A fragment is no part of a request.
                let sent = sent.split('#').next().unwrap();
                let got = app.got().pop().unwrap().head;
                assert!(got.starts_with(&format!("GET {sent} HTTP/1.1\r\n")), "{sent} arrived as {got}");
            }
            400 => refused.push_str(&character),
            status => panic!("{character} is answered {status}"),
        }
    }
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn these_characters_are_refused_in_a_target_and_all_others_arrive_as_they_are() {
    assert_eq!(refused(|character| format!("/a{character}b")).await, "<>`");
    assert_eq!(refused(|character| format!("/a?b{character}c")).await, "\"<>");
    let app = Recorder::answering(OK).await;
    let proxy = plain(&app.upstream());
    for (target, status) in [(&b"/caf\xc3\xa9?caf\xc3\xa9"[..], 200), (b"/caf\xe9", 400), (b"/?caf\xe9", 400)] {
        let mut client = Wire::connect(proxy.address).await;
        let answer = client.ask([b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).await;
        assert_eq!(answer.status(), status, "{}", String::from_utf8_lossy(target));
    }
}
