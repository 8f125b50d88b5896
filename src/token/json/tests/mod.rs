//! Values found, and documents accepted or refused.

mod properties;

use super::*;

fn pointer(text: &str) -> Pointer {
    Pointer::parse(text).unwrap()
}

/// The values at one pointer, in a form that a failing test can print.
fn at(place: &str, document: impl AsRef<[u8]>) -> Result<Vec<String>, NotJson> {
    let found = find(document.as_ref(), &[&pointer(place)])?.remove(0);
    Ok(found.into_iter().map(shown).collect())
}

fn shown(found: JsonValue) -> String {
    match found {
        JsonValue::Text(text) => format!("'{text}'"),
        JsonValue::Number(digits) => digits,
        JsonValue::Bool(value) => value.to_string(),
        JsonValue::Other => "other".to_owned(),
    }
}

#[track_caller]
fn finds(place: &str, document: impl AsRef<[u8]>, expected: &[&str]) {
    let document = document.as_ref();
    assert_eq!(at(place, document).as_deref(), Ok(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..]));
}

#[test]
fn a_value_of_each_kind_is_found() {
    let document = r#" {"a": "text", "b": -1.50e+7, "c": true, "d": false, "e": null, "f": {}, "g": [ ]} "#;
    let places = ["/a", "/b", "/c", "/d", "/e", "/f", "/g"].map(pointer);
    let found = find(document.as_bytes(), &places.each_ref()).unwrap();
    let all: Vec<_> = found.into_iter().flatten().map(shown).collect();
    assert_eq!(all, ["'text'", "-1.50e+7", "true", "false", "other", "other", "other"]);
}

#[test]
fn pointers_reach_nested_values() {
    let document = r#"{"user": {"tokens": ["x", {"id": "y"}], "a/b": {"c~d": 1}}, "": {"": 2}, "0": 3}"#;
    finds("/user/tokens/0", document, &["'x'"]);
    finds("/user/tokens/1/id", document, &["'y'"]);
    finds("/user/a~1b/c~0d", document, &["1"]);
    finds("//", document, &["2"]);
    finds("/0", document, &["3"]);
    finds("", document, &["other"]);
    for nowhere in
        ["/user/tokens/2", "/user/tokens/00", "/user/tokens/+1", "/user/tokens/-", "/tokens", "/id", "/user/id"]
    {
        finds(nowhere, document, &[]);
    }
    finds("/0/x", r#"[{"x": 1}, {"x": 2}]"#, &["1"]);
    finds("/10", "[0,1,2,3,4,5,6,7,8,9,10]", &["10"]);
    finds("", "\"alone\"", &["'alone'"]);
}

#[test]
fn all_values_of_duplicate_keys_are_found() {
    finds("/id", r#"{"id": "first", "id": 2, "\u0069d": "last"}"#, &["'first'", "2", "'last'"]);
    finds(
        "/user/id",
        r#"{"user": {"id": 1}, "user": 0, "user": {"x": {"id": 9}, "id": 2, "id": 3}}"#,
        &["1", "2", "3"],
    );
    finds("/a/b", r#"{"a": {"a": {"b": 0}}, "b": {"b": 0}}"#, &[]);
}

#[test]
fn one_pointer_may_be_a_prefix_of_another() {
    let places = ["/a", "/a/b", "", "/a"].map(pointer);
    let found = find(br#"{"a": {"b": 1}}"#, &places.each_ref()).unwrap();
    assert_eq!(
        found,
        [vec![JsonValue::Other], vec![JsonValue::Number("1".into())], vec![JsonValue::Other], vec![JsonValue::Other]]
    );
}

#[test]
fn keys_and_texts_are_unescaped() {
    finds("/session_id", r#"{"session\u005fid": "\u0061b\/c\\\"\b\f\n\r\t"}"#, &["'ab/c\\\"\u{8}\u{c}\n\r\t'"]);
    finds("", r#""\u0061\u0062\ud83d\ude00\u0063""#, &["'ab\u{1F600}c'"]);
    finds("/\u{1F600}", r#"{"\ud83d\uDE00": "\ud83d\ude00"}"#, &["'\u{1F600}'"]);
}

#[test]
fn lone_surrogates_become_replacement_characters() {
    finds("", r#""\ud83d""#, &["'\u{FFFD}'"]);
    finds("", r#""\ude00\ud83d""#, &["'\u{FFFD}\u{FFFD}'"]);
    finds("", r#""\ud83d\ud83d\ude00\ud83dx\ud83d\n""#, &["'\u{FFFD}\u{1F600}\u{FFFD}x\u{FFFD}\n'"]);
    finds("/b", r#"{"\ud83d": 1, "b": 2}"#, &["2"]);
}

#[test]
fn broken_utf8_becomes_replacement_characters() {
    finds("/a", b"{\"\xFF\": 0, \"a\": \"x\xC3y\xED\xA0\x80\"}", &["'x\u{FFFD}y\u{FFFD}\u{FFFD}\u{FFFD}'"]);
    finds("/a", b"{\"a\": \"\\n\xFF\\n\"}", &["'\n\u{FFFD}\n'"]);
}

#[test]
fn control_characters_are_accepted_in_strings() {
    finds("/a", "{\"a\": \"x\n\t\u{0}\u{1f}\u{7f}\"}", &["'x\n\t\u{0}\u{1f}\u{7f}'"]);
}

#[test]
fn numbers_of_lenient_parsers_are_accepted() {
    finds("/0", "[NaN]", &["NaN"]);
    finds("/1", "[NaN,Infinity]", &["Infinity"]);
    finds("", "-Infinity", &["-Infinity"]);
    finds("", "123456789012345678901234567890e999999999", &["123456789012345678901234567890e999999999"]);
}

#[test]
fn byte_order_marks_and_wide_encodings_are_decoded() {
    let document = "{\"cmd\": \"\u{4E22}\u{2222}\u{1F600}\", \"session_id\": \"t\"}";
    let units: Vec<u16> = document.encode_utf16().collect();
    let big_16: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    let little_16: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let big_32: Vec<u8> = document.chars().flat_map(|character| u32::from(character).to_be_bytes()).collect();
    let little_32: Vec<u8> = document.chars().flat_map(|character| u32::from(character).to_le_bytes()).collect();
    let encodings: [(&[u8], &[u8]); 5] = [
        (b"\xEF\xBB\xBF", document.as_bytes()),
        (b"\xFE\xFF", &big_16),
        (b"\xFF\xFE", &little_16),
        (b"\x00\x00\xFE\xFF", &big_32),
        (b"\xFF\xFE\x00\x00", &little_32),
    ];
    for (mark, encoded) in encodings {
        for bytes in [encoded.to_vec(), [mark, encoded].concat()] {
            finds("/session_id", &bytes, &["'t'"]);
            finds("/cmd", &bytes, &["'\u{4E22}\u{2222}\u{1F600}'"]);
        }
    }
    finds("", b"7\0", &["7"]);
    finds("", b"\x007", &["7"]);
    finds("", b"\"\0\x3D\xD8\"\0", &["'\u{FFFD}'"]);
    assert_eq!(at("", b"[\0]\0 "), Err(NotJson), "half a character");
}

#[test]
fn invalid_documents_are_refused() {
    let bad = [
        "",
        " ",
        "\u{feff}",
        "abc",
        "nul",
        "nulll",
        "True",
        "None",
        "undefined",
        "nan",
        "inf",
        "-NaN",
        "+1",
        "-",
        "01",
        "-01",
        "1.",
        ".5",
        "1.e5",
        "1e",
        "1e+",
        "0x10",
        "1_000",
        "--1",
        "[",
        "]",
        "{",
        "}",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[,]",
        "[1 2]",
        "[1}",
        "{]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1 \"b\":2}",
        "{\"a\" 1}",
        "{a:1}",
        "{'a':1}",
        "{1:1}",
        "{\"a\":1",
        "{\"a\":1]",
        "\"",
        "\"a",
        "\"\\",
        "\"\\\"",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\u+123\"",
        "\"\\'\"",
        "'a'",
        "1 2",
        "{} {}",
        "[] ]",
        "{},",
        "1,",
        "//x\n1",
        "/**/1",
        "[1]\u{0}",
        "\u{b}1",
        "\u{a0}1",
        "null\u{c}",
        "[-]",
    ];
    for document in bad {
        assert_eq!(at("/a", document), Err(NotJson), "{document:?}");
    }
}

#[test]
fn deep_nesting_uses_no_stack() {
    const DEPTH: usize = 65_536;
    let document = "[".repeat(DEPTH) + &"]".repeat(DEPTH);
    finds("/0/0/0", &document, &["other"]);
    assert_eq!(at("", "[".repeat(DEPTH)), Err(NotJson));
    let document = "{\"a\":".repeat(DEPTH) + "1" + &"}".repeat(DEPTH);
    finds("/a/a", &document, &["other"]);
    finds(&"/a".repeat(DEPTH), &document, &["1"]);
}

#[test]
fn values_match_by_type_and_value() {
    let found = [JsonValue::Other, JsonValue::Text("7".into()), JsonValue::Number("7".into()), JsonValue::Bool(true)];
    assert!(matches(&found, &Scalar::Text("7".into())));
    assert!(matches(&found, &Scalar::Number("7".into())));
    assert!(matches(&found, &Scalar::Bool(true)));
    assert!(matches(&found, &Scalar::Number("7.0".into())));
    assert!(!matches(&found, &Scalar::Number("8".into())));
    assert!(!matches(&found, &Scalar::Bool(false)));
    assert!(!matches(&found, &Scalar::Text("true".into())));
    assert!(!matches(&[], &Scalar::Bool(true)));
}

#[test]
fn debug_output_shows_no_secrets() {
    let found = find(br#"["secret", 1234]"#, &[&pointer("/0"), &pointer("/1")]).unwrap();
    assert_eq!(format!("{found:?}"), "[[Text(<6 bytes>)], [Number(<4 bytes>)]]");
}
