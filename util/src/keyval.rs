//! Options that describe a tree: `a=1,b.c=2,list.0=x`, or the same in JSON (util/keyval.c).
//!
//! ```text
//! key-vals = [ key-val { ',' key-val } [ ',' ] ]
//! key-val  = key '=' val | help
//! key      = fragment { '.' fragment }        a QAPI name, or digits for an element of a list
//! val      = { any character but ',' | ',,' }
//! ```
//! With an implied key the first item may be its value alone, without `=` and `,` in it.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::option::{get_opt_value, is_help_option};

/// Longest key fragment, bytes.
const MAX_FRAGMENT: usize = 127;

/// Why options are refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyvalError {
    /// No key.
    #[error("Invalid parameter '{0}'")]
    Invalid(String),
    /// A fragment of a key, or all of it, is longer than 127 bytes.
    #[error("Parameter{} '{name}' is too long", if *.fragment { " fragment" } else { "" })]
    TooLong {
        /// The fragment.
        name: String,
        /// Whether it is a part of a key.
        fragment: bool,
    },
    /// A key without a value.
    #[error("Expected '=' after parameter '{0}'")]
    NoValue(String),
    /// A key is a value here and a tree there, or a list and an object.
    #[error("Parameters '{0}*' used inconsistently")]
    Inconsistent(String),
    /// As before, of two options.
    #[error("Parameter '{0}' used inconsistently")]
    InconsistentMerge(String),
    /// A list has a gap.
    #[error("Parameter '{0}' missing")]
    Missing(String),
    /// Not JSON.
    #[error("{0}")]
    Json(String),
    /// JSON, but no object.
    #[error("Invalid parameter type, expected: object")]
    NoObject,
}

/// Options as a tree: objects, arrays, and strings for leaves (other types only from JSON).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keyval {
    /// The tree.
    pub map: Map<String, Value>,
    /// Whether `help` was among the items.
    pub help: bool,
}

/// Parses `key=value,…`.
///
/// # Errors
/// See [`KeyvalError`].
pub fn parse(text: &str, implied_key: Option<&str>) -> Result<Keyval, KeyvalError> {
    let mut keyval = Keyval::default();
    let mut rest = text;
    let mut implied_key = implied_key;
    while !rest.is_empty() {
        rest = parse_one(&mut keyval, rest, implied_key.take())?;
    }
    listify(&mut keyval.map, "")?;
    Ok(keyval)
}

/// Parses a JSON object where the text begins with `{`, `key=value,…` otherwise.
///
/// # Errors
/// See [`KeyvalError`].
pub fn parse_or_json(text: &str, implied_key: Option<&str>) -> Result<Keyval, KeyvalError> {
    if !text.starts_with('{') {
        return parse(text, implied_key);
    }
    match crate::json::from_text(text) {
        Ok(Value::Object(map)) => Ok(Keyval { map, help: false }),
        Ok(_) => Err(KeyvalError::NoObject),
        Err(error) => Err(KeyvalError::Json(error)),
    }
}

/// Adds the tree `from` to `into`: a later value replaces an earlier one, lists are joined.
///
/// # Errors
/// A key that is a value in one and a tree in the other.
pub fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) -> Result<(), KeyvalError> {
    merge_below(into, from, "")
}

fn merge_below(
    into: &mut Map<String, Value>,
    from: Map<String, Value>,
    path: &str,
) -> Result<(), KeyvalError> {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                merge_below(old, new, &format!("{path}{key}."))?
            }
            (Some(Value::Array(old)), Value::Array(new)) => old.extend(new),
            (Some(old), new) if is_tree(old) || is_tree(&new) => {
                return Err(KeyvalError::InconsistentMerge(format!("{path}{key}")));
            }
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
    Ok(())
}

fn is_tree(value: &Value) -> bool {
    matches!(value, Value::Object(_) | Value::Array(_))
}

/// Parses the first item; the rest is the result.
fn parse_one<'a>(
    keyval: &mut Keyval,
    text: &'a str,
    implied_key: Option<&str>,
) -> Result<&'a str, KeyvalError> {
    let end = text.find(['=', ',']).unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    let skip_comma = |rest: &'a str| rest.strip_prefix(',').unwrap_or(rest);
    let Some(value) = rest.strip_prefix('=') else {
        if is_help_option(key) {
            keyval.help = true;
            return Ok(skip_comma(rest));
        }
        if let (Some(implied_key), false) = (implied_key, key.is_empty()) {
            put(&mut keyval.map, implied_key, key.to_owned())?;
            return Ok(skip_comma(rest));
        }
        check_key(key)?;
        return Err(KeyvalError::NoValue(key.to_owned()));
    };
    check_key(key)?;
    let (value, rest) = get_opt_value(value);
    put(&mut keyval.map, key, value)?;
    Ok(skip_comma(rest))
}

/// Every fragment is a QAPI name, or (but the first) an index.
fn check_key(key: &str) -> Result<(), KeyvalError> {
    for (number, fragment) in key.split('.').enumerate() {
        let is_index = number > 0 && is_index(fragment);
        if !is_index && !is_qapi_name(fragment) {
            return Err(KeyvalError::Invalid(key.to_owned()));
        }
        if fragment.len() > MAX_FRAGMENT {
            return Err(KeyvalError::TooLong { name: fragment.to_owned(), fragment: fragment != key });
        }
    }
    Ok(())
}

fn is_index(fragment: &str) -> bool {
    !fragment.is_empty() && fragment.bytes().all(|byte| byte.is_ascii_digit())
}

/// A letter, then letters, digits, `-` and `_`. (Vendors' `__RFQDN_` names have a dot: no option uses them.)
fn is_qapi_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
}

/// Puts a leaf where its key says.
fn put(map: &mut Map<String, Value>, key: &str, value: String) -> Result<(), KeyvalError> {
    let mut at = map;
    let mut path = String::new();
    let mut fragments = key.split('.').peekable();
    while let Some(fragment) = fragments.next() {
        path.push_str(fragment);
        path.push('.');
        let inconsistent = || KeyvalError::Inconsistent(path.clone());
        if fragments.peek().is_none() {
            return match at.insert(fragment.to_owned(), Value::String(value)) {
                Some(Value::Object(_)) => Err(inconsistent()),
                _ => Ok(()),
            };
        }
        match at.entry(fragment).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(next) => at = next,
            _ => return Err(inconsistent()),
        }
    }
    Ok(())
}

/// Makes arrays of the objects whose keys are indices.
fn listify(map: &mut Map<String, Value>, path: &str) -> Result<(), KeyvalError> {
    for (key, value) in map.iter_mut() {
        let Value::Object(inner) = value else { continue };
        let path = format!("{path}{key}.");
        listify(inner, &path)?;
        let indices = inner.keys().filter(|key| is_index(key)).count();
        if indices == 0 {
            continue;
        }
        if indices != inner.len() {
            return Err(KeyvalError::Inconsistent(path));
        }
        let mut elements = Vec::with_capacity(indices);
        for index in 0..indices {
            let found = inner.keys().find(|key| key.parse() == Ok(index)).cloned();
            let element = found.and_then(|key| inner.remove(&key));
            elements.push(element.ok_or_else(|| KeyvalError::Missing(format!("{path}{index}")))?);
        }
        *value = Value::Array(elements);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn tree(text: &str, implied_key: Option<&str>) -> Value {
        Value::Object(parse(text, implied_key).unwrap().map)
    }

    fn error(text: &str) -> String {
        parse(text, Some("type")).unwrap_err().to_string()
    }

    #[test]
    fn trees_of_objects_lists_and_strings() {
        assert_eq!(tree("", None), json!({}));
        assert_eq!(tree("a=1,b.c=2,b.d=,,x,", None), json!({"a": "1", "b": {"c": "2", "d": ",x"}}));
        assert_eq!(tree("l.1=b,l.0=a", None), json!({"l": ["a", "b"]}));
        assert_eq!(tree("l.0.x=1,l.0.y=2", None), json!({"l": [{"x": "1", "y": "2"}]}));
        assert_eq!(tree("a=1,a=2", None), json!({"a": "2"}), "the later counts");
        assert_eq!(tree("a=b=c", None), json!({"a": "b=c"}));
    }

    #[test]
    fn the_first_value_may_stand_alone() {
        assert_eq!(tree("pc", Some("type")), json!({"type": "pc"}));
        assert_eq!(tree("pc,usb=on", Some("type")), json!({"type": "pc", "usb": "on"}));
        assert_eq!(tree("usb=on,type=pc", Some("type")), json!({"type": "pc", "usb": "on"}));
        assert_eq!(error("pc,,="), "Invalid parameter ''");
        assert_eq!(error("usb=on,pc"), "Expected '=' after parameter 'pc'");
    }

    #[test]
    fn help_may_stand_anywhere() {
        for text in ["help", "?", "pc,help", "pc,help,usb=on"] {
            assert!(parse(text, Some("type")).unwrap().help, "{text}");
        }
        assert!(!parse("help=on", None).unwrap().help);
        assert_eq!(error("help,foo"), "Expected '=' after parameter 'foo'");
    }

    #[test]
    fn refusals_in_qemus_words() {
        assert_eq!(error("="), "Invalid parameter ''");
        assert_eq!(error("1=a"), "Invalid parameter '1'");
        assert_eq!(error("a.=1"), "Invalid parameter 'a.'");
        assert_eq!(error("a..b=1"), "Invalid parameter 'a..b'");
        assert_eq!(error("a b=1"), "Invalid parameter 'a b'");
        assert_eq!(error("a=1,a.b=2"), "Parameters 'a.*' used inconsistently");
        assert_eq!(error("a.b=1,a=2"), "Parameters 'a.*' used inconsistently");
        assert_eq!(error("a.0=1,a.b=2"), "Parameters 'a.*' used inconsistently");
        assert_eq!(error("a.1=1"), "Parameter 'a.0' missing");
        assert_eq!(error("a.0=1,a.2=1"), "Parameter 'a.1' missing");
        assert_eq!(error("a.00=1,a.0=1"), "Parameter 'a.1' missing");
        let long = "a".repeat(128);
        assert_eq!(error(&format!("{long}=1")), format!("Parameter '{long}' is too long"));
        assert_eq!(error(&format!("a.{long}=1")), format!("Parameter fragment '{long}' is too long"));
    }

    #[test]
    fn json_is_taken_too() {
        let map = parse_or_json(r#"{"driver": "a", "n": 3, "on": true}"#, None).unwrap().map;
        assert_eq!(Value::Object(map), json!({"driver": "a", "n": 3, "on": true}));
        assert!(parse_or_json("{", None).unwrap_err().to_string().starts_with("JSON parse error, "));
        assert_eq!(parse_or_json("a", Some("x")).unwrap().map, parse("a", Some("x")).unwrap().map);
    }

    #[test]
    fn later_options_are_merged() {
        let merged = |first: &str, second: &str| {
            let mut map = parse(first, None).unwrap().map;
            merge(&mut map, parse(second, None).unwrap().map).map(|()| Value::Object(map))
        };
        let tree = merged("a=1,b.c=2,l.0=x", "a=3,b.d=4,l.0=y").unwrap();
        assert_eq!(tree, json!({"a": "3", "b": {"c": "2", "d": "4"}, "l": ["x", "y"]}));
        let error = merged("memory.size=1", "memory=2").unwrap_err();
        assert_eq!(error.to_string(), "Parameter 'memory' used inconsistently");
        let error = merged("a.b.c=1", "a.b=2").unwrap_err();
        assert_eq!(error.to_string(), "Parameter 'a.b' used inconsistently");
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "[ab01.,=]{0,30}|.*") {
            if let Ok(first) = parse(&text, Some("type")) {
                let mut map = first.map.clone();
                let _ = merge(&mut map, first.map);
            }
            let _ = parse_or_json(&text, None);
        }
    }
}
