//! `info irq` and `info pic`: what interrupt controllers say of themselves.

use std::sync::Arc;

use hw_core::intc::InterruptStatsProvider;
use qom::{Object, object_get_root};

use super::args::Args;
use super::session::{Session, out};

/// Calls `visit` for every interrupt controller in the tree.
fn for_each(object: &Arc<dyn Object>, visit: &mut dyn FnMut(&Arc<dyn Object>, &dyn InterruptStatsProvider)) {
    if let Some(provider) = object.interface::<dyn InterruptStatsProvider>() {
        visit(object, &*provider);
    }
    let mut children = object.children();
    if object.is_a("container") {
        // What the board made: the latest first, so that the second PIC is told before the first, as by QEMU.
        children.reverse();
    }
    children.iter().for_each(|(_, child)| for_each(child, visit));
}

pub(crate) fn info_irq(mon: &mut Session, _: &Args) -> Result<(), String> {
    for_each(&object_get_root(), &mut |object, provider| {
        let name = object.type_name();
        match provider.statistics() {
            // The second of two that count together.
            Some(counts) if counts.is_empty() => {}
            Some(counts) => {
                out!(mon, "IRQ statistics for {name}:\n");
                for (line, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                    out!(mon, "{line:2}: {count}\n");
                }
            }
            None => out!(mon, "IRQ statistics not available for {name}.\n"),
        }
    });
    Ok(())
}

pub(crate) fn info_pic(mon: &mut Session, _: &Args) -> Result<(), String> {
    for_each(&object_get_root(), &mut |object, provider| match provider.info() {
        Some(text) => mon.print(&text),
        None => out!(mon, "Interrupt controller information not available for {}.\n", object.type_name()),
    });
    Ok(())
}
