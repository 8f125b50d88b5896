//! Only tokens that the app issued pass: `unknown = "refuse"`.

use crate::harness::{
    Answer, App, Fake, Idlegate, Recorder, Redis, Request, Socket, ask, eventually, id, log_in, secret, soon, switch,
};
use futures_util::future::join_all;
use http::Method;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// An app that hands out the cookie that `/login?NAME` asks for, and counts the other requests.
struct Pages {
    fake: Fake,
    served: Arc<AtomicUsize>,
}

impl Pages {
    async fn start() -> Self {
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        let fake = Fake::start(move |_, mut wire| {
            let count = Arc::clone(&count);
            async move {
                while let Some(head) = wire.next_head().await {
                    let path = head.split(' ').nth(1).unwrap_or_default();
                    let cookie = if let Some((_, name)) = path.split_once("/login?") {
                        format!("Set-Cookie: sid={name}; Path=/; HttpOnly\r\n")
                    } else {
                        count.fetch_add(1, Ordering::SeqCst);
                        String::new()
                    };
                    wire.send(format!("HTTP/1.1 200 OK\r\n{cookie}Content-Length: 2\r\n\r\nok")).await;
                }
            }
        });
        Self { fake: fake.await, served }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    fn proxy(&self, store: &str) -> Idlegate {
        self.proxy_with(store, None, "2s")
    }

    fn proxy_with(&self, store: &str, secret: Option<&str>, timeout: &str) -> Idlegate {
        let config = format!(
            r#"
            upstream = "{}"
            [store]
            url = "{store}"
            [[token]]
            from = "cookie"
            name = "sid"
            unknown = "refuse"
            [cut.unknown]
            http_body = '{{"error":"who are you"}}'
            "#,
            self.fake.upstream()
        );
        let secret = secret.map(|secret| ("IDLEGATE_STORE_SECRET", secret));
        let environment: Vec<_> = [("IDLEGATE_IDLE_TIMEOUT", timeout)].into_iter().chain(secret).collect();
        Idlegate::start_with(&config, &environment)
    }
}

async fn get(proxy: &Idlegate, path: &str, token: &str) -> Answer {
    Request::get(proxy.address, path).header("cookie", &format!("theme=dark; sid={token}")).send().await
}

async fn status(proxy: &Idlegate, token: &str) -> u16 {
    get(proxy, "/", token).await.status.as_u16()
}

/// Logs in, and uses the cookie.
async fn user(proxy: &Idlegate, token: &str) {
    let token = secret(token);
    assert_eq!(Request::get(proxy.address, &format!("/login?{token}")).send().await.status, 200);
    assert_eq!(status(proxy, token).await, 200, "{token}");
}

/// Keeps these sessions active for longer than the idle timeout: tokens from before are then idle.
async fn stay(proxy: &Idlegate, tokens: &[&str]) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(4_500) {
        for token in tokens {
            assert_eq!(status(proxy, token).await, 200, "{token}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_app_did_not_issue_is_refused_and_nobody_else() {
    let (app, redis) = (Pages::start().await, Redis::start());
    for store in ["memory", &redis.url()] {
        let proxy = app.proxy(store);
        // Logged in before idlegate was put in front.
        assert_eq!(status(&proxy, "from-before").await, 200);
        user(&proxy, "ada").await;
        stay(&proxy, &["from-before", "ada"]).await;
        let served = app.served();
        let refused = get(&proxy, "/", "made-up").await;
        assert_eq!(
            (refused.status.as_u16(), std::str::from_utf8(&refused.body).unwrap()),
            (401, r#"{"error":"who are you"}"#)
        );
        assert_eq!(refused.headers["set-cookie"], "sid=; Path=/; Max-Age=0");
        assert_eq!(app.served(), served, "it reached the app");
        eventually("the record", async || proxy.records("refuse").len() == 1).await;
        let records = proxy.records("refuse");
        assert_eq!((&records[0]["reason"], &records[0]["session"]), (&json!("unknown"), &json!(id("made-up"))));
        let metrics = proxy.metrics().await;
        assert!(metrics.contains("idlegate_refusals_total{carrier=\"request\",reason=\"unknown\"} 1\n"), "{metrics}");
        // The others are as welcome as before, and so is a new user.
        user(&proxy, "eve").await;
        // A cookie that the browser has forgotten was not used, and is unknown then.
        for cookie in ["brief;Max-Age=1", "lasting;Max-Age=900"] {
            assert_eq!(Request::get(proxy.address, &format!("/login?{cookie}")).send().await.status, 200);
        }
        stay(&proxy, &["from-before", "ada", "eve"]).await;
        assert_eq!((status(&proxy, "brief").await, status(&proxy, "lasting").await), (401, 200));
        // An operator can admit it.
        let admitted = ask(&proxy, Method::POST, &format!("/sessions/{}/extend", id("made-up"))).await;
        assert_eq!((admitted.0.as_u16(), status(&proxy, "made-up").await), (200, 200), "{admitted:?}");
        // In `observe` it passes, and is recorded.
        assert_eq!(switch(&proxy, json!({"mode": "observe"})).await.0, 200);
        assert_eq!(status(&proxy, "made-up-too").await, 200);
        eventually("the record", async || proxy.records("would-refuse").len() == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_never_sees_an_issue_goes_on_admitting_and_says_so() {
    let app = Pages::start().await;
    let proxy = app.proxy("memory");
    let tokens: Vec<_> = (0..9).map(|number| format!("sso-{number}")).collect();
    let tokens: Vec<_> = tokens.iter().map(String::as_str).collect();
    stay(&proxy, &tokens).await;
    assert_eq!(status(&proxy, "new-at-sso").await, 200, "locked out");
    let said = "goes on admitting unknown tokens";
    eventually("the error", async || proxy.logged(said).len() == 1).await;
    assert!(proxy.logged(said)[0].contains("token.0 (cookie sid)"), "{:?}", proxy.logged(said));
    assert!(proxy.metrics().await.contains("idlegate_rule_unissued{rule=\"0\",from=\"cookie\"} 1\n"));
}

/// What an app could read as another token is not forwarded; other cookies and parameters are, byte for byte.
#[tokio::test(flavor = "multi_thread")]
async fn beside_a_live_token_no_other_form_of_it_reaches_the_app() {
    let app = Recorder::answering("HTTP/1.1 200 OK\r\nSet-Cookie: s_id=live\r\nContent-Length: 2\r\n\r\nok").await;
    let rule = |from: &str| format!("[[token]]\nfrom = \"{from}\"\nname = \"s_id\"\nunknown = \"refuse\"\n");
    let config = format!("upstream = {:?}\n{}{}", app.upstream(), rule("cookie"), rule("query"));
    let proxy = Idlegate::start(&config);
    let cookies = "theme=\"dark, blue\"; s_id=live; a=1 s_id=dead; s.id=dead; S_ID=dead; s_id_type=x; {\"json\":1}; b";
    let path = "/?q=%20x&s_id=live&s_id[]=dead&s.id=dead&s_id_type=1&q";
    for _ in 0..2 {
        let request = Request::get(proxy.address, path).header("cookie", cookies);
        assert_eq!(request.send().await.status, 200);
    }
    for message in app.got() {
        assert_eq!(message.field("cookie"), ["theme=\"dark, blue\"; s_id=live; s_id_type=x; {\"json\":1}; b"]);
        assert!(message.has("GET /?q=%20x&s_id=live&s_id_type=1&q HTTP/1.1"), "{message:?}");
    }
    assert_eq!(app.got().len(), 2);
}

/// In each round, a request of every user, all at once.
async fn all_work(proxy: &Idlegate, users: &[String], rounds: usize) {
    for _ in 0..rounds {
        let answers = join_all(users.iter().map(|user| status(proxy, user))).await;
        assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Users who were logged in before idlegate came, and work on.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_locked_out_by_a_start_a_loss_of_data_another_secret_or_off() {
    let (app, redis) = (Pages::start().await, Redis::start());
    let users: Vec<_> = (0..100).map(|number| format!("user-{number}")).collect();
    for store in ["memory", &redis.url()] {
        // Long enough for a restart on a busy machine.
        let mut proxy = app.proxy_with(store, None, "5s");
        for secret in [None, None, Some("another secret, long enough")] {
            all_work(&proxy, &users, 3).await;
            // Killed, it would hold decisions about unknown tokens back for `replica_grace`.
            proxy.stop().await;
            proxy = app.proxy_with(store, secret, "5s");
        }
        all_work(&proxy, &users, 1).await;
        // Some log in again: the rule sees the app issue tokens.
        let again: Vec<_> = (0..40).map(|number| format!("again-{number}")).collect();
        join_all(again.iter().map(|token| user(&proxy, token))).await;
        all_work(&proxy, &users, 20).await;
        assert_eq!(status(&proxy, "made-up").await, 401, "it refuses unknown tokens");
        if store != "memory" {
            redis.ask::<()>("FLUSHALL").await;
            all_work(&proxy, &users, 20).await;
        }
        assert_eq!(switch(&proxy, json!({"mode": "off"})).await.0, 200);
        // A login that idlegate does not see.
        assert_eq!(status(&proxy, "during-off").await, 200);
        assert_eq!(switch(&proxy, json!({"mode": "enforce"})).await.0, 200);
        let and_one: Vec<_> = users.iter().cloned().chain(["during-off".to_owned()]).collect();
        all_work(&proxy, &and_one, 20).await;
        assert_eq!(proxy.records("refuse").len(), 1, "only the one that was made up");
    }
}

/// How many logins there are. `LOGINS=10000 cargo test --test it -- closed::one_login` for more.
fn logins() -> usize {
    std::env::var("LOGINS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_login_is_known_at_every_replica_with_the_next_request() {
    let (app, redis) = (Pages::start().await, Redis::start());
    let replicas: [Idlegate; 3] = std::array::from_fn(|_| app.proxy(&redis.url()));
    for (number, proxy) in replicas.iter().enumerate() {
        user(proxy, &format!("first-{number}")).await;
    }
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    for proxy in &replicas {
        // Each of them has seen the app hand out a token, so that they refuse others.
        let refuses = async || status(proxy, "made-up").await == 401;
        eventually("it to refuse unknown tokens", refuses).await;
    }
    for number in 0..logins() {
        let token = format!("user-{number}");
        let at = &replicas[number % 3];
        assert_eq!(Request::get(at.address, &format!("/login?{token}")).send().await.status, 200);
        let next = (0..5).map(|next| status(&replicas[(number + next) % 3], &token));
        assert_eq!(join_all(next).await, [200; 5], "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_token_in_a_message_is_answered_and_the_socket_stays_open() {
    let app = App::start(&["--ping", "600"]);
    let message = r#"{"type":"error","message":"Invalid or expired session"}"#;
    let limits = [("IDLEGATE_IDLE_TIMEOUT", "2s"), ("IDLEGATE_TOKEN_1_UNKNOWN_MESSAGE", message)];
    let proxy = Idlegate::shipped(&app.upstream, &limits);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(3_500) {
        let (mut socket, accepted) = Socket::authenticated(proxy.address, &token).await;
        assert_eq!(accepted["type"], "auth_success");
        socket.say(&json!({"cmd": "pong"})).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let attempts = app.seen_of("ws-authenticate").len();
    let (mut socket, answer) = Socket::authenticated(proxy.address, "made-up").await;
    assert_eq!(answer["message"], "Invalid or expired session");
    assert_eq!(app.seen_of("ws-authenticate").len(), attempts, "it reached the app");
    socket.say(&json!({"cmd": "authenticate", "session_id": token})).await;
    assert_eq!(soon("the answer", socket.json()).await["type"], "auth_success");
}
