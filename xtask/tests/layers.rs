//! The layers of `ARCHITECTURE.md`: a crate depends only on crates in rows above its own or, in its own row, on
//! those to its left. So there are no cycles, and a lower layer can be used without the upper ones.

use std::process::Command;

use serde_json::Value;

/// The layers from the lowest, each from left to right. A new crate gets its place here.
const LAYERS: [&[&str]; 8] = [
    // The object model, and what QEMU has below it.
    &["util", "qom-derive", "qom", "qapi-derive", "qapi"],
    // Host services.
    &["memory", "crypto", "backends", "chardev", "block", "net"],
    // The device framework.
    &["hw-core"],
    // Accelerators.
    &["accel-kvm", "accel-qtest"],
    // Buses and devices.
    &[
        "hw-pci",
        "hw-pci-bridge",
        "hw-pci-host",
        "hw-virtio",
        "hw-block",
        "hw-scsi",
        "hw-isa",
        "hw-ide",
        "hw-dma",
        "hw-intc",
        "hw-timer",
        "hw-rtc",
        "hw-char",
        "hw-nvram",
        "hw-input",
        "hw-i2c",
        "hw-acpi",
        "hw-smbios",
        "hw-misc",
        "hw-watchdog",
        "hw-hyperv",
        "hw-mem",
        "hw-net",
        "hw-9pfs",
    ],
    // The CPU and the board.
    &["target-i386", "hw-i386"],
    // Control.
    &["monitor", "gdbserver"],
    // Programs.
    &["libqtest", "softmmu", "fuzz", "xtask"],
];

/// A crate and those of this workspace that it depends on; dev-dependencies do not count.
struct Crate {
    name: String,
    dependencies: Vec<String>,
}

/// Layer and place in it.
fn place(name: &str) -> Option<(usize, usize)> {
    LAYERS.iter().enumerate().find_map(|(layer, row)| Some((layer, row.iter().position(|c| *c == name)?)))
}

/// What is wrong with the crates of a workspace, a line for each.
fn violations(crates: &[Crate]) -> Vec<String> {
    let mut found = Vec::new();
    for Crate { name, dependencies } in crates {
        let Some(here) = place(name) else {
            found.push(format!("{name} has no place among the layers"));
            continue;
        };
        // Places compare by layer first, so all that is below or to the left is less.
        let wrong = |dependency: &&String| place(dependency).is_some_and(|there| there >= here);
        found.extend(dependencies.iter().filter(wrong).map(|d| format!("{name} must not depend on {d}")));
    }
    for name in LAYERS.iter().copied().flatten() {
        if !crates.iter().any(|c| c.name == *name) {
            found.push(format!("{name} has a place among the layers and is no crate"));
        }
    }
    found
}

fn text(value: &Value) -> String {
    value.as_str().expect("cargo metadata names its packages").to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("cargo metadata lists packages and dependencies")
}

/// The crates of this workspace.
fn workspace() -> Vec<Crate> {
    let output = Command::new(std::env::var_os("CARGO").expect("cargo runs the tests"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON");
    crates_of(&metadata)
}

/// The crates that `cargo metadata` lists.
fn crates_of(metadata: &Value) -> Vec<Crate> {
    let package = |package: &Value| Crate {
        name: text(&package["name"]),
        dependencies: list(&package["dependencies"])
            .iter()
            .filter(|d| !d["path"].is_null() && d["kind"] != "dev")
            .map(|d| text(&d["name"]))
            .collect(),
    };
    list(&metadata["packages"]).iter().map(package).collect()
}

#[test]
fn the_workspace_keeps_to_its_layers() {
    assert_eq!(violations(&workspace()), Vec::<String>::new());
}

#[test]
fn what_counts_is_this_workspaces_and_not_for_tests() {
    let metadata = serde_json::json!({"packages": [{"name": "memory", "dependencies": [
        {"name": "util", "path": "/util", "kind": null},
        {"name": "qom", "path": "/qom", "kind": "build"},
        {"name": "hw-core", "path": "/hw-core", "kind": "dev"},
        {"name": "libc", "path": null, "kind": null},
    ]}]});
    assert_eq!(crates_of(&metadata)[0].dependencies, ["util", "qom"]);
    let hw_core = workspace().into_iter().find(|c| c.name == "hw-core").expect("hw-core is a crate");
    assert!(hw_core.dependencies.iter().any(|d| d == "memory"), "{:?}", hw_core.dependencies);
}

#[test]
fn what_points_up_right_or_nowhere_is_found() {
    let mut crates = workspace();
    let mut add = |name: &str, dependency: &str| {
        let at = crates.iter_mut().find(|c| c.name == name).expect("a crate of this workspace");
        at.dependencies.push(dependency.to_owned());
    };
    add("memory", "hw-core");
    add("hw-isa", "hw-intc");
    add("qom", "qom");
    crates.push(Crate { name: "hw-new".to_owned(), dependencies: vec!["softmmu".to_owned()] });
    crates.retain(|c| c.name != "monitor");
    let mut expected = [
        "qom must not depend on qom",
        "memory must not depend on hw-core",
        "hw-isa must not depend on hw-intc",
        "hw-new has no place among the layers",
        "monitor has a place among the layers and is no crate",
    ];
    let mut found = violations(&crates);
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}
