//! `[store]`: valid and invalid combinations of settings.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn store(lines: &str) -> Result<Config, Vec<String>> {
    parse(&format!("{LEAST}[store]\nurl = \"redis://127.0.0.1\"\n{lines}\n"))
}

/// The only problem of these lines.
fn problem(lines: &str) -> String {
    let errors = store(lines).expect_err(lines);
    assert_eq!(errors.len(), 1, "{lines}: {errors:#?}");
    errors.into_iter().next().unwrap()
}

fn redis(lines: &str) -> RedisSettings {
    match store(lines).unwrap().store {
        StoreSettings::Redis(settings) => settings,
        other => panic!("{other:?}"),
    }
}

#[test]
fn on_outage_local_requires_a_single_replica() {
    assert!(!redis("").decides_alone && !redis("replicas = 1").decides_alone);
    assert!(!redis("on_outage = \"hold\"").decides_alone);
    assert!(redis("on_outage = \"local\"\nreplicas = 1").decides_alone);
    for lines in ["on_outage = \"local\"", "on_outage = \"local\"\nreplicas = 2"] {
        assert!(problem(lines).contains("add replicas = 1 where there is never a second one"), "{lines}");
    }
    assert!(problem("on_outage = \"cut\"").contains("write \"hold\" (no session is cut)"));
    assert!(problem("replicas = 0").contains("out of range"));
}

#[test]
fn replica_grace_must_exceed_the_flush_interval() {
    assert_eq!(redis("").replica_grace, Duration::from_secs(30));
    assert_eq!(redis("replica_grace = \"5s\"").replica_grace, Duration::from_secs(5));
    assert!(problem("replica_grace = \"4s\"").contains("write 5s or more"));
    assert!(problem("flush_interval = \"10s\"\nreplica_grace = \"29s\"").contains("write 30s or more"));
    for interval in ["99ms", "11s"] {
        assert!(problem(&format!("flush_interval = \"{interval}\"")).contains("write 100ms to 10s"), "{interval}");
    }
    assert_eq!(store("").unwrap().exchange, ExchangeSettings::default());
}

#[test]
fn a_file_store_must_be_writable() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| {
        parse(&format!("{LEAST}[store]\nurl = \"file:{}\"\n", folder.path().join(path).display()))
            .map(|config| config.store)
            .map_err(|errors| errors.join("\n"))
    };
    assert!(matches!(at("sessions").unwrap(), StoreSettings::File(_)));
    std::fs::write(folder.path().join("there"), "").unwrap();
    assert!(matches!(at("there").unwrap(), StoreSettings::File(_)));
    let missing = at("no/sessions").unwrap_err();
    assert!(missing.contains(": store.url: there is no folder ") && missing.contains("/no\"; create it"), "{missing}");
    std::fs::create_dir_all(folder.path().join("folder/deep")).unwrap();
    assert!(at("folder").unwrap_err().contains("is a folder; name a file in it"));
    // Root may write everywhere.
    let closed = folder.path().join("folder");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).unwrap();
    match at("folder/sessions") {
        Ok(store) => assert!(rustix::process::geteuid().is_root(), "{store:?}"),
        Err(errors) => assert!(errors.contains("/folder\" cannot be written: "), "{errors}"),
    }
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    match at("folder/deep/sessions") {
        Ok(store) => assert!(rustix::process::geteuid().is_root(), "{store:?}"),
        Err(errors) => assert!(errors.contains("/folder/deep\" cannot be reached: "), "{errors}"),
    }
}

#[test]
fn every_form_of_redis_url_is_read_and_passwords_are_never_repeated() {
    let errors = |url: &str| parse(&format!("{LEAST}[store]\nurl = \"{url}\"\n")).err();
    for url in [
        "redis://ada:hunter2@one:7000/3",
        "rediss://one",
        "redis+unix:///run/redis.sock",
        "redis+sentinel://ada:hunter2@one,two:7000/main/3",
        "rediss+sentinel://one/main",
        "redis+cluster://:hunter2@one,two:7000",
        "rediss+cluster://one",
    ] {
        assert_eq!(errors(url), None, "{url}");
    }
    for (url, problem) in [
        ("redis://ada:hunter2@one:port", "store.url: it is no address of a Redis server; write \"redis://user:"),
        ("redis+sentinel://:hunter2@one,two", "by which name the Sentinels know the server; write \"redis+sentinel://"),
        ("redis+cluster://:hunter2@one/1", "a cluster has no numbered databases; write \"redis+cluster://"),
        ("redis+cluster://:hunter2@one,,two", "it is no address of a Redis server"),
        ("redis+else://:hunter2@one", "it is no address of a Redis server"),
    ] {
        let errors = errors(url).unwrap();
        assert!(errors.len() == 1 && errors[0].contains(problem), "{url}: {errors:?}");
        assert!(!errors[0].contains("hunter2"), "{errors:?}");
    }
}

#[test]
fn the_secret_can_be_read_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let named = format!("secret_file = \"{}\"", file.display());
    assert!(problem(&named).contains("cannot be read: No such file"), "{}", problem(&named));
    std::fs::write(&file, "0123456789abcde\n").unwrap();
    let short = problem(&named);
    assert!(short.contains("store.secret_file: the secret is too short") && !short.contains("0123456789"), "{short}");
    std::fs::write(&file, " 0123456789abcdef\n").unwrap();
    let id = |lines: &str| store(lines).unwrap().ids.of_token(b"token");
    assert_eq!(id(&named), id("secret = \"0123456789abcdef\""));
    assert_ne!(id(&named), id(""));
    let both = problem(&format!("{named}\nsecret = \"another-one-of-them\""));
    assert!(both.contains("remove one of the two") && !both.contains("another-one"), "{both}");
    assert!(problem("secret_file = \"secret\"").contains("is not an absolute path"));
}
