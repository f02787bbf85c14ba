//! The requests of the qtest protocol.

use accel_qtest::protocol::{Request, RequestError};

pub(crate) fn words() -> Vec<String> {
    const WORDS: &str = "outb outw outl inb inw inl writeb writew writel writeq readb readw readl readq read write memset \
                         b64read b64write clock_step clock_set irq_intercept_in irq_intercept_out set_irq_in \
                         unnamed-gpio-in endianness module_load 0x ffffffffffffffff";
    WORDS.split_whitespace().map(str::to_owned).collect()
}

/// A request a line.
pub(crate) fn run(data: &[u8]) {
    for line in String::from_utf8_lossy(data).split('\n') {
        let [with, without] = [true, false].map(|owns_clock| Request::parse(line, owns_clock));
        match &with {
            Ok(Request::ClockStep(_) | Request::ClockSet(_)) => {
                assert!(matches!(without, Err(RequestError::Unknown(_))), "{without:?}");
            }
            Ok(Request::WriteBlock { len, data, .. }) => assert!(data.len() as u64 <= *len),
            Ok(Request::Out { size, .. } | Request::In { size, .. }) => assert!([1, 2, 4].contains(size)),
            Ok(Request::Read { size, .. } | Request::Write { size, .. }) => {
                assert!([1, 2, 4, 8].contains(size))
            }
            Ok(_) => {}
            Err(error) => {
                let answer = error.to_string();
                assert!(answer.starts_with("FAIL ") || answer.starts_with("ERR "), "{answer}");
            }
        }
    }
}
