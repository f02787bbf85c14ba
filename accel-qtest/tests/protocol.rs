//! What a client may write in a line, and what nobody should.

use accel_qtest::protocol::{Encoding, Request, RequestError};
use proptest::prelude::*;

fn parse(line: &str) -> Result<Request, RequestError> {
    Request::parse(line, true)
}

#[test]
fn numbers_have_any_base_and_devices_any_path() {
    assert_eq!(parse("inw 0x1f"), Ok(Request::In { port: 0x1f, size: 2 }));
    assert_eq!(parse("inw 31"), Ok(Request::In { port: 31, size: 2 }));
    assert_eq!(parse("writeq 017 -1"), Ok(Request::Write { address: 15, size: 8, value: u64::MAX }));
    let path = "/machine/unattached/device[3]".to_owned();
    assert_eq!(
        parse("set_irq_in /machine/unattached/device[3] unnamed-gpio-in 2 -1"),
        Ok(Request::SetIrqIn { path: path.clone(), name: String::new(), number: 2, level: true })
    );
    assert_eq!(
        parse("irq_intercept_out /machine/unattached/device[3] sysbus-irq"),
        Ok(Request::InterceptOut { path, name: "sysbus-irq".to_owned() })
    );
}

#[test]
fn data_is_cut_to_its_length_and_never_grown() {
    let data = vec![0xab, 0xcd];
    let len = u64::MAX;
    assert_eq!(parse(&format!("write 1 {len} 0xabcde")), Ok(Request::WriteBlock { address: 1, len, data }));
    let write = Request::WriteBlock { address: 1, len: 1, data: vec![0xab] };
    assert_eq!(parse("write 1 1 0xabcd"), Ok(write));
    let write = Request::WriteBlock { address: 1, len: 2, data: vec![1, 2] };
    assert_eq!(parse("b64write 1 2 AQID"), Ok(write.clone()));
    assert_eq!(parse("b64write 1 9 AQI"), Ok(write));
    let read = Request::ReadBlock { address: 1, len, encoding: Encoding::Base64 };
    assert_eq!(parse(&format!("b64read 1 {len}")), Ok(read));
}

#[test]
fn clock_commands_are_the_clocks_owners() {
    assert_eq!(parse("clock_step"), Ok(Request::ClockStep(None)));
    assert_eq!(parse("clock_step -1"), Ok(Request::ClockStep(Some(-1))));
    let unknown = Err(RequestError::Unknown("clock_step".to_owned()));
    assert_eq!(Request::parse("clock_step", false), unknown);
}

#[test]
fn near_misses_are_unknown() {
    for word in ["inq", "in", "out", "outq", "readx", "writebb", "IN", "inb\r", " inb", "b64readb"] {
        let line = format!("{word} 1 1 1");
        let command = line.split(' ').next().unwrap_or_default().to_owned();
        assert_eq!(parse(&line), Err(RequestError::Unknown(command)), "{line:?}");
    }
}

proptest! {
    #[test]
    fn nothing_that_is_sent_is_the_servers_end(
        command in "[a-z0-9_]{0,5}|read|write|b64write|b64read|memset|set_irq_in|clock_(step|set)|(in|out)[bwl]",
        words in proptest::collection::vec("(0x)?[-+0-9a-fA-Fx/=é]{0,24}|\\PC{0,8}", 0..6),
    ) {
        let line = format!("{command} {}", words.join(" "));
        if let Ok(Request::WriteBlock { len, data, .. }) = parse(&line) {
            prop_assert!(data.len() as u64 <= len && data.len() <= line.len());
        }
    }
}
