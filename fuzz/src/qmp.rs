//! QMP: the JSON that clients send in pieces, and the arguments of commands that only look.

use serde_json::{Map, Value};
use util::json::{Message, Reader, to_text};

/// Commands that change nothing, beside `query-`.
const READERS: [&str; 6] = [
    "qom-list",
    "qom-get",
    "qom-list-types",
    "qom-list-properties",
    "device-list-properties",
    "ringbuf-read",
];

/// The longest text that is read back.
const MAX_TEXT: usize = 64 << 10;

pub(crate) fn words() -> Vec<String> {
    let mut words: Vec<String> =
        ["execute", "exec-oob", "arguments", "id", "true", "false", "null", "\\u0000", "\\ud800"]
            .map(str::to_owned)
            .into();
    words.extend(
        qapi::commands().map(|command| command.name).filter(|name| only_looks(name)).map(str::to_owned),
    );
    words
}

fn only_looks(name: &str) -> bool {
    name.starts_with("query-") || READERS.contains(&name)
}

/// The first byte says how long the pieces are that the rest comes in.
pub(crate) fn run(data: &[u8]) {
    let Some((&piece, text)) = data.split_first() else { return };
    let messages = read(text, text.len());
    assert_eq!(read(text, piece.into()), messages, "however it is cut");
    for value in messages.into_iter().flatten() {
        for pretty in [false, true] {
            let text = to_text(&value, pretty);
            // The indentation of deep nesting takes its time to read and tells nothing.
            if text.len() > MAX_TEXT {
                continue;
            }
            let again = read(text.as_bytes(), text.len());
            assert!(matches!(&again[..], [Ok(again)] if same(again, &value)), "{text} is read as {again:?}");
        }
        carry_out(value);
    }
}

/// Whether values are the same. A whole number is written like an integer, whatever it is.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// All messages in a text that comes in pieces, and what the end of the last line makes one.
fn read(text: &[u8], piece: usize) -> Vec<Message> {
    let mut reader = Reader::default();
    let mut messages = Vec::new();
    for mut piece in text.chunks(piece.max(1)).chain([&b"\n"[..]]) {
        while !piece.is_empty() {
            let (used, message) = reader.feed(piece);
            assert!(used > 0 || message.is_some(), "it goes on");
            piece = &piece[used..];
            messages.extend(message);
        }
    }
    messages
}

fn carry_out(request: Value) {
    let Value::Object(mut request) = request else { return };
    let Some(Value::String(name)) = request.remove("execute") else { return };
    let arguments = match request.remove("arguments") {
        Some(Value::Object(arguments)) => arguments,
        _ => Map::new(),
    };
    // Commands that list types look for them.
    qom::module_call_init(qom::ModuleInitType::Qom);
    if let Some(command) = qapi::find_command(&name).filter(|_| only_looks(&name)) {
        // Refusing is as good.
        let _ = command.run(arguments);
    }
}
