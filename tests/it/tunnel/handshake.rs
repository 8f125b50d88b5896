//! How tunnels begin.

use crate::harness::{CUT_FRAMES, Ends, PING, TEXT, Wire, handshake, masked, switching, unmasked};

#[tokio::test(flavor = "multi_thread")]
async fn bytes_sent_with_the_handshake_and_its_response_are_relayed() {
    let mut ends = Ends::start().await;
    for path in ["/ws", "/plain"] {
        let (early, greeting) = ([masked(TEXT, b"early"), masked(PING, b"x")].concat(), unmasked(TEXT, b"greeting"));
        let (mut client, _, mut app) = ends.knock([handshake(path, "").as_bytes(), &early].concat()).await;
        app.send([switching("websocket", "").as_bytes(), &greeting].concat()).await;
        client.head().await;
        assert_eq!(client.bytes(greeting.len()).await, greeting);
        assert_eq!(app.bytes(early.len()).await, early);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_offer_of_extensions_is_taken_out_and_only_where_messages_are_read() {
    let mut ends = Ends::start().await;
    let more = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nOrigin: http://page\r\n\
        Sec-WebSocket-Protocol: chat, superchat\r\nCookie: a=b\r\nX-Own: 1\r\n";
    for (path, kept) in [("/ws", false), ("/plain", true)] {
        let (mut client, head, mut app) = ends.knock(handshake(path, more)).await;
        for line in [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: chat, superchat",
            "Origin: http://page",
            "Cookie: a=b",
            "X-Own: 1",
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} is not in {head}");
        }
        assert_eq!(head.contains("permessage-deflate; client_max_window_bits"), kept, "{head}");
        let answer = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n";
        app.send(switching("websocket", answer)).await;
        let head = client.head().await;
        assert!(
            head.contains("\r\nSec-WebSocket-Protocol: chat\r\n") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "{head}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_other_answer_to_a_handshake_is_an_answer_like_any_other() {
    let mut ends = Ends::start().await;
    for answer in [
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\nX-Why: closed\r\n\r\nno way",
        "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    ] {
        let (mut client, _, mut app) = ends.knock(handshake("/ws", "")).await;
        app.send(answer).await;
        let head = client.head().await;
        assert!(head.starts_with(&answer[..12]), "{head}");
        if answer.contains("403") {
            assert_eq!(client.bytes(6).await, b"no way");
            assert!(head.contains("X-Why: closed"), "{head}");
        } else {
            client.until("0\r\n\r\n").await;
            assert!(head.contains("Sec-WebSocket-Version: 13"), "{head}");
        }
        // The client's connection goes on.
        client.send("GET /logout HTTP/1.1\r\nHost: app\r\n\r\n").await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_with_a_dead_token_never_reaches_the_app_and_says_why() {
    let mut ends = Ends::start().await;
    let (mut client, mut app) = ends.open_as("gone", "/plain").await;
    ends.log_out("gone").await;
    tokio::join!(client.rest(), app.rest());
    let mut again = Wire::connect(ends.proxy.address).await;
    let head = again.upgrade("/plain", "x-token: gone\r\n").await;
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert_eq!(again.rest().await, CUT_FRAMES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_protocol_is_upgraded_to_and_its_bytes_mean_nothing() {
    let mut ends = Ends::start().await;
    let ask = |more: &str| {
        format!("GET /raw HTTP/1.1\r\nHost: app\r\nConnection: upgrade\r\nUpgrade: TCP-Echo\r\n{more}\r\n")
    };
    let (mut client, head, mut app) = ends.knock(ask("x-token: raw\r\n") + "early").await;
    assert!(head.contains("Upgrade: TCP-Echo\r\n"), "{head}");
    app.send(switching("tcp-echo", "") + "greeting").await;
    client.head().await;
    client.send([0xff; 5]).await;
    assert_eq!(client.bytes(8).await, b"greeting");
    assert_eq!(app.bytes(10).await, b"early\xff\xff\xff\xff\xff");
    ends.log_out("raw").await;
    let (to_client, to_app) = tokio::join!(client.rest(), app.rest());
    assert_eq!((to_client, to_app), (vec![], vec![]), "bytes were inserted where nobody knows what they mean");

    // Who has said all may still listen.
    let (mut client, _, mut app) = ends.knock(ask("")).await;
    app.send(switching("tcp-echo", "")).await;
    client.head().await;
    client.send("question").await;
    client.finish().await;
    assert_eq!(app.rest().await, b"question");
    app.send("answer").await;
    drop(app);
    assert_eq!(client.rest().await, b"answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_protocol_is_upgraded_to() {
    let mut ends = Ends::start().await;
    for protocol in ["h2c", "TLS/1.0", "tcp-echo2", "HTTP/2.0"] {
        let request = format!(
            "GET /raw HTTP/1.1\r\nHost: app\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        );
        let (mut client, head, mut app) = ends.knock(request).await;
        let lower = head.to_lowercase();
        assert!(!lower.contains("upgrade") && !lower.contains("http2-settings"), "{head}");
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let answer = client.until("\r\n\r\nok").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}
