//! Every spelling of a path, and the patterns it is held against.

use super::*;

fn shut(pattern: &str, path: &str) -> bool {
    PathPattern::parse(pattern).unwrap().matches(&NormalPath::of(path))
}

#[test]
fn every_spelling_of_a_path_is_the_same_path() {
    for path in [
        "/ws-legacy",
        "/ws-legacy/",
        "//ws-legacy",
        "/./ws-legacy",
        "/x/../ws-legacy",
        "/%77s-legacy",
        "/ws%2Dlegacy",
        "/ws%2dlegacy",
        "/ws-legacy;a=b",
        "/ws-legacy/;a",
        "/%2e/ws-legacy",
        "/%2E%2e/ws-legacy",
        "/x/..;/ws-legacy",
        "/%252e/ws%252Dlegacy",
        "\\ws-legacy",
        "/../../ws-legacy",
        "/%2fws-legacy",
    ] {
        assert!(shut("/ws-legacy", path), "{path}");
    }
    for path in ["/ws-legacy2", "/WS-LEGACY", "/ws-legacy/x", "/", "/x/ws-legacy", "/ws"] {
        assert!(!shut("/ws-legacy", path), "{path}");
    }
}

#[test]
fn a_star_means_the_path_and_all_below_it() {
    for path in ["/api/admin", "/api/admin/", "/api/admin/users", "/api/admin/a/b", "/api//admin/%2e/x"] {
        assert!(shut("/api/admin/*", path), "{path}");
    }
    for path in ["/api/administrator", "/api", "/x/../api/administrator"] {
        assert!(!shut("/api/admin/*", path), "{path}");
    }
    assert!(shut("/*", "/anything") && shut("/*", "/"));
}

#[test]
fn what_some_readers_take_for_another_path_is_meant_by_both() {
    for path in [
        // Below it, where the app resolves nothing, or decodes less often.
        "/api/admin/../x",
        "/api/admin/%2e%2e/x",
        "/api/admin/..%2fx",
        "/api/admin/%252e%252e/x",
        "/api/admin/..\\..\\x",
        "/api/admin/..;/x",
        // Below it, where `..` takes back the empty segment.
        "/api/admin//../x",
        "/api//../api/admin/x",
        // Below it, where parameters go before anything is decoded.
        "/api/admin;%2f..%2f../x",
        "/api/%61dmin;%2f..%2f../x",
    ] {
        assert!(shut("/api/admin/*", path), "{path}");
    }
    for path in ["/ws-legacy;%2f..%2fx", "/ws%2dlegacy;%2f..%2fx", "/x//..%2f../ws-legacy"] {
        assert!(shut("/ws-legacy", path), "{path}");
    }
    assert!(shut("/api/login", "/api/a%2fb/%2e%2e/login"));
    assert!(NormalPath::of("/login") == NormalPath::of("/x/../login"));
}

#[test]
fn a_long_path_has_no_long_readings() {
    let long = "/a%2f..;x\\%252e".repeat(4000);
    assert!(shut("/ws-legacy", &long) && NormalPath::of(&long).others.is_empty());
    assert!(!shut("/ws-legacy", &"/a%20b".repeat(4000)));
    let path = NormalPath::of(&"/a%2f..;x\\%252e".repeat(30));
    let kept: usize = path.others.iter().map(Vec::len).sum();
    assert!(!path.any && kept <= path.others.len() * MAX_READING_BYTES, "{kept}");
}

#[test]
fn a_path_with_too_many_readings_is_not_read_in_all_of_them_and_matches_every_pattern() {
    // 120 readings of 7 KB would be 840 KB.
    let path = NormalPath::of(&"/a%2f..;x\\%252e".repeat(500));
    assert!(path.any && path.others.is_empty());
    assert!(PathPattern::parse("/ws-legacy").unwrap().matches(&path));
    // Long paths that apps use have few readings: they match what they name, and nothing else.
    for long in ["/a%2fb".repeat(1300), "/a%20b".repeat(1300), "/a;b=1".repeat(1300), "/%C3%A4.x".repeat(800)] {
        assert!(!NormalPath::of(&long).any && !shut("/ws-legacy", &long), "{}", &long[..12]);
        assert!(shut("/*", &long));
    }
}

#[test]
fn patterns_that_could_never_match_are_refused() {
    assert_eq!(PathPattern::parse("api"), Err(PatternError::NotAbsolute));
    assert_eq!(PathPattern::parse("/a/*/b"), Err(PatternError::StarInside));
    assert_eq!(PathPattern::parse("/a*"), Err(PatternError::StarInside));
    assert_eq!(PathPattern::parse("/a?x=1"), Err(PatternError::Query));
}

/// All readings, each made by each reader, whether they differ or not.
fn all_readings(path: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut with = path.as_bytes().to_vec();
    let mut without = with.clone();
    for _ in 0..=DECODE_ROUNDS {
        without = without_parameters(&without);
        for reader in PathReader::all() {
            all.extend([&with, &without].map(|text| {
                let mut reading = reader.read(text);
                reading.truncate(MAX_READING_BYTES);
                reading
            }));
        }
        (with, without) = (decoded(&with), decoded(&without));
    }
    all
}

proptest::proptest! {
    /// No reading is lost by leaving out those that cannot differ.
    #[test]
    fn readings_that_cannot_differ_are_left_out_and_no_other(path in "/[a/.;\\\\%25ceEfF]{0,24}") {
        let normal = NormalPath::of(&path);
        let kept: Vec<_> = normal.readings().map(<[u8]>::to_vec).collect();
        // A plain path has but its normal form.
        if path.contains(['%', ';', '\\']) || path.contains("/.") {
            for reading in all_readings(&path) {
                proptest::prop_assert!(kept.contains(&reading), "{path}: {reading:?}");
            }
        }
    }
}

#[test]
fn a_path_costs_as_many_readings_as_it_is_doubtful() {
    let readers = |text: &str| PathReader::differing_on(text.as_bytes()).count();
    assert_eq!((readers("/a/b"), readers("/a;x"), readers("/a\\b"), readers("/a%2fb")), (1, 2, 2, 3));
    assert_eq!(readers("/a;b\\..%2e"), 12);
}
