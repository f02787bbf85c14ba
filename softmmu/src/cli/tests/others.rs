//! Options with little to them.

use super::*;

#[test]
fn names_add_up() {
    let name = read(&["-name", "a,debug-threads=on", "-name", "process=b"], CommandLine::name).unwrap();
    let expected =
        NameOptions { guest: Some("a".to_owned()), process: Some("b".to_owned()), debug_threads: true };
    assert_eq!(name, expected);
    let error = read(&["-name", "guest=a,debug-threads=x"], CommandLine::name).unwrap_err();
    assert_eq!(error, "-name guest=a,debug-threads=x: Parameter 'debug-threads' expects 'on' or 'off'");
}

#[test]
fn uuids() {
    let uuid = read(&["-uuid", "12345678-1234-abCD-1234-123456789abc"], |line| line.uuid()).unwrap();
    let expected =
        [0x12, 0x34, 0x56, 0x78, 0x12, 0x34, 0xab, 0xcd, 0x12, 0x34, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc];
    assert_eq!(uuid, Some(expected));
    for bad in [
        "",
        "foo",
        "12345678123412341234123456789abc",
        "1234567-81234-1234-1234-123456789abc",
        "12345678-1234-1234-1234-123456789abcd",
        "g2345678-1234-1234-1234-123456789abc",
    ] {
        let error = read(&["-uuid", bad], |line| line.uuid()).unwrap_err();
        assert_eq!(error, format!("-uuid {bad}: failed to parse UUID string: wrong format"));
    }
}

#[test]
fn globals_in_both_forms() {
    let globals =
        read(&["-global", "a.b.c=d,e", "-global", "driver=x,property=y,value=z"], CommandLine::globals);
    let globals: Vec<_> = globals.unwrap().into_iter().map(|g| (g.driver, g.property, g.value)).collect();
    let text = |parts: [&str; 3]| (parts[0].to_owned(), parts[1].to_owned(), parts[2].to_owned());
    assert_eq!(globals, [text(["a", "b.c", "d,e"]), text(["x", "y", "z"])]);
    let error = |text: &str| read(&["-global", text], CommandLine::globals).unwrap_err();
    assert_eq!(error("foo.bar"), "-global foo.bar: Invalid parameter 'foo.bar'");
    assert_eq!(error("a.=1"), "-global a.=1: Invalid parameter 'a.'");
    assert_eq!(
        error("driver=a,property=b"),
        "-global driver=a,property=b: options 'driver', 'property', and 'value' are required"
    );
}

#[test]
fn boot_orders() {
    let boot = read(&["-boot", "cda,menu=on", "-boot", "once=n,splash-time=5,reboot-timeout=-1"], |line| {
        line.boot()
    });
    let boot = boot.unwrap();
    assert_eq!(
        (boot.order.as_deref(), boot.once.as_deref(), boot.menu),
        (Some("cda"), Some("n"), Some(true))
    );
    assert_eq!((boot.splash_time, boot.reboot_timeout, boot.strict), (Some(5), Some(-1), false));
    let error = |text: &str| read(&["-boot", text], |line| line.boot()).unwrap_err();
    assert_eq!(error("zz"), "Invalid boot device 'z'");
    assert_eq!(error("order=cc"), "Boot device 'c' was given twice");
    assert_eq!(error("menu=x"), "Parameter 'boot.menu' expects 'on' or 'off'");
    assert_eq!(error("menu=on,foo=1"), "Parameter 'boot.foo' is unexpected");
    assert_eq!(error("splash-time=-1"), "splash-time is invalid,it should be a value between 0 and 65535");
    assert_eq!(
        error("reboot-timeout=70000"),
        "reboot timeout is invalid,it should be a value between -1 and 65535"
    );
    assert_eq!(error("a,b"), "-boot a,b: Expected '=' after parameter 'b'");
}

#[test]
fn overcommit_takes_flags() {
    let overcommit = read(&["-overcommit", "mem-lock=on"], CommandLine::overcommit).unwrap();
    assert_eq!(overcommit, OvercommitOptions { mem_lock: true, cpu_pm: false });
    let mut line = parse(&["-overcommit", "nomem-lock"]);
    assert!(!line.overcommit().unwrap().mem_lock);
    let warning = "-overcommit nomem-lock: warning: short-form boolean option 'nomem-lock' deprecated\n\
                   Please use mem-lock=off instead";
    assert_eq!(line.warnings, [warning]);
}

#[test]
fn actions_in_order() {
    let action = |args: &[&str]| read(args, CommandLine::action);
    assert_eq!(action(&[]).unwrap(), Action::default());
    let both =
        action(&["-no-reboot", "-no-shutdown", "-action", "panic=exit-failure,watchdog=none"]).unwrap();
    assert_eq!((both.reboot, both.shutdown), (RebootAction::Shutdown, ShutdownAction::Pause));
    assert_eq!((both.panic, both.watchdog), (PanicAction::ExitFailure, WatchdogAction::None));
    let later = action(&["-no-reboot", "-action", "reboot=reset"]).unwrap();
    assert_eq!(later.reboot, RebootAction::Reset);
    let error = |text: &str| action(&["-action", text]).unwrap_err();
    assert_eq!(error("panic=foo"), "-action panic=foo: Parameter 'panic' does not accept value 'foo'");
    assert_eq!(error("foo=bar"), "-action foo=bar: Invalid parameter 'foo'");
    assert_eq!(error("shutdown"), "-action shutdown: Parameter 'shutdown' does not accept value 'on'");
}

#[test]
fn devices_as_words_and_as_json() {
    let mut line = parse(&[
        "-device",
        "e1000,id=n,mac=a,,b",
        "-device",
        r#"{"driver":"x","id":"y","n":3}"#,
        "-device",
        "z,help",
    ]);
    let devices = line.devices().unwrap();
    assert_eq!((devices[0].driver.as_str(), devices[0].id.as_deref()), ("e1000", Some("n")));
    assert_eq!(devices[0].properties, [("mac".to_owned(), json!("a,b"))]);
    assert_eq!((devices[1].driver.as_str(), devices[1].id.as_deref()), ("x", Some("y")));
    assert_eq!(devices[1].properties, [("n".to_owned(), json!(3))]);
    assert!(devices[2].help && devices[2].properties.is_empty());
    let error = |args: &[&str]| read(args, CommandLine::devices).unwrap_err();
    assert_eq!(error(&["-device", "id=a"]), "-device id=a: Parameter 'driver' is missing");
    assert_eq!(
        error(&["-device", "a,id=x", "-device", "b,id=x"]),
        "-device b,id=x: Duplicate ID 'x' for device"
    );
    assert!(
        error(&["-device", "foo,id=1"])
            .starts_with("-device foo,id=1: Parameter 'id' expects an identifier\n")
    );
    assert!(error(&["-device", "{"]).starts_with("-device {: JSON parse error, "));
}

#[test]
fn objects_need_type_and_id() {
    let line =
        parse(&["-object", "memory-backend-ram,id=m,size=1G", "-object", r#"{"qom-type":"a","id":"b"}"#]);
    let objects = line.objects().unwrap();
    assert_eq!((objects[0].qom_type.as_str(), objects[0].id.as_str()), ("memory-backend-ram", "m"));
    assert_eq!(objects[0].properties["size"], json!("1G"));
    assert_eq!(objects[1].id, "b");
    assert_eq!(parse(&["-object", "help"]).objects().unwrap()[0].qom_type, "help");
    assert!(parse(&["-object", "a,help"]).objects().unwrap()[0].help);
    let error = |text: &str| read(&["-object", text], |line| line.objects()).unwrap_err();
    assert_eq!(error("a"), "-object a: Parameter 'id' is missing");
    assert_eq!(error(""), "-object : Parameter 'qom-type' is missing");
}

#[test]
fn chardevs_keep_their_words() {
    let mut line = parse(&["-chardev", "socket,id=a,path=/x,server=on"]);
    let chardevs = line.chardevs().unwrap();
    assert_eq!(chardevs[0].id.as_deref(), Some("a"));
    let expected = [("backend", "socket"), ("path", "/x"), ("server", "on")];
    assert_eq!(chardevs[0].values, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let error = read(&["-chardev", "null,id=a", "-chardev", "null,id=a"], CommandLine::chardevs).unwrap_err();
    assert_eq!(error, "-chardev null,id=a: Duplicate ID 'a' for chardev");
}
