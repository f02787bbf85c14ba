//! `vmgenid`: a number that changes when the machine is another than the guest thinks, because it was copied or set
//! back.
//!
//! Sources: QEMU `docs/specs/vmgenid.txt`, `hw/acpi/vmgenid.c`.

use std::sync::Arc;

use hw_core::machine::current_machine;
use hw_core::reset::qemu_register_reset;
use hw_core::{Device, DeviceCategory, DeviceClass, DeviceImpl, VmState, vmstate};
use hw_nvram::fw_cfg::{FwCfg, Item};
use memory::address_space_memory;
use parking_lot::Mutex;
use qapi::QapiType;
use qom::property::PropertyInput;
use qom::{Class, Error, Object, Property, PropertyType, Result, Value, bail};

use crate::piix4::Piix4Pm;

/// fw_cfg name of the memory that the guest finds the number in.
pub const GUID_FILE: &str = "etc/vmgenid_guid";
/// fw_cfg name of where firmware says at which address that memory is.
pub const ADDR_FILE: &str = "etc/vmgenid_addr";
/// Bytes of [`GUID_FILE`].
pub const GUID_FILE_SIZE: usize = 4096;
/// Where in the memory the number is: some firmware takes what is before it for the header of a table.
pub const GUID_OFFSET: usize = 40;

/// A UUID, its bytes in the order written; `auto` is a random one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    fn random() -> Guid {
        let mut bytes = [0; 16];
        // Without random bytes the number is no secret, and still one that the guest has not seen.
        let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Guid(bytes)
    }

    fn from_text(text: &str) -> Option<Guid> {
        if !text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) {
            return None;
        }
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != '-')
            .map(|c| c.to_digit(16).map(|d| d as u8))
            .collect::<Option<_>>()?;
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        bytes.try_into().ok().map(Guid)
    }

    fn to_text(self) -> String {
        let hex = |range: std::ops::Range<usize>| {
            self.0[range].iter().map(|b| format!("{b:02x}")).collect::<String>()
        };
        [hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16)].join("-")
    }

    /// As the guest finds it: the first three fields little-endian.
    pub fn to_guest(self) -> [u8; 16] {
        let mut bytes = self.0;
        bytes[0..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }
}

impl PropertyType for Guid {
    fn type_name() -> String {
        "str".to_owned()
    }

    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        Self::parse_for("vmgenid", name, input)
    }

    fn parse_for(owner: &str, name: &str, input: PropertyInput<'_>) -> Result<Self> {
        let text = String::parse(name, input)?;
        match text.as_str() {
            "auto" => Ok(Guid::random()),
            text => Guid::from_text(text)
                .ok_or_else(|| Error::new(format!("Property '{owner}.{name}' doesn't take value '{text}'"))),
        }
    }

    fn to_value(&self) -> Value {
        self.to_text().into()
    }
}

/// The device.
#[derive(Object)]
#[object(name = "vmgenid", parent = Device, class_init = class_init, instance_init = VmGenId::init)]
pub struct VmGenId {
    parent: Device,
    /// UUID (aka GUID) or "auto" for random value (default)
    #[property]
    guid: Property<Guid>,
    /// Where the number is in the guest's memory, as firmware said, little-endian; 0 before it has.
    addr: Arc<Mutex<[u8; 8]>>,
}
qom::type_init!(VmGenId);

fn class_init(class: &mut Class) {
    let device = class.get_mut::<DeviceClass>();
    device.category = Some(DeviceCategory::Misc);
    device.hotpluggable = false;
    vmstate::register::<VmGenId>(class);
}

impl VmGenId {
    fn init(&self) {
        self.guid.set(Guid::random());
    }

    /// What [`GUID_FILE`] holds.
    pub fn guid_file(&self) -> Vec<u8> {
        let mut file = vec![0; GUID_FILE_SIZE];
        file[GUID_OFFSET..GUID_OFFSET + 16].copy_from_slice(&self.guid.get().to_guest());
        file
    }

    /// Firmware said where the number is.
    pub fn set_addr(&self, addr: &[u8]) {
        let mut own = self.addr.lock();
        own.iter_mut().zip(addr).for_each(|(to, from)| *to = *from);
    }

    /// Gives firmware the two files (`vmgenid_add_fw_cfg`).
    ///
    /// # Errors
    /// When fw_cfg has no room.
    pub fn add_files(&self, fw_cfg: &FwCfg) -> Result<()> {
        let wrong = |error: hw_nvram::fw_cfg::FwCfgError| Error::new(error.to_string());
        fw_cfg.add_file(GUID_FILE, self.guid_file()).map_err(wrong)?;
        let addr = self.addr.clone();
        let item = Item::from([0u8; 8]).on_write(move |bytes| {
            addr.lock().iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        });
        fw_cfg.add_file(ADDR_FILE, item).map_err(wrong)
    }

    /// Writes the number to the guest's memory and tells it (`vmgenid_update_guest`).
    fn update_guest(&self) {
        let addr = u32::from_le_bytes([0, 1, 2, 3].map(|at| self.addr.lock()[at]));
        let pm = current_machine().and_then(|machine| machine.child("acpi-device"));
        let Some(pm) = pm.as_ref().and_then(|pm| pm.cast::<Piix4Pm>()) else { return };
        if addr != 0 {
            // The guest's firmware chose the place.
            let _ = address_space_memory().write(addr.into(), &self.guid.get().to_guest());
            pm.send_vmgenid_event();
        }
    }
}

/// The machine's device.
pub fn find_vmgenid_dev() -> Option<Arc<dyn Object>> {
    let machine = current_machine()?;
    let places = ["peripheral", "peripheral-anon"].into_iter().filter_map(|place| machine.child(place));
    places.flat_map(|place| place.children()).map(|(_, object)| object).find(|object| object.is_a("vmgenid"))
}

impl DeviceImpl for VmGenId {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let this: Arc<dyn Object> = self.clone();
        if find_vmgenid_dev().is_some_and(|other| !Arc::ptr_eq(&other, &this)) {
            bail!("at most one vmgenid device is permitted");
        }
        let addr = self.addr.clone();
        // It sits on no bus that would reset it.
        qemu_register_reset(Arc::new(move || *addr.lock() = [0; 8]));
        Ok(())
    }
}

impl VmState for VmGenId {
    type State = [u8; 8];

    fn save(&self) -> Option<[u8; 8]> {
        Some(*self.addr.lock())
    }

    fn load(&self, state: [u8; 8]) -> Result<()> {
        *self.addr.lock() = state;
        self.update_guest();
        Ok(())
    }
}

#[derive(QapiType)]
struct GuidInfo {
    guid: String,
}

/// Tells the VM generation ID.
#[qapi::command("query-vm-generation-id")]
fn query_vm_generation_id() -> Result<GuidInfo> {
    match find_vmgenid_dev().as_ref().and_then(|device| device.cast::<VmGenId>()) {
        Some(device) => Ok(GuidInfo { guid: device.guid.get().to_text() }),
        None => bail!("VM Generation ID device not found"),
    }
}
