//! YAML as the JSON it stands for.
//!
//! The parser owns the syntax; this module builds values, and says what plain words mean: YAML 1.2's core schema, and octal
//! numbers as YAML 1.1 has them (`0660`), since files are written for both.
//! Invariant: a small text gives a small value. Depth is limited, and so is what aliases repeat.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError};
use serde_json::{Map, Value};

/// How deep collections may be in each other.
const MAX_DEPTH: usize = 64;
/// How many scalars and collections, and bytes of scalars, aliases may repeat.
const MAX_REPEATED: usize = 100_000;

/// Why a text has no value.
#[derive(Debug, thiserror::Error)]
pub(super) enum YamlError {
    #[error("it is no YAML")]
    Syntax(#[from] ScanError),
    #[error("its collections are more than {MAX_DEPTH} deep")]
    Depth,
    #[error("its aliases repeat too much")]
    Repeated,
    #[error("an alias stands for what is not there yet")]
    Alias,
    #[error("a key is no text")]
    Key,
    #[error("the key {0:?} is there twice")]
    Twice(String),
    #[error("it has not exactly one document")]
    Documents,
}

/// A collection that is not at its end.
enum Open {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Map(Map<String, Value>, Option<String>),
}

/// Reads the one document of `text`.
pub(super) fn value(text: &str) -> Result<Value, YamlError> {
    let mut open: Vec<(Open, usize)> = Vec::new();
    let mut anchors: HashMap<usize, Value> = HashMap::new();
    let (mut document, mut repeated) = (None, 0);
    for event in Parser::new_from_str(text) {
        let (value, anchor) = match event?.0 {
            Event::SequenceStart(_, anchor, _) => {
                open.push((Open::List(Vec::new()), anchor));
                (None, 0)
            }
            Event::MappingStart(_, anchor, _) => {
                open.push((Open::Map(Map::new(), None), anchor));
                (None, 0)
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some((Open::List(list), anchor)) => (Some(Value::Array(list)), anchor),
                Some((Open::Map(map, _), anchor)) => (Some(Value::Object(map)), anchor),
                None => (None, 0),
            },
            Event::Scalar(text, style, anchor, tag) => {
                // With a tag, `!!str 5`, what is meant is nothing to guess at.
                let plain = style == ScalarStyle::Plain && tag.is_none();
                (Some(if plain { word(&text) } else { Value::String(text.into_owned()) }), anchor)
            }
            Event::Alias(anchor) => {
                let value = anchors.get(&anchor).ok_or(YamlError::Alias)?.clone();
                repeated += size(&value);
                (Some(value), 0)
            }
            Event::DocumentEnd if document.is_none() => return Err(YamlError::Documents),
            _ => (None, 0),
        };
        if open.len() > MAX_DEPTH {
            return Err(YamlError::Depth);
        }
        let Some(value) = value else { continue };
        if anchor > 0 {
            // A copy, which counts as a repetition: anchors in anchors would double at each level.
            repeated += size(&value);
            anchors.insert(anchor, value.clone());
        }
        if repeated > MAX_REPEATED {
            return Err(YamlError::Repeated);
        }
        match open.last_mut() {
            Some((collection, _)) => collection.add(value)?,
            None if document.is_some() => return Err(YamlError::Documents),
            None => document = Some(value),
        }
    }
    document.ok_or(YamlError::Documents)
}

impl Open {
    fn add(&mut self, value: Value) -> Result<(), YamlError> {
        match self {
            Self::List(list) => list.push(value),
            Self::Map(map, key) => match key.take() {
                Some(name) if map.contains_key(&name) => return Err(YamlError::Twice(name)),
                Some(name) => drop(map.insert(name, value)),
                None => match value {
                    Value::String(name) => *key = Some(name),
                    _ => return Err(YamlError::Key),
                },
            },
        }
        Ok(())
    }
}

/// How many scalars and collections a value is made of, and the bytes of its texts.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + size(value)).sum(),
        Value::String(text) => text.len(),
        _ => 0,
    }
}

/// What a plain word means.
fn word(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let based = |digits: &str, radix: u32| {
        // Not the sign that from_str_radix would take.
        let sound = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
        sound.then(|| i64::from_str_radix(digits, radix).ok()).flatten()
    };
    let number = match digits.as_bytes() {
        [b'0', b'x', ..] => based(&digits[2..], 16),
        [b'0', b'o', ..] => based(&digits[2..], 8),
        [b'0', _, ..] => based(&digits[1..], 8),
        _ => based(digits, 10),
    };
    if let Some(number) = number {
        return Value::from(if negative { -number } else { number });
    }
    // Words such as inf are none of these.
    let fraction = digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    match text.parse::<f64>() {
        Ok(number) if fraction && number.is_finite() => Value::from(number),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_mean_what_the_schema_says() {
        for (text, meant) in [
            ("0", json!(0)),
            ("-12", json!(-12)),
            ("+3", json!(3)),
            ("0660", json!(0o660)),
            ("0o17", json!(15)),
            ("0x1f", json!(31)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("true", json!(true)),
            ("~", json!(null)),
            ("'5'", json!("5")),
            ("!!str 5", json!("5")),
            ("0.6.0", json!("0.6.0")),
            ("yes", json!("yes")),
            ("rw", json!("rw")),
            ("inf", json!("inf")),
            ("--1", json!("--1")),
            ("0x-1", json!("0x-1")),
            ("a:b=c", json!("a:b=c")),
            ("|\n  two\n  lines", json!("two\nlines\n")),
        ] {
            assert_eq!(value(&format!("key: {text}\n")).unwrap(), json!({ "key": meant }), "{text}");
        }
    }

    #[test]
    fn collections_and_aliases_are_what_they_stand_for() {
        let text = "a: &one [1, {b: 2}]\nc: *one\nd:\n- e: &two f\n- *two\n";
        let one = json!([1, { "b": 2 }]);
        assert_eq!(value(text).unwrap(), json!({ "a": one, "c": one, "d": [{ "e": "f" }, "f"] }));
    }

    #[test]
    fn what_is_no_one_small_document_is_refused() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        let mut laughs = String::from("a0: &a0 [lol]\n");
        for level in 1..30 {
            let before = vec![format!("*a{}", level - 1); 10].join(", ");
            laughs += &format!("a{level}: &a{level} [{before}]\n");
        }
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(50_000), vec!["*a"; 1000].join(", "));
        assert!(matches!(value(&deep), Err(YamlError::Depth | YamlError::Syntax(_))));
        assert!(matches!(value(&laughs), Err(YamlError::Repeated)));
        assert!(matches!(value(&long), Err(YamlError::Repeated)));
        assert!(matches!(value("a: &a [*a]\n"), Err(YamlError::Alias | YamlError::Syntax(_))));
        assert!(matches!(value("a: 1\na: 2\n"), Err(YamlError::Twice(_))));
        assert!(matches!(value("[a]: 1\n"), Err(YamlError::Key)));
        assert!(matches!(value("a: 1\n---\nb: 2\n"), Err(YamlError::Documents)));
        assert!(matches!(value(""), Err(YamlError::Documents)));
        assert!(matches!(value("a: [1"), Err(YamlError::Syntax(_))));
    }
}
