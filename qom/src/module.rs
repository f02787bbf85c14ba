//! Registration phases: before `main` runs, every linked-in file appends its registration function to the
//! list of its phase; `module_call_init` calls the list of one phase.
//!
//! Source: QEMU `include/qemu/module.h`, `util/module.c`. What a compiler's constructor attribute does for
//! QEMU, the crate `inventory` does here. A crate that nothing refers to is not linked: the program says
//! `use that_crate as _;`. The order inside a phase is the linker's, so nothing may depend on it.

use std::sync::{Once, OnceLock};

/// The phases, in QEMU's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleInitType {
    /// Migration formats.
    Migration,
    /// Block drivers.
    Block,
    /// Option groups.
    Opts,
    /// Object types.
    Qom,
    /// Trace backends.
    Trace,
}

/// Number of [`ModuleInitType`]s.
const PHASES: usize = 5;

/// One registration function and the phase it belongs to; made by [`module_init!`](crate::module_init).
pub struct ModuleInit {
    phase: ModuleInitType,
    init: fn(),
}

inventory::collect!(ModuleInit);

/// QEMU's `register_module_init`: the entry that the constructor of a file adds to the list of `phase`.
pub const fn register_module_init(init: fn(), phase: ModuleInitType) -> ModuleInit {
    ModuleInit { phase, init }
}

/// One list a phase.
type Lists = [Vec<fn()>; PHASES];

/// The lists, one a phase, sorted out of what the constructors collected on first use.
fn init_lists() -> &'static Lists {
    static LISTS: OnceLock<Lists> = OnceLock::new();
    LISTS.get_or_init(|| {
        let mut lists = Lists::default();
        for entry in inventory::iter::<ModuleInit> {
            lists[entry.phase as usize].push(entry.init);
        }
        lists
    })
}

/// The registration functions of one phase.
pub fn find_type(phase: ModuleInitType) -> &'static [fn()] {
    &init_lists()[phase as usize]
}

/// Calls every registration function of `phase`, once in the life of the program; gives their number.
pub fn module_call_init(phase: ModuleInitType) -> usize {
    static CALLED: [Once; PHASES] = [const { Once::new() }; PHASES];
    let list = find_type(phase);
    CALLED[phase as usize].call_once(|| list.iter().for_each(|init| init()));
    list.len()
}

/// `module_init!(function, Phase)`: has `module_call_init(Phase)` call `function`.
#[macro_export]
macro_rules! module_init {
    ($init:expr, $phase:ident) => {
        $crate::inventory::submit! {
            $crate::module::register_module_init($init, $crate::ModuleInitType::$phase)
        }
    };
}

/// `type_init!(T, …)` registers types that derive [`Object`](derive@crate::Object) in the QOM phase;
/// `type_init!(fn name)` names a function that registers several.
#[macro_export]
macro_rules! type_init {
    (fn $init:path) => { $crate::module_init!($init, Qom); };
    ($($t:ty),+ $(,)?) => {
        $($crate::module_init!(|| $crate::type_register(<$t as $crate::ObjectType>::type_info()), Qom);)+
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static BLOCK: AtomicUsize = AtomicUsize::new(0);
    fn count() {
        BLOCK.fetch_add(1, Ordering::SeqCst);
    }
    crate::module_init!(count, Block);

    #[test]
    fn a_phase_is_called_once_and_only_when_asked() {
        assert_eq!(find_type(ModuleInitType::Block).len(), 1);
        assert_eq!(BLOCK.load(Ordering::SeqCst), 0);
        module_call_init(ModuleInitType::Block);
        module_call_init(ModuleInitType::Block);
        assert_eq!(BLOCK.load(Ordering::SeqCst), 1);
        assert!(find_type(ModuleInitType::Migration).is_empty());
    }
}
