//! Sessions of the first app, in front of its stand-in: kept while something moves, cut when nothing does.

use crate::harness::{App, Idlegate, Redis, Request, Socket, eventually, log_in, soon};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Pings so seldom that they do not come in a test.
const QUIET: &[&str] = &["--ping", "600"];

fn with_limit(app: &App, limit: &str) -> Idlegate {
    Idlegate::shipped(&app.upstream, &[("IDLEGATE_IDLE_TIMEOUT", limit)])
}

fn cut_words() -> (Value, u16, String) {
    let message = json!({"type": "session_terminated", "reason": "inactivity",
        "message": "Session terminated due to inactivity."});
    (message, 4002, "Session terminated: inactivity".to_owned())
}

async fn validate(proxy: &Idlegate, token: &str) -> u16 {
    let answer = Request::post(proxy.address, "/api/validate-session").json(&json!({"session_id": token})).send().await;
    answer.status.as_u16()
}

async fn upload(proxy: &Idlegate, token: &str) -> u16 {
    let field =
        |name: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let file = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.py\"\r\n\r\nprint()\r\n--b--\r\n";
    let body = field("projectName", "p") + &field("filename", "a.py") + file;
    let request = Request::post(proxy.address, "/api/upload-file")
        .header("session-id", token)
        .header("content-type", "multipart/form-data; boundary=b");
    request.body(body).send().await.status.as_u16()
}

/// The session is cut not before `limit` after `last`, which was before the last activity was sent. (That it was not
/// late is for the proxy's log to say.)
async fn cut_in_time(socket: &mut Socket, last: Instant, limit: u64) {
    let said = tokio::time::timeout(Duration::from_secs(limit + 8), socket.cut_words()).await.expect("no cut");
    let idle = last.elapsed();
    assert_eq!(said, cut_words());
    assert!(idle > Duration::from_secs(limit), "cut early, after {idle:?}");
}

async fn whole_story(proxy_zone: &str, app_zone: &str) {
    let app = App::start_in(app_zone, QUIET);
    let zone = [("TZ", proxy_zone), ("IDLEGATE_IDLE_TIMEOUT", "3s")];
    let proxy = Idlegate::shipped(&app.upstream, &zone);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let (mut socket, answer) = Socket::authenticated(proxy.address, &token).await;
    assert_eq!(answer["type"], "auth_success", "{answer}");
    socket.say(&json!({"cmd": "echo", "data": "hello"})).await;
    assert_eq!(socket.json().await["data"], "hello");
    assert_eq!(upload(&proxy, &token).await, 200);
    let last = Instant::now();
    assert_eq!(validate(&proxy, &token).await, 200);
    cut_in_time(&mut socket, last, 3).await;
    proxy.has_cut_in_time(1).await;
    assert_eq!(validate(&proxy, &token).await, 401);
    assert_eq!(upload(&proxy, &token).await, 401);
    // Masked, or the app would not have understood it.
    eventually("the app's Close", async || app.seen_of("ws-close").iter().any(|seen| seen["code"] == 4002)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_is_cut_and_a_timezone_has_no_say_in_it() {
    tokio::join!(
        whole_story("UTC", "UTC"),
        whole_story("Pacific/Kiritimati", "America/St_Johns"),
        whole_story("America/Los_Angeles", "Asia/Kathmandu"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_touched_just_in_time_lives_on() {
    let app = App::start(QUIET);
    let proxy = with_limit(&app, "2s");
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let (mut socket, _) = Socket::authenticated(proxy.address, &token).await;
    let mut last = Instant::now();
    for touch in 0..20 {
        sleep(Duration::from_secs(1)).await;
        // In turn by a frame and by a request.
        if touch % 2 == 0 {
            last = Instant::now();
            socket.say(&json!({"cmd": "echo", "data": touch})).await;
            assert_eq!(socket.json().await["data"], touch);
        } else {
            last = Instant::now();
            assert_eq!(validate(&proxy, &token).await, 200);
        }
    }
    cut_in_time(&mut socket, last, 2).await;
    proxy.has_cut_in_time(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_is_cut_early_or_late_whatever_the_phase_of_the_second() {
    let app = App::start(QUIET);
    let proxy = with_limit(&app, "2s");
    let lives = (0..20).map(|number| {
        let address = proxy.address;
        async move {
            sleep(Duration::from_millis(number * 97)).await;
            let token = log_in(address, "ada", "lovelace").await;
            let (mut socket, answer) = Socket::authenticated(address, &token).await;
            assert_eq!(answer["type"], "auth_success");
            let last = Instant::now();
            socket.say(&json!({"cmd": "echo", "data": 1})).await;
            socket.json().await;
            cut_in_time(&mut socket, last, 2).await;
        }
    });
    futures_util::future::join_all(lives).await;
    proxy.has_cut_in_time(20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pongs_alone_keep_an_open_tab_and_are_not_a_person() {
    let app = App::start(&["--ping", "0.5"]);
    let tab = with_limit(&app, "2s");
    let person =
        Idlegate::shipped(&app.upstream, &[("IDLEGATE_IDLE_TIMEOUT", "2s"), ("IDLEGATE_ACTIVITY_PROFILE", "person")]);
    let kept = async {
        let token = log_in(tab.address, "ada", "lovelace").await;
        let (mut socket, _) = Socket::authenticated(tab.address, &token).await;
        assert!(tokio::time::timeout(Duration::from_secs(9), socket.next()).await.is_err(), "cut in spite of pongs");
        assert_eq!(validate(&tab, &token).await, 200);
    };
    let left = async {
        let token = log_in(person.address, "bob", "builder").await;
        let last = Instant::now();
        let (mut socket, _) = Socket::authenticated(person.address, &token).await;
        cut_in_time(&mut socket, last, 2).await;
        person.has_cut_in_time(1).await;
    };
    tokio::join!(kept, left);
    assert!(!app.seen_of("ws-pong").is_empty());
    let cut = tab.logged("session ended");
    assert!(cut.is_empty(), "{cut:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_stays_dead_and_a_new_login_works_at_once() {
    let app = App::start(QUIET);
    let proxy = with_limit(&app, "1s");
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let (mut socket, _) = Socket::authenticated(proxy.address, &token).await;
    assert_eq!(soon("the cut", socket.cut_words()).await, cut_words());
    for _ in 0..3 {
        let mut again = Socket::open(proxy.address, "/ws").await;
        again.say(&json!({"cmd": "authenticate", "session_id": token})).await;
        // The refusal may overtake the app's greeting.
        assert_eq!(again.cut_words_after(&["auth_required"]).await, cut_words());
        assert_eq!(validate(&proxy, &token).await, 401);
    }
    let attempts = app.seen_of("ws-authenticate");
    assert_eq!(attempts.len(), 1, "the app saw a dead token: {attempts:?}");
    let fresh = log_in(proxy.address, "ada", "lovelace").await;
    let (_socket, answer) = Socket::authenticated(proxy.address, &fresh).await;
    assert_eq!(answer["type"], "auth_success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_gets_the_words_of_the_app() {
    let app = App::start(QUIET);
    let proxy = with_limit(&app, "1s");
    let token = log_in(proxy.address, "ada", "lovelace").await;
    proxy.has_cut_in_time(1).await;
    let request = Request::get(proxy.address, "/api/get-all-students").header("session-id", &token);
    let answer = request.send().await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json(), json!({"success": false, "error": "Invalid or expired session"}));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    let paged = Idlegate::shipped(
        &app.upstream,
        &[("IDLEGATE_IDLE_TIMEOUT", "1s"), ("IDLEGATE_CUT_LOGIN_URL", "/login?why=idle")],
    );
    let token = log_in(paged.address, "ada", "lovelace").await;
    paged.has_cut_in_time(1).await;
    let request = || Request::get(paged.address, "/api/get-all-students").header("session-id", &token);
    let page = request().header("accept", "text/html,application/xhtml+xml").send().await;
    assert_eq!((page.status.as_u16(), page.headers["location"].to_str().unwrap()), (302, "/login?why=idle"));
    let call = request().header("accept", "application/json").send().await;
    assert_eq!(call.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_only_its_own_session_and_tunnels() {
    let app = App::start(QUIET);
    let proxy = with_limit(&app, "1h");
    let (token, other) =
        (log_in(proxy.address, "ada", "lovelace").await, log_in(proxy.address, "bob", "builder").await);
    let (mut socket, _) = Socket::authenticated(proxy.address, &token).await;
    let (mut other_socket, _) = Socket::authenticated(proxy.address, &other).await;
    let answer = Request::post(proxy.address, "/api/logout").json(&json!({"session_id": token})).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(soon("the end of the tunnel", socket.cut_words()).await.1, 4002);
    assert_eq!(validate(&proxy, &token).await, 401);
    assert_eq!(validate(&proxy, &other).await, 200);
    other_socket.say(&json!({"cmd": "echo", "data": 1})).await;
    assert_eq!(other_socket.json().await["data"], 1);
    eventually("the log line", async || !proxy.logged("reason=logout").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_awaited_answer_is_never_cut_and_keeps_its_session() {
    let app = App::start(QUIET);
    let paths = r#"["/api/upload-file", "/test/*"]"#;
    let proxy = Idlegate::shipped(&app.upstream, &[("IDLEGATE_IDLE_TIMEOUT", "1s"), ("IDLEGATE_TOKEN_0_PATHS", paths)]);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let (mut socket, _) = Socket::authenticated(proxy.address, &token).await;
    let answer = Request::get(proxy.address, "/test/slow?seconds=5").header("session-id", &token).send().await;
    assert_eq!(answer.status, 200);
    // The answer was activity up to its end, which the proxy saw before.
    soon("the cut", socket.cut_words()).await;
    proxy.has_cut_in_time(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_lifetime_ends_even_an_active_session() {
    let app = App::start(QUIET);
    let proxy = Idlegate::shipped(&app.upstream, &[("IDLEGATE_IDLE_TIMEOUT", "1h"), ("IDLEGATE_IDLE_LIFETIME", "3s")]);
    let begun = Instant::now();
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let (mut socket, _) = Socket::authenticated(proxy.address, &token).await;
    while begun.elapsed() < Duration::from_secs(2) {
        socket.say(&json!({"cmd": "echo", "data": 1})).await;
        socket.json().await;
        sleep(Duration::from_millis(200)).await;
    }
    let (message, code, reason) = soon("the cut", socket.cut_words()).await;
    assert_eq!((message["message"].as_str(), code), (Some("Your session has reached its maximum age."), 4002));
    assert_eq!(reason, "Session terminated: maximum age");
    assert!(begun.elapsed() < Duration::from_secs(6));
    eventually("the log line", async || !proxy.logged("reason=lifetime").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unaccepted_tokens_leave_no_trace() {
    let app = App::start(QUIET);
    let mut proxy =
        Idlegate::shipped(&app.upstream, &[("IDLEGATE_TOKEN_0_PATHS", r#"["/api/upload-file", "/nowhere"]"#)]);
    assert_eq!(validate(&proxy, "junk").await, 401);
    assert_eq!(upload(&proxy, "junk").await, 401);
    // The app answers index.html, 200, to a path it does not know.
    let page = Request::get(proxy.address, "/nowhere").header("session-id", "junk").send().await;
    assert_eq!(page.status, 200);
    let (_socket, answer) = Socket::authenticated(proxy.address, "junk").await;
    assert_eq!(answer["type"], "error");
    assert!(proxy.stop().await.success());
    eventually("the last log line", async || !proxy.logged("tracked=0").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_beyond_max_sessions_pass_untracked_with_one_warning() {
    let app = App::start(QUIET);
    let mut proxy =
        Idlegate::shipped(&app.upstream, &[("IDLEGATE_IDLE_TIMEOUT", "1s"), ("IDLEGATE_MAX_SESSIONS", "1")]);
    let tracked = log_in(proxy.address, "ada", "lovelace").await;
    let (mut socket, _) = Socket::authenticated(proxy.address, &tracked).await;
    let untracked = log_in(proxy.address, "bob", "builder").await;
    assert_eq!(validate(&proxy, &untracked).await, 200);
    assert_eq!(soon("the cut", socket.cut_words()).await, cut_words());
    assert_eq!(validate(&proxy, &untracked).await, 200);
    assert!(proxy.stop().await.success());
    eventually("the last log line", async || !proxy.logged("over_capacity=2").is_empty()).await;
    assert_eq!(proxy.logged("max_sessions reached").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_issued_on_the_tunnel_is_tracked() {
    let app = App::start(QUIET);
    let proxy = with_limit(&app, "1s");
    let mut socket = Socket::open(proxy.address, "/ws").await;
    let last = Instant::now();
    socket.say(&json!({"cmd": "authenticate", "username": "ada", "password": "lovelace"})).await;
    assert_eq!(socket.json().await["type"], "auth_required");
    let answer = socket.json().await;
    assert_eq!(answer["type"], "auth_success");
    cut_in_time(&mut socket, last, 1).await;
    proxy.has_cut_in_time(1).await;
    assert_eq!(validate(&proxy, answer["session_id"].as_str().unwrap()).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_without_a_token_is_nobodys_and_lives_on() {
    let app = App::start(QUIET);
    let proxy = with_limit(&app, "1s");
    let mut socket = Socket::open(proxy.address, "/ws").await;
    assert_eq!(socket.json().await["type"], "auth_required");
    assert!(tokio::time::timeout(Duration::from_secs(4), socket.next()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_panel_has_sessions_of_its_own() {
    let app = App::start(QUIET);
    let proxy = with_limit(&app, "1s");
    let login = json!({"username": "admin", "password": "secret"});
    let answer = Request::post(proxy.address, "/api/admin/auth/login").json(&login).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let bearer = format!("Bearer {}", answer.json()["token"].as_str().unwrap());
    let ask = async || {
        Request::get(proxy.address, "/api/admin/users").header("authorization", &bearer).send().await.status.as_u16()
    };
    assert_eq!(ask().await, 200);
    proxy.has_cut_in_time(1).await;
    assert_eq!(ask().await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_explained_by_one_line_and_no_token_is_ever_logged() {
    let app = App::start(QUIET);
    let proxy = with_limit(&app, "1s");
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let (mut socket, _) = Socket::authenticated(proxy.address, &token).await;
    soon("the cut", socket.cut_words()).await;
    assert_eq!(validate(&proxy, &token).await, 401);
    eventually("the log line", async || !proxy.logged("session ended").is_empty()).await;
    let lines = proxy.logged("session ended");
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in
        ["INFO", "session=", "reason=idle", "last_activity=", "source=", "now=", "idle=2", "limit=1", "connections=1"]
    {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }
    assert!(!proxy.whole_log().contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_retention_does_not_prevent_the_cut() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    for store in ["memory", &redis.url()] {
        let short = [("IDLEGATE_IDLE_RETENTION", "1s"), ("IDLEGATE_IDLE_TIMEOUT", "2s"), ("IDLEGATE_STORE_URL", store)];
        let proxy = Idlegate::shipped(&app.upstream, &short);
        let token = log_in(proxy.address, "ada", "lovelace").await;
        let (mut socket, _) = Socket::authenticated(proxy.address, &token).await;
        assert_eq!(soon("the cut", socket.cut_words()).await, cut_words(), "{store}");
    }
}
