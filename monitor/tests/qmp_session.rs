//! Sessions of clients over unix sockets.

mod qmp;

use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Condvar, Mutex};

use qapi::{QapiEvent, QapiType};
use qmp::{Client, Server};
use serde_json::{Value, json};

/// Whether `test-block` is to return.
static RELEASED: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// Blocks the main loop until `test-release`.
#[qapi::command("test-block")]
fn test_block() -> qom::Result<()> {
    let mut released = RELEASED.0.lock().unwrap();
    while !*released {
        released = RELEASED.1.wait(released).unwrap();
    }
    *released = false;
    Ok(())
}

#[qapi::command("test-release", oob)]
fn test_release() -> qom::Result<()> {
    *RELEASED.0.lock().unwrap() = true;
    RELEASED.1.notify_all();
    Ok(())
}

#[derive(QapiType, QapiEvent)]
#[qapi(event = "TEST_HAPPENED")]
struct TestHappened {
    what: String,
}

#[derive(QapiType, QapiEvent)]
#[qapi(event = "TEST_NOTHING")]
struct TestNothing {}

/// Emits events.
#[qapi::command("test-emit")]
fn test_emit(count: u32, what: String) -> qom::Result<()> {
    for _ in 0..count {
        qapi::emit(&TestHappened { what: what.clone() });
    }
    qapi::emit(&TestNothing {});
    Ok(())
}

#[qapi::command("test-echo")]
fn test_echo(value: Value) -> qom::Result<Value> {
    Ok(value)
}

fn error(class: &str, desc: &str) -> (String, String) {
    (class.to_owned(), desc.to_owned())
}

#[test]
fn a_session_begins_with_greeting_and_negotiation() {
    let server = Server::new();
    let path = server.add("a", false);
    server.serve(move || {
        let mut client = Client::connect(&path);
        let version = json!({ "qemu": { "major": 7, "minor": 2, "micro": 0 }, "package": "" });
        assert_eq!(client.receive(), json!({ "QMP": { "version": version, "capabilities": ["oob"] } }));
        let expecting =
            error("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'");
        assert_eq!(client.refused(r#"{"execute": "query-version"}"#), expecting);
        assert_eq!(client.refused(r#"{"execute": "nosuch"}"#), expecting);
        assert_eq!(
            client.refused(r#"{"exec-oob": "qmp_capabilities"}"#),
            error("GenericError", "QMP input member 'exec-oob' is unexpected")
        );
        assert_eq!(
            client.refused(r#"{"execute": "qmp_capabilities", "arguments": {"enable": ["x"]}}"#),
            error("GenericError", "Parameter 'null' does not accept value 'x'")
        );
        assert_eq!(
            client.call(json!({ "execute": "qmp_capabilities", "id": 1 })),
            json!({ "return": {}, "id": 1 })
        );
        assert_eq!(
            client.refused(r#"{"execute": "qmp_capabilities"}"#),
            error("CommandNotFound", "Capabilities negotiation is already complete, command ignored")
        );
        assert_eq!(client.call(json!({ "execute": "query-version" })), json!({ "return": version }));
    });
}

#[test]
fn requests_are_checked_in_qemus_words() {
    let server = Server::new();
    let path = server.add("a", false);
    server.serve(move || {
        let mut client = Client::negotiated(&path, true);
        let generic = |desc: &str| error("GenericError", desc);
        let cases = [
            ("[]", generic("QMP input must be a JSON object")),
            ("\"quit\"", generic("QMP input must be a JSON object")),
            ("{}", generic("QMP input lacks member 'execute'")),
            ("{'execute': 1}", generic("QMP input member 'execute' must be a string")),
            ("{'execute': 'a', 'x': 1}", generic("QMP input member 'x' is unexpected")),
            ("{'execute': 'a', 'arguments': []}", generic("QMP input member 'arguments' must be an object")),
            (
                "{'execute': 'a', 'exec-oob': 'b'}",
                generic("QMP input member 'execute' clashes with 'exec-oob'"),
            ),
            ("{'execute': 'a'}", error("CommandNotFound", "The command a has not been found")),
            ("{'exec-oob': 'query-version'}", generic("The command query-version does not support OOB")),
            ("{'execute': 'query-version', 'arguments': {'a': 1}}", generic("Parameter 'a' is unexpected")),
            ("{'execute': 'test-echo'}", generic("Parameter 'value' is missing")),
            ("{'execute'; 'quit'}", generic("JSON parse error, stray ';'")),
        ];
        for (request, expected) in cases {
            assert_eq!(client.refused(request), expected, "{request}");
            // What is left of a message that broke off is an error of its own.
            if request.contains(';') {
                assert_eq!(client.answer()["error"]["desc"], "JSON parse error, expecting value");
            }
        }
        let id = json!([{ "a": null }, "é", 1.5]);
        let answer =
            client.call(json!({ "execute": "test-echo", "arguments": { "value": [true] }, "id": id }));
        assert_eq!(answer, json!({ "return": [true], "id": id }));
        let answer = client.call(json!({ "execute": "nosuch", "id": id }));
        assert_eq!((&answer["id"], &answer["error"]["class"]), (&id, &json!("CommandNotFound")));
    });
}

#[test]
fn requests_may_come_in_any_pieces() {
    let server = Server::new();
    let path = server.add("a", false);
    server.serve(move || {
        let mut client = Client::negotiated(&path, false);
        let many: String =
            (0..50).map(|n| json!({ "execute": "query-version", "id": n }).to_string()).collect();
        client.send(&many);
        for n in 0..50 {
            assert_eq!(client.answer()["id"], n);
        }
        for byte in b"{'execute': 'query-version', 'id': 'slow'}" {
            client.send([*byte]);
        }
        assert_eq!(client.answer()["id"], "slow");
    });
}

#[test]
fn pretty_output_is_indented_by_four() {
    let server = Server::new();
    let path = server.add("a", true);
    server.serve(move || {
        let mut client = Client::connect(&path);
        let lines: Vec<_> =
            std::iter::from_fn(|| Some(client.line())).take_while(|line| line != "}\r\n").collect();
        assert_eq!(lines[..3], ["{\r\n", "    \"QMP\": {\r\n", "        \"version\": {\r\n"]);
        client.send("{'execute': 'qmp_capabilities'}");
        assert_eq!(["{\r\n", "    \"return\": {\r\n", "    }\r\n", "}\r\n"], [(); 4].map(|()| client.line()));
    });
}

#[test]
fn commands_out_of_band_do_not_wait_for_the_main_loop() {
    let server = Server::new();
    let (path, other) = (server.add("a", false), server.add("b", false));
    server.serve(move || {
        let mut client = Client::negotiated(&path, true);
        let mut other = Client::negotiated(&other, false);
        client.send("{'execute': 'test-block', 'id': 'blocks'}");
        for n in 0..7 {
            client.send(format!("{{'execute': 'query-version', 'id': {n}}}"));
        }
        other.send("{'execute': 'query-version', 'id': 'other'}");
        // Its error comes at once, too.
        assert_eq!(
            client.call(json!({ "exec-oob": "query-version", "id": "x" }))["error"]["desc"],
            "The command query-version does not support OOB"
        );
        // It releases the main loop, which answers at the same time.
        client.send("{'exec-oob': 'test-release', 'id': 'oob'}");
        let answers: Vec<_> = (0..9).map(|_| client.answer()["id"].clone()).collect();
        assert!(answers.contains(&json!("oob")));
        let in_band: Vec<_> = answers.into_iter().filter(|id| id != "oob").collect();
        assert_eq!(json!(in_band), json!(["blocks", 0, 1, 2, 3, 4, 5, 6]));
        assert_eq!(other.answer()["id"], "other");
    });
}

#[test]
fn a_full_queue_holds_back_what_follows() {
    let server = Server::new();
    let path = server.add("a", false);
    server.serve(move || {
        let mut client = Client::negotiated(&path, true);
        // One is carried out, eight wait, and then nothing more is read: not even what is out of band.
        client.send("{'execute': 'test-block', 'id': 'blocks'}");
        for n in 0..8 {
            client.send(format!("{{'execute': 'query-version', 'id': {n}}}"));
        }
        client.send("{'exec-oob': 'nosuch', 'id': 'late'}");
        client.stream.set_nonblocking(true).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        let mut byte = [0];
        assert_eq!((&client.stream).read(&mut byte).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        client.stream.set_nonblocking(false).unwrap();
        test_release().unwrap();
        let ids: Vec<_> = (0..10).map(|_| client.answer()["id"].clone()).collect();
        assert_eq!(ids[0], "blocks");
        assert!(ids.contains(&json!("late")) && ids.contains(&json!(7)), "{ids:?}");
    });
}

#[test]
fn each_client_has_a_session_of_its_own() {
    let server = Server::new();
    let path = server.add("a", false);
    server.serve(move || {
        for oob in [false, true, false, true] {
            let mut client = Client::negotiated(&path, oob);
            client.send("{'execute': 'query-version', 'id': 1} {'half");
            assert_eq!(client.answer()["id"], 1);
        }
        // What a client that left had asked for is not answered to the next.
        let mut client = Client::negotiated(&path, true);
        client.send("{'execute': 'test-block'} {'execute': 'query-version', 'id': 'old'}");
        drop(client);
        let mut client = Client::connect(&path);
        assert!(client.receive().get("QMP").is_some());
        client.send("{'execute': 'qmp_capabilities', 'id': 'new'}");
        test_release().unwrap();
        assert_eq!(client.answer(), json!({ "return": {}, "id": "new" }));
    });
}

#[test]
fn events_go_to_all_who_negotiated_and_come_before_the_answer() {
    let server = Server::new();
    let paths = [server.add("a", false), server.add("b", false), server.add("c", false)];
    server.serve(move || {
        let mut stranger = Client::connect(&paths[2]);
        let mut a = Client::negotiated(&paths[0], false);
        let mut b = Client::negotiated(&paths[1], true);
        let emit = json!({ "execute": "test-emit", "arguments": { "count": 1, "what": "x" } });
        assert_eq!(a.call(emit), json!({ "return": {} }));
        let [happened, nothing] = &a.events[..] else { panic!("{:?}", a.events) };
        assert_eq!(
            (&happened["event"], &happened["data"]),
            (&json!("TEST_HAPPENED"), &json!({ "what": "x" }))
        );
        assert_eq!((&nothing["event"], nothing.get("data")), (&json!("TEST_NOTHING"), None));
        let timestamp = &happened["timestamp"];
        assert!(timestamp["seconds"].as_u64().is_some_and(|s| s > 1_700_000_000), "{timestamp}");
        assert!(timestamp["microseconds"].as_u64().is_some_and(|us| us < 1_000_000), "{timestamp}");
        assert_eq!(b.receive()["event"], "TEST_HAPPENED");
        assert!(stranger.receive().get("QMP").is_some());
        stranger.send("{'execute': 'qmp_capabilities'}");
        assert_eq!(stranger.receive(), json!({ "return": {} }));
    });
}

#[test]
fn a_client_that_never_reads_stops_nobody_and_is_not_remembered_without_end() {
    let server = Server::new();
    let paths = [server.add("a", false), server.add("b", false)];
    server.serve(move || {
        let mut deaf = Client::negotiated(&paths[0], false);
        let mut other = Client::negotiated(&paths[1], false);
        // Answers: it is not listened to any more once they are in its way.
        deaf.stream.set_nonblocking(true).unwrap();
        let question =
            b"{'execute': 'test-echo', 'arguments': {'value': 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'}}";
        let mut sent = 0;
        let mut refused = 0;
        while refused < 20 {
            match (&deaf.stream).write(question) {
                Ok(n) => sent += n,
                Err(_) => {
                    refused += 1;
                    other.call(json!({ "execute": "query-version" }));
                }
            }
            assert!(sent < 64 << 20, "it is listened to for ever");
        }
        // Events.
        let what = "y".repeat(1000);
        for _ in 0..20 {
            other.events.clear();
            let emit = json!({ "execute": "test-emit", "arguments": { "count": 1000, "what": what } });
            assert_eq!(other.call(emit), json!({ "return": {} }));
            assert_eq!(other.events.len(), 1001);
        }
        // What it finds when it reads at last is bounded, and then all is as ever.
        deaf.stream.set_nonblocking(false).unwrap();
        drop(deaf.stream.try_clone().unwrap().set_nonblocking(false));
        let mut found = 0;
        deaf.events.clear();
        let emit = json!({ "execute": "test-emit", "arguments": { "count": 1, "what": "last" } });
        let reading = loop {
            let line = deaf.line();
            found += line.len();
            if line.contains("TEST_NOTHING") || found > 40 << 20 {
                break line;
            }
            if line.contains("\"return\"") && found > (1 << 20) {
                other.call(emit.clone());
            }
        };
        assert!(found < 8 << 20, "{found} bytes were kept");
        assert!(reading.contains("TEST_NOTHING"));
    });
}

#[test]
fn garbage_nesting_and_half_messages_stop_nobody() {
    let server = Server::new();
    let paths = [server.add("a", false), server.add("b", false)];
    server.serve(move || {
        let mut wild = Client::connect(&paths[0]);
        let mut other = Client::negotiated(&paths[1], false);
        let reader = wild.stream.try_clone().unwrap();
        let drain = std::thread::spawn(move || {
            let mut total = 0;
            let mut buffer = [0; 1 << 16];
            while let Ok(n @ 1..) = (&reader).read(&mut buffer) {
                total += n;
            }
            total
        });
        for piece in [&b"["[..], b"{\"", b"\xff\x00\x01", b"{\"a\":", b"\\\"'", b"[{},"] {
            wild.send(piece.repeat((1 << 20) / piece.len()));
            other.call(json!({ "execute": "query-version" }));
        }
        wild.stream.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(drain.join().unwrap() > 0);
        drop(wild);
        Client::negotiated(&paths[0], true);
    });
}

#[test]
fn descriptors_are_passed_named_and_put_in_sets() {
    let server = Server::new();
    let path = server.add("a", false);
    server.serve(move || {
        let mut client = Client::negotiated(&path, false);
        let not_supplied = error("GenericError", "No file descriptor supplied via SCM_RIGHTS");
        assert_eq!(client.refused("{'execute': 'add-fd'}"), not_supplied);
        assert_eq!(client.refused("{'execute': 'getfd', 'arguments': {'fdname': 'a'}}"), not_supplied);
        let mut file = tempfile::tempfile().unwrap();
        client.send_fd("{'execute': 'getfd', 'arguments': {'fdname': '1a'}}", &file);
        let digit = "Parameter 'fdname' expects a name not starting with a digit";
        assert_eq!(client.answer()["error"]["desc"], digit);
        client.send_fd("{'execute': 'getfd', 'arguments': {'fdname': 'a'}}", &file);
        assert_eq!(client.answer(), json!({ "return": {} }));
        assert_eq!(
            client.call(json!({ "execute": "closefd", "arguments": { "fdname": "a" } })),
            json!({ "return": {} })
        );
        assert_eq!(
            client.refused("{'execute': 'closefd', 'arguments': {'fdname': 'a'}}"),
            error("GenericError", "File descriptor named 'a' not found")
        );
        client.send_fd("{'execute': 'add-fd', 'arguments': {'fdset-id': 3, 'opaque': 'mine'}}", &file);
        let added = client.answer()["return"].clone();
        assert_eq!(added["fdset-id"], 3);
        assert_eq!(
            client.call(json!({ "execute": "query-fdsets" }))["return"],
            json!([{ "fdset-id": 3, "fds": [{ "fd": added["fd"], "opaque": "mine" }] }])
        );
        client.send_fd("{'execute': 'add-fd', 'arguments': {'fdset-id': 9}}", &file);
        let second = client.answer()["return"].clone();
        assert_eq!(
            client.call(json!({ "execute": "query-fdsets" }))["return"],
            json!([{ "fdset-id": 9, "fds": [{ "fd": second["fd"] }] },
                { "fdset-id": 3, "fds": [{ "fd": added["fd"], "opaque": "mine" }] }])
        );
        // The set's path opens the file for a chardev.
        let options = [("backend", "file"), ("path", "/dev/fdset/3")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        // It was opened to be read as well; a file chardev only writes.
        assert!(chardev::new_from_opts("no", &options).is_err());
        let out = file.try_clone().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&out));
        let writer = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        client.send_fd("{'execute': 'add-fd', 'arguments': {'fdset-id': 3}}", &writer);
        assert!(client.answer().get("return").is_some());
        let chardev = chardev::new_from_opts("yes", &options).unwrap();
        let frontend = chardev::CharFrontend::default();
        frontend.attach(&chardev).unwrap();
        frontend.write_all(b"through the set");
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the set");
        assert_eq!(
            client.refused("{'execute': 'remove-fd', 'arguments': {'fdset-id': 4}}"),
            error("GenericError", "File descriptor named 'fdset-id:4' not found")
        );
        assert_eq!(
            client.refused("{'execute': 'remove-fd', 'arguments': {'fdset-id': 3, 'fd': 9999}}"),
            error("GenericError", "File descriptor named 'fdset-id:3, fd:9999' not found")
        );
    });
}

#[test]
fn the_schema_describes_its_own_types() {
    let server = Server::new();
    let path = server.add("a", false);
    server.serve(move || {
        let mut client = Client::negotiated(&path, false);
        let schema = client.call(json!({ "execute": "query-qmp-schema" }))["return"].clone();
        let find =
            |name: &Value| schema.as_array().unwrap().iter().find(|e| e["name"] == *name).unwrap().clone();
        let command = find(&json!("query-qmp-schema"));
        let list = find(&command["ret-type"]);
        let info = find(&list["element-type"]);
        assert_eq!((&info["meta-type"], &info["tag"]), (&json!("object"), &json!("meta-type")));
        let commands = client.call(json!({ "execute": "query-commands" }))["return"].clone();
        for command in commands.as_array().unwrap() {
            assert_eq!(find(&command["name"])["meta-type"], "command");
        }
    });
}
