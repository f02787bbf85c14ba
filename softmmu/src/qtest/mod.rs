//! The server of the qtest protocol: a client reads and writes ports and memory, watches and drives interrupt
//! lines, and under the accelerator `qtest` moves virtual time.
//!
//! `-qtest CHARDEV` makes one, as does `-object qtest`; it works with any accelerator. Requests are answered in
//! order; lines about interrupts come before the answer to the request that made them. What a client sends
//! cannot make the server wait or grow: work of any length is done in slices between turns of the main loop,
//! and no request is read before the answer to the last was taken.
//!
//! Source followed: QEMU `softmmu/qtest.c`.

mod execute;
mod irq;
mod log;
mod server;

use std::sync::{Arc, OnceLock};

use hw_core::machine::current_machine;
use qom::{Error, Object, ObjectBase, Property, Result, UserCreatable, bail, object_new};

use server::Server;

/// The server as an object.
#[derive(Object)]
#[object(name = "qtest", parent = ObjectBase, interfaces(dyn UserCreatable))]
pub struct QTest {
    parent: ObjectBase,
    /// Id of the chardev the client is at
    #[property]
    chardev: Property<Option<String>>,
    /// File that says what goes to and fro, or 'none'; stderr where nothing is said
    #[property]
    log: Property<Option<String>>,
}
qom::type_init!(QTest);

/// There is one at most, for as long as the program runs.
static SERVER: OnceLock<Arc<Server>> = OnceLock::new();

impl UserCreatable for QTest {
    fn complete(self: Arc<Self>) -> Result<()> {
        if SERVER.get().is_some() {
            bail!("Only one instance of qtest can be created");
        }
        let Some(id) = self.chardev.get() else { bail!("No backend specified") };
        let Some(chardev) = chardev::find(&id) else { bail!("Cannot find character device '{id}'") };
        let server = Server::start(&chardev, log::Log::open(self.log.get().as_deref())?)?;
        self.base().freeze(|_, name| format!("Property '{name}' can not be set now"));
        let _ = SERVER.set(server);
        Ok(())
    }

    fn can_be_deleted(&self) -> bool {
        false
    }
}

/// Makes the server of `-qtest` and `-qtest-log` (`qtest_server_init`).
///
/// # Errors
/// When the chardev or the log cannot be opened.
pub fn qtest_server_init(chardev: &str, log: Option<&str>) -> Result<()> {
    chardev::new_from_compat("qtest", chardev, false).map_err(|error| {
        util::error_report!("-qtest {chardev}: {error}");
        Error::new(format!("Failed to initialize device for qtest: \"{chardev}\""))
    })?;
    let server = object_new("qtest")?;
    server.property_set_str("chardev", "qtest")?;
    if let Some(log) = log {
        server.property_set_str("log", log)?;
    }
    if let Some(machine) = current_machine() {
        machine.property_add_child("qtest", &server)?;
    }
    match server.interface::<dyn UserCreatable>() {
        Some(creatable) => creatable.complete(),
        None => bail!("'qtest' is not for users"),
    }
}
