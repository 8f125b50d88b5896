//! Spellings of paths, and the patterns that match them.

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
fn a_star_matches_the_path_and_everything_below_it() {
    for path in ["/api/admin", "/api/admin/", "/api/admin/users", "/api/admin/a/b", "/api//admin/%2e/x"] {
        assert!(shut("/api/admin/*", path), "{path}");
    }
    for path in ["/api/administrator", "/api", "/x/../api/administrator"] {
        assert!(!shut("/api/admin/*", path), "{path}");
    }
    assert!(shut("/*", "/anything") && shut("/*", "/"));
}

#[test]
fn an_ambiguous_path_matches_the_patterns_of_all_its_readings() {
    for path in [
        // Below the pattern for apps that resolve nothing or decode fewer times.
        "/api/admin/../x",
        "/api/admin/%2e%2e/x",
        "/api/admin/..%2fx",
        "/api/admin/%252e%252e/x",
        "/api/admin/..\\..\\x",
        "/api/admin/..;/x",
        // Below the pattern for apps in which `..` removes the empty segment.
        "/api/admin//../x",
        "/api//../api/admin/x",
        // Below the pattern for apps that remove parameters before decoding.
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
fn readings_of_a_long_path_are_truncated() {
    let long = "/a%2f..;x\\%252e".repeat(4000);
    assert!(shut("/ws-legacy", &long) && NormalPath::of(&long).others.is_empty());
    assert!(!shut("/ws-legacy", &"/a%20b".repeat(4000)));
    let path = NormalPath::of(&"/a%2f..;x\\%252e".repeat(30));
    let kept: usize = path.others.iter().map(Vec::len).sum();
    assert!(!path.any && kept <= path.others.len() * MAX_READING_BYTES, "{kept}");
}

#[test]
fn a_path_with_too_many_readings_matches_every_pattern() {
    // 120 readings of 7 KB would be 840 KB.
    let path = NormalPath::of(&"/a%2f..;x\\%252e".repeat(500));
    assert!(path.any && path.others.is_empty());
    assert!(PathPattern::parse("/ws-legacy").unwrap().matches(&path));
    // Long paths of real apps have few readings, and match only their own pattern.
    for long in ["/a%2fb".repeat(1300), "/a%20b".repeat(1300), "/a;b=1".repeat(1300), "/%C3%A4.x".repeat(800)] {
        assert!(!NormalPath::of(&long).any && !shut("/ws-legacy", &long), "{}", &long[..12]);
        assert!(shut("/*", &long));
    }
}

#[test]
fn patterns_that_can_never_match_are_refused() {
    assert_eq!(PathPattern::parse("api"), Err(PatternError::NotAbsolute));
    assert_eq!(PathPattern::parse("/a/**"), Err(PatternError::DoubleStar));
    assert_eq!(PathPattern::parse("/a?x=1"), Err(PatternError::Query));
}

/// All readings by all readers, including equal ones.
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
    /// Leaving out readers that cannot differ loses no reading.
    #[test]
    fn only_equal_readings_are_left_out(path in "/[a/.;\\\\%25ceEfF]{0,24}") {
        let normal = NormalPath::of(&path);
        let kept: Vec<_> = normal.readings().map(<[u8]>::to_vec).collect();
        // A plain path has only its normal form.
        if path.contains(['%', ';', '\\']) || path.contains("/.") {
            for reading in all_readings(&path) {
                proptest::prop_assert!(kept.contains(&reading), "{path}: {reading:?}");
            }
        }
    }
}

#[test]
fn the_number_of_readings_grows_with_the_ambiguity_of_the_path() {
    let readers = |text: &str| PathReader::differing_on(text.as_bytes()).count();
    assert_eq!((readers("/a/b"), readers("/a;x"), readers("/a\\b"), readers("/a%2fb")), (1, 2, 2, 3));
    assert_eq!(readers("/a;b\\..%2e"), 12);
}

fn set(patterns: &[&str]) -> PathSet {
    patterns.iter().map(|pattern| PathPattern::parse(pattern).unwrap()).collect()
}

#[test]
fn an_exception_holds_only_if_every_reading_of_a_path_is_one() {
    let open = set(&["/login", "/static/*"]);
    for path in ["/login", "//login/", "/static/a%20b.css", "/static/x/../y", "/static/..;/static/y"] {
        assert!(open.contains_every_reading(&NormalPath::of(path)), "{path}");
    }
    for path in [
        "/me",
        "/static/../me",
        "/static/..;/me",
        "/me/..;/login",
        "/login;/../me",
        "/static/%2e%2e/me",
        "/me\\..\\login",
    ] {
        assert!(!open.contains_every_reading(&NormalPath::of(path)), "{path}");
    }
    assert!(!open.contains_every_reading(&NormalPath::of(&format!("/static/{}", "%2e/;".repeat(9_000)))));
    assert!(!PathSet::default().contains_every_reading(&NormalPath::of("/")));
}

#[test]
fn a_set_covers_another_if_its_patterns_have_all_paths_of_the_other() {
    let everywhere = PathSet::everywhere();
    for (wide, narrow) in [
        (&everywhere, &everywhere),
        (&set(&["/api/*"]), &set(&["/api", "/api/x", "/api/admin/*"])),
        (&set(&["/a", "/b/*"]), &set(&["/b/c", "/a"])),
        (&set(&["/u/*/x/*"]), &set(&["/u/1/x", "/u/*/x", "/u/a*/x/y/*"])),
        (&set(&["/u/*"]), &set(&["/u/*/x"])),
        (&set(&["/a"]), &PathSet::default()),
    ] {
        assert!(wide.covers(narrow), "{wide:?} {narrow:?}");
    }
    for (wide, narrow) in [
        (&set(&["/api/*"]), &everywhere),
        (&set(&["/api"]), &set(&["/api/*"])),
        (&set(&["/api/*"]), &set(&["/apis"])),
        (&set(&["/u/*b"]), &set(&["/u/a*"])),
        (&set(&["/u/*"]), &set(&["/*/x"])),
    ] {
        assert!(!wide.covers(narrow), "{wide:?} {narrow:?}");
    }
}

#[test]
fn a_star_stands_for_any_part_of_one_segment() {
    for (pattern, matching, others) in [
        (
            "/user/*/api",
            &["/user/ada/api", "/user/%61da/api/"][..],
            &["/user/api", "/user/a/b/api", "/user/ada/api/x"][..],
        ),
        ("/user/*/api/*", &["/user/ada/api", "/user/ada/api/x/y"], &["/user/ada", "/user/a/b/api"]),
        ("/static/*.js", &["/static/a.js", "/static/.js"], &["/static/a.jsx", "/static/a/b.js", "/static/a.css"]),
        ("/a*b*b", &["/abb", "/axbxb", "/abbb"], &["/ab", "/axbxc"]),
        ("/*/x", &["/a/x"], &["/x", "/a/b/x"]),
    ] {
        for path in matching {
            assert!(shut(pattern, path), "{pattern} {path}");
        }
        for path in others {
            assert!(!shut(pattern, path), "{pattern} {path}");
        }
    }
}
