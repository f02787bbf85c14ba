//! MSI-X vectors whose messages the accelerator sends by itself when an eventfd is signalled.
//!
//! While a vector is masked its eventfds are not the accelerator's, and what is signalled stays in their counters, which
//! are the pending bits then; it is signalled again when the accelerator has them back.
//!
//! Source: QEMU `hw/virtio/virtio-pci.c` (`kvm_virtio_pci_vector_use` and what is around it).

use std::sync::Arc;

use hw_core::accel::{AccelIrqchip, MsiMessage};
use qom::Result;
use vmm_sys_util::eventfd::EventFd;

/// A vector that is used.
struct Route {
    vector: usize,
    gsi: u32,
    /// What the GSI stands for.
    message: MsiMessage,
    /// It could not be made to stand for what the vector is now.
    stale: bool,
    fds: Vec<Irqfd>,
}

/// An eventfd for a vector.
struct Irqfd {
    eventfd: Arc<EventFd>,
    /// The accelerator has it.
    attached: bool,
}

/// Those of a function.
pub(crate) struct Irqfds {
    irqchip: Arc<dyn AccelIrqchip>,
    /// In the order of their vectors.
    routes: Vec<Route>,
}

/// What a counter holds, which it goes on holding.
fn is_signalled(eventfd: &EventFd) -> bool {
    // Only a counter that is full refuses to be put back, which this one was not.
    eventfd.read().is_ok_and(|count| eventfd.write(count).is_ok())
}

impl Irqfds {
    /// Routes for vectors and their eventfds, none of which is the accelerator's before [`Irqfds::sync`].
    ///
    /// # Errors
    /// When there are no more routes.
    pub fn new(
        irqchip: &Arc<dyn AccelIrqchip>,
        wanted: &[(usize, Arc<EventFd>)],
        message: impl Fn(usize) -> MsiMessage,
    ) -> Result<Irqfds> {
        let mut vectors: Vec<usize> = wanted.iter().map(|(vector, _)| *vector).collect();
        vectors.sort_unstable();
        vectors.dedup();
        let messages: Vec<MsiMessage> = vectors.iter().map(|vector| message(*vector)).collect();
        let gsis = irqchip.add_msi_routes(&messages)?;
        let routes = vectors.into_iter().zip(gsis).zip(messages);
        let mut routes: Vec<Route> = routes
            .map(|((vector, gsi), message)| Route { vector, gsi, message, stale: false, fds: Vec::new() })
            .collect();
        for (vector, eventfd) in wanted {
            if let Ok(at) = routes.binary_search_by_key(vector, |route| route.vector) {
                routes[at].fds.push(Irqfd { eventfd: eventfd.clone(), attached: false });
            }
        }
        Ok(Irqfds { irqchip: irqchip.clone(), routes })
    }

    /// Follows the table: `message` gives a vector's message, none while it is masked.
    pub fn sync(&mut self, message: impl Fn(usize) -> Option<MsiMessage>) {
        sync_routes(&*self.irqchip, &mut self.routes, message);
    }

    /// Follows a change of one vector.
    pub fn sync_vector(&mut self, vector: usize, message: Option<MsiMessage>) {
        if let Ok(at) = self.routes.binary_search_by_key(&vector, |route| route.vector) {
            sync_routes(&*self.irqchip, &mut self.routes[at..=at], |_| message);
        }
    }

    /// Whether a masked vector's eventfd was signalled.
    pub fn is_pending(&self, vector: usize) -> bool {
        let found = self.routes.binary_search_by_key(&vector, |route| route.vector);
        let fds = found.ok().and_then(|at| self.routes.get(at)).map_or(&[][..], |route| &route.fds);
        fds.iter().any(|fd| !fd.attached && is_signalled(&fd.eventfd))
    }

    /// Gives all of them back; the vectors that were signalled meanwhile and not sent.
    pub fn release(mut self) -> Vec<usize> {
        self.sync(|_| None);
        let gsis: Vec<u32> = self.routes.iter().map(|route| route.gsi).collect();
        self.irqchip.release_routes(&gsis);
        let fds = self.routes.iter().flat_map(|route| route.fds.iter().map(|fd| (route.vector, fd)));
        fds.filter(|(_, fd)| fd.eventfd.read().is_ok()).map(|(vector, _)| vector).collect()
    }
}

fn sync_routes(
    irqchip: &dyn AccelIrqchip,
    routes: &mut [Route],
    message: impl Fn(usize) -> Option<MsiMessage>,
) {
    let mut changes = Vec::new();
    for route in routes.iter_mut() {
        if let Some(new) = message(route.vector)
            && (new != route.message || route.stale)
        {
            (route.message, route.stale) = (new, true);
            changes.push((route.gsi, new));
        }
    }
    // A message that the accelerator refuses reaches no local APIC.
    if !changes.is_empty() && irqchip.update_msi_routes(&changes).is_ok() {
        routes.iter_mut().for_each(|route| route.stale = false);
    }
    for route in routes {
        let wanted = message(route.vector).is_some() && !route.stale;
        route.fds.iter_mut().for_each(|fd| fd.attach(irqchip, route.gsi, wanted));
    }
}

impl Irqfd {
    /// Has the accelerator have it, or not.
    fn attach(&mut self, irqchip: &dyn AccelIrqchip, gsi: u32, wanted: bool) {
        if wanted && !self.attached {
            // What waits is signalled anew: KVM sends it without taking it out of the counter.
            let waits = self.eventfd.read().is_ok();
            self.attached = irqchip.add_irqfd(gsi, &self.eventfd, None).is_ok();
            if waits {
                let _ = self.eventfd.write(1);
            }
        } else if !wanted && self.attached {
            irqchip.remove_irqfd(gsi, &self.eventfd);
            self.attached = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use qom::bail;
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    /// Notes what it is asked for.
    #[derive(Default)]
    struct Recorder {
        calls: Mutex<Vec<String>>,
        full: bool,
    }

    impl Recorder {
        fn note(&self, call: String) {
            self.calls.lock().push(call);
        }

        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.calls.lock())
        }
    }

    impl AccelIrqchip for Recorder {
        fn set_gsi(&self, _: u32, _: bool) {}
        fn send_msi(&self, _: MsiMessage) {}
        fn add_msi_routes(&self, messages: &[MsiMessage]) -> Result<Vec<u32>> {
            if self.full {
                bail!("all are in use");
            }
            self.note(format!("add {:?}", messages.iter().map(|m| m.data).collect::<Vec<_>>()));
            Ok((24..24 + messages.len() as u32).collect())
        }
        fn update_msi_routes(&self, changes: &[(u32, MsiMessage)]) -> Result<()> {
            if changes.iter().any(|(_, message)| message.address == u64::MAX) {
                bail!("no such address");
            }
            self.note(format!("update {:?}", changes.iter().map(|(g, m)| (*g, m.data)).collect::<Vec<_>>()));
            Ok(())
        }
        fn release_routes(&self, gsis: &[u32]) {
            self.note(format!("release {gsis:?}"));
        }
        fn add_irqfd(&self, gsi: u32, _: &EventFd, _: Option<&EventFd>) -> Result<()> {
            self.note(format!("attach {gsi}"));
            Ok(())
        }
        fn remove_irqfd(&self, gsi: u32, _: &EventFd) {
            self.note(format!("detach {gsi}"));
        }
    }

    fn message(data: u32) -> MsiMessage {
        MsiMessage { address: 0xfee0_0000, data }
    }

    fn three() -> Vec<(usize, Arc<EventFd>)> {
        let eventfd = || Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        // Two share a vector.
        vec![(1, eventfd()), (0, eventfd()), (1, eventfd())]
    }

    #[test]
    fn masked_ones_are_pending_in_their_counters_and_changes_come_in_one_go() {
        let (recorder, wanted) = (Arc::new(Recorder::default()), three());
        let irqchip: Arc<dyn AccelIrqchip> = recorder.clone();
        let mut irqfds = Irqfds::new(&irqchip, &wanted, |vector| message(vector as u32)).unwrap();
        assert_eq!(recorder.take(), ["add [0, 1]"]);
        irqfds.sync(|vector| (vector == 1).then(|| message(1)));
        assert_eq!(recorder.take(), ["attach 25", "attach 25"]);
        wanted[1].1.write(1).unwrap();
        assert!(irqfds.is_pending(0) && irqfds.is_pending(0) && !irqfds.is_pending(1));
        irqfds.sync(|vector| Some(message(0x40 + vector as u32)));
        assert_eq!(recorder.take(), ["update [(24, 64), (25, 65)]", "attach 24"]);
        assert!(!irqfds.is_pending(0), "the accelerator has it");
        irqfds.sync(|vector| Some(message(0x40 + vector as u32)));
        assert_eq!(recorder.take(), [""; 0]);
        irqfds.sync_vector(1, None);
        irqfds.sync_vector(2, None);
        assert_eq!(recorder.take(), ["detach 25", "detach 25"]);
        irqfds.sync_vector(1, Some(message(0x51)));
        assert_eq!(recorder.take(), ["update [(25, 81)]", "attach 25", "attach 25"]);
        assert_eq!(irqfds.release(), [0]);
        assert_eq!(recorder.take(), ["detach 24", "detach 25", "detach 25", "release [24, 25]"]);
    }

    #[test]
    fn a_message_that_is_refused_is_not_sent_until_it_is_another() {
        let (recorder, wanted) = (Arc::new(Recorder::default()), three());
        let irqchip: Arc<dyn AccelIrqchip> = recorder.clone();
        let mut irqfds = Irqfds::new(&irqchip, &wanted, |_| message(0)).unwrap();
        irqfds.sync(|vector| (vector == 0).then(|| message(0)));
        recorder.take();
        irqfds.sync(|vector| (vector == 0).then_some(MsiMessage { address: u64::MAX, data: 0 }));
        assert_eq!(recorder.take(), ["detach 24"]);
        irqfds.sync(|vector| (vector == 0).then(|| message(0)));
        assert_eq!(recorder.take(), ["update [(24, 0)]", "attach 24"]);
    }

    #[test]
    fn without_routes_there_are_none() {
        let irqchip: Arc<dyn AccelIrqchip> = Arc::new(Recorder { full: true, ..Recorder::default() });
        assert!(Irqfds::new(&irqchip, &three(), |_| message(0)).is_err());
    }
}
