//! Trace events, spans and the log, as `-trace`, `-d` and `-D` drive them. One test: the log is the process's.
// As the crates that trace do.
#![forbid(unsafe_code)]

use std::fs::read_to_string;

use util::log::{self, Mask};
use util::{trace, trace_event};

fn work(value: u32) {
    trace_event!(test_work, "value {value:#x}");
}

fn warn(warning: &str) {
    panic!("{warning}");
}

#[test]
fn trace_and_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log").to_str().unwrap().to_owned();

    work(1);
    assert!(trace::help().lines().any(|line| line == "test_work"));
    assert!(trace::list().contains(&("test_work", false)));
    trace::apply(&[("file", &path), ("enable", "test_*")], warn).unwrap();
    assert!(trace::list().contains(&("test_work", true)));
    work(0x12);
    trace::enable("-test_work");
    work(3);
    assert_eq!(read_to_string(&path).unwrap(), "test_work value 0x12\n");

    let patterns = dir.path().join("patterns");
    std::fs::write(&patterns, "# comment\n\ntest_work\n").unwrap();
    trace::apply(&[("events", patterns.to_str().unwrap())], warn).unwrap();
    work(4);
    assert_eq!(read_to_string(&path).unwrap(), "test_work value 0x12\ntest_work value 0x4\n");
    assert_eq!(trace::apply(&[("enable", "help")], warn).unwrap().unwrap(), trace::help());
    assert_eq!(trace::apply(&[("bogus", "1")], warn).unwrap_err().to_string(), "Invalid parameter 'bogus'");
    let error = trace::apply(&[("events", "/nonexistent")], warn).unwrap_err();
    assert_eq!(error.to_string(), "/nonexistent: No such file or directory");

    let warnings = std::cell::RefCell::new(Vec::new());
    let note = |warning: &str| warnings.borrow_mut().push(warning.to_owned());
    trace::apply(&[("enable", "nosuch"), ("enable", "nosuch*")], note).unwrap();
    assert_eq!(*warnings.borrow(), ["trace event 'nosuch' does not exist"]);

    spans_nest(&path);
    masks(&path);
    a_file_for_each_thread(dir.path());
}

fn spans_nest(path: &str) {
    drop(trace::span("before"));
    log::set_filename(Some(path)).unwrap();
    trace::enable("startup");
    {
        let _outer = trace::span("kvm_init");
        drop(trace::span_with("kvm_create_vm", || "type 0".into()));
        let _inner = trace::span("kvm_arch_init");
        std::thread::Builder::new()
            .name("CPU 0/KVM".into())
            .spawn(|| drop(trace::span("kvm_init_vcpu")))
            .unwrap()
            .join()
            .unwrap();
    }
    trace::enable("-startup");
    let text = read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap(), "     at µs   took µs  step");
    // The test harness names its threads.
    let name = std::thread::current().name().unwrap().to_owned();
    let steps: Vec<_> = lines.map(|line| line[22..].replace(&format!("[{name}] "), "")).collect();
    assert_eq!(
        steps,
        [
            "kvm_init {",
            "  kvm_create_vm (type 0)",
            "[CPU 0/KVM] kvm_init_vcpu",
            "  kvm_arch_init",
            "} kvm_init"
        ]
    );
}

fn masks(path: &str) {
    let mask = log::parse_mask("guest_errors,unimp").unwrap();
    assert_eq!(mask, Mask::GUEST_ERROR | Mask::UNIMP);
    assert!(log::parse_mask("all").unwrap().contains(Mask::INT | Mask::PER_THREAD));
    let error = log::parse_mask("unimp,bogus").unwrap_err();
    assert_eq!(error.to_string(), "unknown log item 'bogus' (see '-d help')");
    assert!(log::help().contains("unimp           log unimplemented functionality\n"));

    log::set(mask, Some(path)).unwrap();
    log::log_mask(Mask::UNIMP, || "port 0x99".into());
    log::log_mask(Mask::INT, || unreachable!("not logged, so not made"));
    assert_eq!(read_to_string(path).unwrap(), "port 0x99\n");

    assert_eq!(log::set(mask, Some("a%s")).unwrap_err().to_string(), "Bad logfile template: a%s");
    let error = log::set(mask, Some("/nonexistent/log")).unwrap_err();
    assert_eq!(error.to_string(), "Error opening logfile /nonexistent/log: No such file or directory");
}

fn a_file_for_each_thread(dir: &std::path::Path) {
    let error = log::set(Mask::UNIMP | Mask::PER_THREAD, Some("log")).unwrap_err();
    assert_eq!(error.to_string(), "Filename template with '%d' required for 'tid'");
    let template = dir.join("thread-%d");
    log::set(Mask::UNIMP | Mask::PER_THREAD, template.to_str()).unwrap();
    log::log_mask(Mask::UNIMP, || "here".into());
    std::thread::spawn(|| log::log_mask(Mask::UNIMP, || "there".into())).join().unwrap();
    let mut texts: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("thread-"))
        .map(|path| read_to_string(path).unwrap())
        .collect();
    texts.sort();
    assert_eq!(texts, ["here\n", "there\n"]);
    log::set(Mask::empty(), None).unwrap();
}
