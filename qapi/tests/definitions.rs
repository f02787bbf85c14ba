//! What a definition gives: reading with QEMU's checks and texts, writing, introspection.

use qapi::{At, QapiType, find_command, query_qmp_schema};
use serde_json::{Map, Value, json};

#[derive(QapiType, Clone, Debug, PartialEq)]
enum Colour {
    Red,
    DarkBlue,
    #[qapi(name = "0x3")]
    Third,
}

#[derive(QapiType, Clone, Debug, PartialEq)]
struct Point {
    x: i64,
    y: Option<u8>,
}

/// A union with members that all variants share.
#[derive(QapiType, Clone, Debug, PartialEq)]
struct Shape {
    id: String,
    #[qapi(flatten)]
    form: Form,
}

#[derive(QapiType, Clone, Debug, PartialEq)]
#[qapi(tag = "form", tag_type = "FormKind")]
enum Form {
    Empty,
    Dot(Point),
    Many(Points),
}

#[derive(QapiType, Clone, Debug, PartialEq)]
struct Points {
    points: Vec<Point>,
    #[qapi(features("unstable"))]
    inside: Option<Box<Shape>>,
}

#[derive(QapiType, Clone, Debug, PartialEq)]
#[qapi(alternate)]
enum ShapeRef {
    Id(String),
    Definition(Shape),
    Nothing(()),
}

#[derive(QapiType, qapi::QapiEvent)]
#[qapi(event = "COLOUR_CHANGED")]
struct ColourChanged {
    colour: Colour,
}

/// Paints a shape.
///
/// Takes its time.
#[qapi::command("test-paint", oob, features("unstable"))]
fn paint(
    /// What to paint.
    #[qapi(name = "shape")]
    what: ShapeRef,
    colour: Option<Colour>,
    dry_run: bool,
) -> qom::Result<Vec<Colour>> {
    qom_check(&what)?;
    Ok(colour.into_iter().filter(|_| !dry_run).collect())
}

fn qom_check(what: &ShapeRef) -> qom::Result<()> {
    match what {
        ShapeRef::Id(id) if id == "none" => qom::bail!("there is no '{id}'"),
        _ => Ok(()),
    }
}

#[qapi::command("test-add", preconfig)]
fn add(driver: String, #[qapi(rest)] properties: Map<String, Value>) -> qom::Result<()> {
    if properties.is_empty() { qom::bail!("nothing for {driver}") } else { Ok(()) }
}

fn run(name: &str, arguments: Value) -> Result<Value, String> {
    let arguments = arguments.as_object().unwrap().clone();
    find_command(name).unwrap().run(arguments).map_err(|e| e.message)
}

#[test]
fn values_survive_the_way_out_and_in() {
    let shape = Shape {
        id: "a".into(),
        form: Form::Many(Points {
            points: vec![Point { x: -1, y: Some(255) }, Point { x: i64::MAX, y: None }],
            inside: Some(Box::new(Shape { id: "b".into(), form: Form::Empty })),
        }),
    };
    let json = shape.to_json();
    assert_eq!(
        json,
        json!({ "id": "a", "form": "many", "points": [{ "x": -1, "y": 255 }, { "x": i64::MAX }],
                "inside": { "id": "b", "form": "empty" } })
    );
    assert_eq!(Shape::from_json(json, At::Top).unwrap(), shape);
    for colour in [Colour::Red, Colour::DarkBlue, Colour::Third] {
        assert_eq!(Colour::from_json(colour.to_json(), At::Top).unwrap(), colour);
    }
    assert_eq!(Colour::DarkBlue.to_json(), json!("dark-blue"));
    assert_eq!(Colour::Third.to_json(), json!("0x3"));
    assert_eq!(ShapeRef::from_json(Value::Null, At::Top).unwrap(), ShapeRef::Nothing(()));
}

#[test]
fn mistakes_are_told_in_qemus_words() {
    let cases = [
        (json!({ "dry-run": true }), "Parameter 'shape' is missing"),
        (json!({ "shape": "a" }), "Parameter 'dry-run' is missing"),
        (json!({ "shape": "a", "dry-run": 1 }), "Invalid parameter type for 'dry-run', expected: boolean"),
        (
            json!({ "shape": "a", "dry-run": true, "colour": "green" }),
            "Parameter 'colour' does not accept value 'green'",
        ),
        (json!({ "shape": "a", "dry-run": true, "color": "red" }), "Parameter 'color' is unexpected"),
        (json!({ "shape": 1, "dry-run": true }), "Invalid parameter type for 'shape', expected: ShapeRef"),
        (json!({ "shape": { "id": "a" }, "dry-run": true }), "Parameter 'shape.form' is missing"),
        (
            json!({ "shape": { "id": "a", "form": "ball" }, "dry-run": true }),
            "Parameter 'form' does not accept value 'ball'",
        ),
        (
            json!({ "shape": { "id": "a", "form": "dot", "x": 1, "z": 1 }, "dry-run": true }),
            "Parameter 'shape.z' is unexpected",
        ),
        (
            json!({ "shape": { "id": "a", "form": "many", "points": [{ "x": 1 }, { "x": 1, "y": 256 }] }, "dry-run": true }),
            "Parameter 'y' expects uint8_t",
        ),
        (json!({ "shape": "none", "dry-run": true }), "there is no 'none'"),
    ];
    for (arguments, message) in cases {
        assert_eq!(run("test-paint", arguments.clone()), Err(message.to_owned()), "{arguments}");
    }
    assert_eq!(
        run("test-paint", json!({ "shape": "a", "dry-run": false, "colour": "red" })),
        Ok(json!(["red"]))
    );
    assert_eq!(run("test-add", json!({ "driver": "x" })), Err("nothing for x".to_owned()));
    assert_eq!(run("test-add", json!({ "driver": "x", "more": [1] })), Ok(json!({})));
}

#[test]
fn the_schema_tells_all_that_a_definition_says() {
    let schema = query_qmp_schema();
    let entry = |name: &str| {
        let found = schema.as_array().unwrap().iter().find(|entry| entry["name"] == name);
        found.unwrap_or_else(|| panic!("no '{name}' in {schema:#}")).clone()
    };
    let of = |value: &Value| entry(value.as_str().unwrap());
    let paint = entry("test-paint");
    assert_eq!((&paint["meta-type"], &paint["allow-oob"]), (&json!("command"), &json!(true)));
    assert_eq!(paint["features"], json!(["unstable"]));
    let arguments = of(&paint["arg-type"])["members"].clone();
    let names: Vec<_> = arguments.as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["shape", "colour", "dry-run"]);
    assert_eq!((arguments[1].get("default"), arguments[2].get("default")), (Some(&Value::Null), None));
    assert_eq!(of(&arguments[1]["type"])["values"], json!(["red", "dark-blue", "0x3"]));
    assert_eq!(of(&paint["ret-type"])["element-type"], arguments[1]["type"]);

    let alternate = of(&arguments[0]["type"]);
    assert_eq!(alternate["members"][0]["type"], "str");
    let shape = of(&alternate["members"][1]["type"]);
    assert_eq!((&shape["tag"], &shape["members"][1]["name"]), (&json!("form"), &json!("form")));
    let cases: Vec<_> = shape["variants"].as_array().unwrap().iter().map(|v| v["case"].clone()).collect();
    assert_eq!(cases, ["empty", "dot", "many"]);
    let points = of(&shape["variants"][2]["type"]);
    // A type that contains itself is described once.
    assert_eq!(points["members"][1]["type"], alternate["members"][1]["type"]);
    assert_eq!(points["members"][1]["features"], json!(["unstable"]));

    let event = entry("COLOUR_CHANGED");
    assert_eq!(
        (&event["meta-type"], &of(&event["arg-type"])["members"][0]["name"]),
        (&json!("event"), &json!("colour"))
    );
    let add = find_command("test-add").unwrap();
    assert!(add.options.allow_preconfig && !add.options.allow_oob);
    assert_eq!(find_command("test-paint").unwrap().doc, "Paints a shape.\n\nTakes its time.");
}

#[test]
fn events_reach_the_sink() {
    static SEEN: std::sync::Mutex<Vec<(String, Value)>> = std::sync::Mutex::new(Vec::new());
    qapi::emit(&ColourChanged { colour: Colour::Red });
    qapi::set_event_sink(|name, data| SEEN.lock().unwrap().push((name.to_owned(), data)));
    qapi::emit(&ColourChanged { colour: Colour::DarkBlue });
    assert_eq!(*SEEN.lock().unwrap(), [("COLOUR_CHANGED".to_owned(), json!({ "colour": "dark-blue" }))]);
}
