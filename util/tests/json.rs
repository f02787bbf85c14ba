//! The JSON reader: QEMU's dialect, its words for mistakes, where it goes on behind them, and its limits.

use proptest::prelude::*;
use serde_json::{Value, json};
use util::json::{MAX_NESTING, MAX_TOKEN_COUNT, Message, Reader, from_text, to_text};

/// Every message in `data`, read in pieces of `size` bytes.
fn read_in_pieces(data: &[u8], size: usize) -> Vec<Message> {
    let mut reader = Reader::default();
    let mut messages = Vec::new();
    for mut piece in data.chunks(size.max(1)) {
        while !piece.is_empty() {
            let (used, message) = reader.feed(piece);
            assert!(used > 0 || message.is_some(), "the reader stands still at {piece:?}");
            piece = &piece[used..];
            messages.extend(message);
        }
    }
    messages
}

fn read(data: impl AsRef<[u8]>) -> Vec<Message> {
    read_in_pieces(data.as_ref(), usize::MAX)
}

fn wrong(text: &str) -> Message {
    Err(text.to_owned())
}

/// What QEMU 7.2 answered to the same bytes; `Ok` where it took them.
#[test]
fn mistakes_are_told_in_qemus_words_and_reading_goes_on_where_qemu_does() {
    let error = |text: &str| wrong(&format!("JSON parse error, {text}"));
    let cases: &[(&[u8], Vec<Message>)] = &[
        (b"{1:2}", vec![error("key is not a string in object")]),
        (b"{[1]:2}", vec![error("key is not a string in object")]),
        (b"{x}", vec![error("invalid keyword 'x'")]),
        (b"{\"a\":nope}", vec![error("invalid keyword 'nope'")]),
        (b"{\"a\":}", vec![error("expecting value")]),
        (b"{\"a\":1,}", vec![error("expecting value")]),
        (b"[1,]", vec![error("expecting value")]),
        (b"{]", vec![error("expecting value")]),
        (b"}", vec![error("expecting value")]),
        (b"[1 2]", vec![error("expected separator in list")]),
        (b"{\"a\":1 2}", vec![error("expected separator in dict")]),
        (b"{\"a\" 1}", vec![error("missing : in object pair")]),
        (b"{\"a\":1,\"a\":2}", vec![error("duplicate key")]),
        (br#"["\u12"]"#, vec![error(r#"\u12" is not a valid Unicode character"#)]),
        (br#"["\uD800"]"#, vec![error(r"\uD800 is not a valid Unicode character")]),
        (br#"["\ud83d\ude00","\ud83dx"]"#, vec![error(r"\ud83d is not a valid Unicode character")]),
        (br#"["\q"]"#, vec![error("invalid escape sequence in string")]),
        (b"[\"\x80\"]", vec![error("invalid UTF-8 sequence in string")]),
        (b"[\"\xc1\x80\"]", vec![error("invalid UTF-8 sequence in string")]),
        (b"[\"\xef\xbf\xbe\"]", vec![error("invalid UTF-8 sequence in string")]),
        (b"[\"\xc0\x80\"]", vec![Ok(json!(["\0"]))]),
        (b"[\"\xff\"]", vec![error("stray '\"\u{fffd}'"), error("expecting value")]),
        (b"0e5 ", vec![Ok(json!(0)), error("invalid keyword 'e'"), Ok(json!(5))]),
        (b"01 ", vec![error("stray '01'")]),
        (b"-x ", vec![error("stray '-x'")]),
        (b"%d 1 ", vec![error("stray '%'")]),
        (b"%d\t1\n2 ", vec![error("stray '%'"), Ok(json!(2))]),
        (b"{'a'; 'b'} ", vec![error("stray ';'"), error("expecting value")]),
        (b"[%d]", vec![error("stray '%'"), error("expecting value")]),
        (b"\x01\x02 7 ", vec![error("stray '\x01'"), error("stray '\x02'")]),
        (b"hello world\n", vec![error("invalid keyword 'hello'"), error("invalid keyword 'world'")]),
        (b"{'a': 'it\\'s \"so\"'}", vec![Ok(json!({ "a": "it's \"so\"" }))]),
        (b"[18446744073709551615, -9223372036854775808]", vec![Ok(json!([u64::MAX, i64::MIN]))]),
        (b"[18446744073709551616, 1e999]", vec![Ok(json!([18446744073709551616.0, f64::MAX]))]),
        (b"\"half", vec![]),
        (b"{\"half\": [", vec![]),
    ];
    for (data, expected) in cases {
        assert_eq!(&read(data), expected, "{}", String::from_utf8_lossy(data));
    }
}

#[test]
fn a_text_is_one_value() {
    let error = |text: &str| wrong(&format!("JSON parse error, {text}"));
    assert_eq!(from_text(" [1, true] "), Ok(json!([1, true])));
    assert_eq!(from_text("12"), Ok(json!(12)));
    assert_eq!(from_text("x"), error("invalid keyword 'x'"));
    assert_eq!(from_text("{"), error("premature EOI"));
    assert_eq!(from_text(" "), wrong("Expecting a JSON value"));
    assert_eq!(from_text("1 2"), wrong("Expecting at most one JSON value"));
    assert_eq!(from_text("{}[]"), wrong("Expecting at most one JSON value"));
}

#[test]
fn depth_and_number_of_tokens_have_limits() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(nested(MAX_NESTING as usize))[0].is_ok());
    let deep = read("[".repeat(MAX_NESTING as usize + 1));
    assert_eq!(deep, [wrong("JSON nesting depth limit exceeded")]);
    let long = format!("[{}", "0,".repeat(MAX_TOKEN_COUNT / 2));
    assert_eq!(read(long), [wrong("JSON token count limit exceeded")]);
}

#[test]
fn a_message_without_end_is_given_up() {
    let mut reader = Reader::default();
    let piece = vec![b'x'; 1 << 20];
    assert_eq!(reader.feed(b"[\""), (2, None));
    let mut read = 0;
    let message = loop {
        let (used, message) = reader.feed(&piece);
        read += used;
        if let Some(message) = message {
            break message;
        }
        assert!(read < 100 << 20, "nothing stops it");
    };
    assert_eq!(message, wrong("JSON token size limit exceeded"));
    // Behind it all is as ever.
    assert_eq!(reader.feed(b"\xff").1, Some(wrong("JSON parse error, stray '\u{fffd}'")));
    assert_eq!(reader.feed(b"\n[1]").1, Some(Ok(json!([1]))));
}

#[test]
fn output_has_qemus_form() {
    let value =
        json!({ "a": [], "b": {}, "c": [1, -0.0, 1.5e-7, 1e300, 0.1, 100.0], "d": "é\u{1}\u{7f}/😀\"\\\n" });
    assert_eq!(
        to_text(&value, false),
        r#"{"a": [], "b": {}, "c": [1, -0, 1.4999999999999999e-07, 1.0000000000000001e+300, 0.10000000000000001, 100], "d": "\u00E9\u0001\u007F/\uD83D\uDE00\"\\\n"}"#
    );
    let pretty = "{\n    \"a\": [\n    ],\n    \"b\": {\n        \"c\": [\n            1,\n            2\n        ]\n    }\n}";
    assert_eq!(to_text(&json!({ "a": [], "b": { "c": [1, 2] } }), true), pretty);
}

fn value() -> impl Strategy<Value = Value> {
    // Numbers whose text this dialect does not read as another kind.
    let number = prop_oneof![any::<i64>().prop_map(Value::from), any::<u64>().prop_map(Value::from)];
    let float = any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(|x| json!(x));
    let text =
        "\\PC*".prop_filter("characters", |text| text.chars().all(|c| u32::from(c) & 0xfffe != 0xfffe));
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number,
        float,
        text.prop_map(Value::String)
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::btree_map("[a-z\"\\\\é]{0,4}", inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A number without a fraction is a whole one once it was written: `1.0` is `1`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| same(a, b)))
        }
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

proptest! {
    #[test]
    fn what_serde_json_writes_is_read(value in value(), size in 1usize..40) {
        // The blank ends a number.
        let text = format!("{value} ");
        prop_assert_eq!(read_in_pieces(text.as_bytes(), size), vec![Ok(value)]);
    }

    #[test]
    fn what_is_written_comes_back_and_is_json(value in value(), pretty: bool) {
        let text = to_text(&value, pretty);
        prop_assert!(text.is_ascii());
        prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
        let [Ok(back)] = &read(format!("{text} "))[..] else { return Err(TestCaseError::fail(text)) };
        prop_assert!(same(back, &value), "{}", text);
    }

    #[test]
    fn what_one_reader_refuses_the_other_refuses_too(text in "[\\[\\]{}:,\"\\\\a-c0-9 .eE+-]{0,24}") {
        // One document, as serde_json sees it; what this dialect has beyond is not among these letters.
        if let Ok(expected @ (Value::Array(_) | Value::Object(_))) = serde_json::from_str::<Value>(&text) {
            let [Ok(found)] = &read(&text)[..] else { return Err(TestCaseError::fail(text)) };
            prop_assert!(same(found, &expected), "{}", text);
        } else if let [Ok(found @ (Value::Array(_) | Value::Object(_)))] = &read(&text)[..] {
            // Behind it may stand the beginning of another.
            let begin = serde_json::Deserializer::from_str(&text).into_iter::<Value>().next();
            prop_assert!(begin.is_some_and(|begin| begin.is_ok_and(|begin| same(&begin, found))), "{}", text);
        }
    }

    #[test]
    fn pieces_do_not_matter_and_garbage_is_overcome(data: Vec<u8>, size in 1usize..9) {
        let whole = read(&data);
        prop_assert_eq!(&read_in_pieces(&data, size), &whole);
        // A byte that is in no text, and the line's end, bring any reader back.
        let behind = [data, b"\xff\n{\"execute\": \"stop\"}".to_vec()].concat();
        prop_assert_eq!(read(behind).pop(), Some(Ok(json!({ "execute": "stop" }))));
    }
}
