//! A Redis that refuses is distinguished from one that does not answer, with what to do; while it is out, that is shown
//! first.

use crate::harness::{App, Redis, Tunnel, ask, eventually, replica};
use http::Method;
use std::process::Command;
use std::time::{Duration, Instant};

const QUIET: &[&str] = &["--ping", "600"];

/// What a command says, on both outputs.
fn said(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idlegate"));
    let output = command.args(arguments).envs(environment.iter().copied()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_redis_is_named_with_its_fix_in_the_log_and_by_doctor() {
    let app = App::start(QUIET);
    let (mut secret, limited) = (Redis::start(), Redis::start());
    secret.change_password("hunter2").await;
    let _: String = limited.ask("ACL SETUSER limited on >pw ~* &* +ping +hello +client").await;
    let socket = |redis: &Redis| redis.socket().display().to_string();
    let (no_password, wrong, no_right) = (
        secret.url(),
        format!("redis+unix://{}?pass=wrong", socket(&secret)),
        format!("redis+unix://{}?user=limited&pass=pw", socket(&limited)),
    );
    for (redis, url, what, fix) in [
        (&secret, &no_password, "it wants a password", "store.password_file"),
        (&secret, &wrong, "user or password is wrong", "correct them in store.url"),
        (&limited, &no_right, "its ACL does not let this user do that", "ACL SETUSER"),
    ] {
        let proxy = replica(&app, url, "1h", &[]);
        proxy.has_logged("store refuses: ", 1).await;
        let line = proxy.logged("store refuses: ").remove(0);
        assert!(line.contains(what) && line.contains(fix) && line.contains(&socket(redis)), "{line}");
        assert!(!proxy.whole_log().contains("hunter2") && !proxy.whole_log().contains("pass=wrong"), "{line}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = format!("upstream = {:?}\n[store]\nurl = {url:?}\n[[token]]\nfrom = \"bearer\"\n", app.upstream);
        std::fs::write(file.path(), config).unwrap();
        let examined = said(&["doctor", "--config", file.path().to_str().unwrap()], &[]);
        assert!(examined.contains("checks failed"), "{examined}");
        if url == &no_right {
            // It answers; each command that it refuses is a finding.
            assert!(examined.contains("no permissions") && examined.contains("allow idlegate's user"), "{examined}");
        } else {
            assert!(examined.contains(&format!("Redis at {} refuses: {what}", socket(redis))), "{examined}");
            assert!(examined.contains(fix), "{examined}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_out_operators_read_first_that_no_session_expires() {
    let (app, mut redis) = (App::start(QUIET), Redis::start());
    let proxy = replica(&app, &redis.url(), "1h", &[]);
    let _tunnel = Tunnel::open(&proxy, "tok").await;
    let address = proxy.admin().to_string();
    let at = [("IDLEGATE_ADMIN_LISTEN", address.as_str())];
    let held = async || ask(&proxy, Method::GET, "/mode").await.1["held_since"].as_u64();
    assert_eq!(held().await, None);
    assert!(!said(&["mode"], &at).contains("No session expires"));
    redis.kill();
    eventually("the outage to be known", async || held().await.is_some()).await;
    for command in ["mode", "sessions"] {
        let said = said(&[command], &at);
        assert!(said.starts_with("No session expires: the store has been unavailable since "), "{command}: {said}");
    }
    redis.start_again();
    eventually("its return", async || held().await.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_logs_that_it_waits_for_the_store_and_a_second_one_ends_it() {
    let (app, mut redis) = (App::start(QUIET), Redis::start());
    let mut proxy = replica(&app, &redis.url(), "1h", &[("IDLEGATE_GRACE_PERIOD", "60s")]);
    let mut tunnel = Tunnel::open(&proxy, "tok").await;
    eventually("the first report", async || redis.ask::<bool>("HEXISTS idlegate:replicas counting").await).await;
    redis.kill();
    proxy.has_logged("until it is back", 1).await;
    // Activity that the store does not know.
    tunnel.echo().await;
    proxy.terminate();
    proxy.has_logged("waiting for the store to accept the last report", 1).await;
    let begun = Instant::now();
    assert!(proxy.stop().await.success());
    assert!(begun.elapsed() < Duration::from_secs(3), "it took {:?}", begun.elapsed());
    proxy.has_logged("that it does not know are lost", 1).await;
}
