//! Keys and pointers (ui/ui-hmp-cmds.c).

use hw_input::qkeycode::QKeyCode;
use serde_json::{Value, json};

use super::args::Args;
use super::qmp;
use super::session::{Session, out};

/// A key's name as QMP has it, or its number.
fn key(name: &str) -> Option<Value> {
    // The one key that has another name here.
    let name = if name == "<" { "less" } else { name };
    if QKeyCode::ALL.iter().any(|key| key.name() == name) {
        return Some(json!({"type": "qcode", "data": name}));
    }
    let digits = name.strip_prefix("0x").or(name.strip_prefix("0X"))?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    Some(json!({"type": "number", "data": number}))
}

pub(crate) fn sendkey(_: &mut Session, args: &Args) -> Result<(), String> {
    let mut keys = Vec::new();
    for name in args.word("keys").split('-') {
        keys.push(key(name).ok_or_else(|| format!("invalid parameter: {name}"))?);
    }
    let arguments = [("keys", Value::Array(keys)), ("hold-time", json!(args.number("hold-time")))];
    qmp::carry_out("send-key", arguments)
}

/// Gives events to the guest, if there is one to take them: as in QEMU, what nobody takes is lost.
fn send(events: Vec<Value>) {
    let _ = qmp::carry_out("input-send-event", [("events", Value::Array(events))]);
}

fn button(name: &str, down: bool) -> Value {
    json!({"type": "btn", "data": {"button": name, "down": down}})
}

/// A number as C's `strtol` reads it, 0 where there is none.
fn number(text: &str) -> i64 {
    util::cutils::strtoi64(text, 0).unwrap_or_default()
}

pub(crate) fn mouse_move(_: &mut Session, args: &Args) -> Result<(), String> {
    let axis = |axis: &str, value: i64| json!({"type": "rel", "data": {"axis": axis, "value": value}});
    send(vec![axis("x", number(args.word("dx_str"))), axis("y", number(args.word("dy_str")))]);
    match args.text("dz_str").map(number) {
        None | Some(0) => {}
        Some(up) => {
            let wheel = if up > 0 { "wheel-up" } else { "wheel-down" };
            send(vec![button(wheel, true)]);
            send(vec![button(wheel, false)]);
        }
    }
    Ok(())
}

/// The bits of `mouse_button` and the buttons they stand for.
const BUTTONS: [(i64, &str); 3] = [(1, "left"), (2, "right"), (4, "middle")];

pub(crate) fn mouse_button(_: &mut Session, args: &Args) -> Result<(), String> {
    let state = args.number("button_state").unwrap_or_default();
    send(BUTTONS.iter().map(|(bit, name)| button(name, state & bit != 0)).collect());
    Ok(())
}

pub(crate) fn mouse_set(_: &mut Session, args: &Args) -> Result<(), String> {
    let index = args.number("index").unwrap_or_default();
    let mice = qmp::list("query-mice")?;
    let mouse = mice.iter().find(|mouse| mouse.get("index").and_then(Value::as_i64) == Some(index));
    match mouse {
        // A machine has one mouse at most: it has the events already.
        Some(_) => Ok(()),
        None => Err(format!("Mouse at index '{index}' not found")),
    }
}

pub(crate) fn info_mice(mon: &mut Session, _: &Args) -> Result<(), String> {
    let mice = qmp::list("query-mice")?;
    if mice.is_empty() {
        return Err("No mouse devices connected".to_owned());
    }
    for mouse in &mice {
        let mark = if qmp::flag(mouse, "current") { '*' } else { ' ' };
        let index = mouse.get("index").and_then(Value::as_i64).unwrap_or_default();
        let absolute = if qmp::flag(mouse, "absolute") { " (absolute)" } else { "" };
        out!(mon, "{mark} Mouse #{index}: {}{absolute}\n", qmp::text(mouse, "name"));
    }
    Ok(())
}
