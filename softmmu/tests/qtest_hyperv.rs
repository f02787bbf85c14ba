//! `hyperv-testdev` over qtest: without a KVM there is no SynIC, and nothing that its commands lead to.

use libqtest::QTest;
use serde_json::json;

const PORT: u16 = 0x3000;

#[test]
fn commands_without_a_synic_do_nothing() {
    let device = ["-nodefaults", "-device", "hyperv-testdev,id=hv"];
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu")).args(device).with_qmp().start();
    assert_eq!(vm.inl(PORT), 0);
    // Each command for a source that there is, one that there is not, and a processor that there is not.
    for kind in 0..=8u32 {
        for (vp, sint) in [(0, 2), (0, 16), (0xff, 0)] {
            vm.outl(PORT, 0x21 << 24 | kind << 16 | vp << 8 | sint);
        }
    }
    let arguments = json!({"path": "/machine/peripheral/hv", "property": "state"});
    let state = vm.qmp(&json!({"execute": "qom-get", "arguments": arguments}).to_string());
    let nothing = json!({"routes": [], "messages": {}, "events": {}});
    assert_eq!(state["hyperv-testdev"]["state"], nothing, "{state}");
    assert_eq!(vm.inl(PORT), 0);
}
