//! What interrupt controllers say of themselves to people (QEMU's `hw/intc/intc.c`).

use qom::Interface;

/// A controller that `info irq` and `info pic` ask.
pub trait InterruptStatsProvider: Send + Sync {
    /// How often each line was raised since the start; `None` when nobody counts. A controller in the kernel
    /// counts for itself: all are 0 here.
    fn statistics(&self) -> Option<Vec<u64>>;
    /// Its state, in lines.
    fn info(&self) -> Option<String>;
}

impl Interface for dyn InterruptStatsProvider {
    const TYPE_NAME: &'static str = "intctrl";
}
qom::type_init!(fn register);

fn register() {
    qom::type_register(qom::TypeInfo::interface::<dyn InterruptStatsProvider>());
}
