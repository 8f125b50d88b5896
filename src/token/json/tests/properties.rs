//! Random documents, compared with a strict parser.

use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value};

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        key().prop_map(Value::from),
    ]
}

/// A few keys, so that pointers match often. Some need escapes in JSON and in pointers.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["a", "b", "0", "1", "", "~", "/", "\"", "\\", "\n", "\u{1}", "\u{1F600}"])
            .prop_map(str::to_owned),
        "[ab/~\"]{0,2}"
    ]
}

fn document() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..6)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A pointer that usually exists in the document.
fn place() -> impl Strategy<Value = String> {
    prop::collection::vec(key(), 0..4).prop_map(|keys| {
        keys.iter().fold(String::new(), |path, key| path + "/" + &key.replace('~', "~0").replace('/', "~1"))
    })
}

fn expected(value: &Value) -> JsonValue {
    match value {
        Value::String(text) => JsonValue::Text(text.clone()),
        Value::Number(number) => JsonValue::Number(number.to_string()),
        Value::Bool(value) => JsonValue::Bool(*value),
        Value::Null | Value::Array(_) | Value::Object(_) => JsonValue::Other,
    }
}

/// All pointers into a document.
fn places_of(value: &Value, here: &str, all: &mut Vec<String>) {
    all.push(here.to_owned());
    match value {
        Value::Array(elements) => {
            elements.iter().enumerate().for_each(|(i, inner)| places_of(inner, &format!("{here}/{i}"), all));
        }
        Value::Object(members) => members.iter().for_each(|(key, inner)| {
            places_of(inner, &format!("{here}/{}", key.replace('~', "~0").replace('/', "~1")), all);
        }),
        _ => {}
    }
}

proptest! {
    #[test]
    fn agrees_with_a_strict_parser(document in document(), strange in prop::collection::vec(place(), 0..8), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
        let mut places = strange;
        places_of(&document, "", &mut places);
        let pointers: Vec<_> = places.iter().map(|place| pointer(place)).collect();
        let found = find(text.as_bytes(), &pointers.iter().collect::<Vec<_>>()).unwrap();
        for (place, found) in places.iter().zip(found) {
            let strict: Vec<_> = document.pointer(place).map(expected).into_iter().collect();
            prop_assert!(found == strict, "{place:?} in {text}");
        }
    }

    #[test]
    fn accepts_what_a_strict_parser_accepts(text in "[\\[\\]{}\",:0-9eE+\\-. \\\\utrue\nnul]{0,12}") {
        if serde_json::from_str::<Value>(&text).is_ok() {
            prop_assert!(find(text.as_bytes(), &[]).is_ok());
        }
    }

    #[test]
    fn accepts_valid_mutations_of_documents(document in document(), place: prop::sample::Index, byte: u8) {
        let mut text = serde_json::to_vec(&document).unwrap();
        text.insert(place.index(text.len() + 1), byte);
        if serde_json::from_slice::<Value>(&text).is_ok() {
            prop_assert!(find(&text, &[]).is_ok());
        }
    }

    #[test]
    fn escapes_are_decoded(text: String, plain in prop::collection::vec(any::<bool>(), 0..32)) {
        let mut written = String::from("\"");
        for (character, plain) in text.chars().zip(plain.into_iter().chain(std::iter::repeat(false))) {
            if plain && !matches!(character, '"' | '\\') {
                written.push(character);
            } else {
                written.extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
            }
        }
        written.push('"');
        prop_assert!(find(written.as_bytes(), &[&pointer("")]) == Ok(vec![vec![JsonValue::Text(text)]]), "{written}");
    }

    #[test]
    fn random_bytes_do_not_panic(bytes: Vec<u8>, pieces in prop::collection::vec(prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"a\"", "\"", "\\", "\\u", "d83d", "1", "-", ".", "e", "true", "NaN", " ", "\0", "\u{feff}",
    ]), 0..24)) {
        let _ = at("/a", &bytes);
        let _ = at("/a/0", pieces.concat());
    }
}
