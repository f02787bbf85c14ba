//! How often the inputs of a controller were raised, for `info irq`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Counts for as many inputs as any controller here has.
#[derive(Default)]
pub(crate) struct IrqStatistics {
    levels: AtomicU32,
    counts: [AtomicU64; 32],
}

impl IrqStatistics {
    /// Input `n` is at `level` now.
    pub(crate) fn note(&self, n: u8, level: bool) {
        let (Some(bit), Some(count)) = (1u32.checked_shl(n.into()), self.counts.get(usize::from(n))) else {
            return;
        };
        if !level {
            self.levels.fetch_and(!bit, Ordering::Relaxed);
        } else if self.levels.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts of the first `inputs` inputs.
    pub(crate) fn counts(&self, inputs: usize) -> impl Iterator<Item = u64> {
        self.counts.iter().take(inputs).map(|count| count.load(Ordering::Relaxed))
    }
}
