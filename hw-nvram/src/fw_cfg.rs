//! The firmware configuration device: QEMU's docs/specs/fw_cfg.txt and hw/nvram/fw_cfg.c.
//!
//! [`FwCfg`] is shared: the board adds items, the device around it forwards the guest's accesses. Callbacks
//! and guest memory are reached without its lock, so that a callback may add and replace items.

mod dma;
pub mod spec;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use dma::{DmaError, DmaMemory};

/// Why an item cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FwCfgError {
    /// Property `x-file-slots` is too small.
    #[error("\"file_slots\" must be at least {:#x}", spec::FILE_SLOTS_MIN)]
    TooFewSlots,
    /// Property `x-file-slots` is too large.
    #[error("\"file_slots\" must not exceed {:#x}", spec::FILE_SLOTS_MAX)]
    TooManySlots,
    /// There is a file of that name.
    #[error("duplicate fw_cfg file name: {0}")]
    DuplicateFile(String),
    /// The name does not fit into the directory.
    #[error("name too long (max. {} char)", spec::MAX_FILE_PATH - 1)]
    NameTooLong,
    /// Every file slot is taken.
    #[error("no fw_cfg slot left for file '{0}'")]
    NoSlot(String),
    /// There is an item with that key.
    #[error("fw_cfg key {0:#x} is in use")]
    KeyInUse(u16),
    /// No item can have that key.
    #[error("fw_cfg key {0:#x} is not valid")]
    InvalidKey(u16),
    /// The item's length does not fit into 32 bits.
    #[error("fw_cfg item of {0} bytes is too large")]
    TooLarge(usize),
}

/// An item's bytes; a `Vec<u8>`, a static slice or a mapped file.
pub type Data = Arc<dyn AsRef<[u8]> + Send + Sync>;
type SelectCallback = Arc<dyn Fn(&FwCfg) + Send + Sync>;
type WriteCallback = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// What is stored under a key or a file name. Made from anything that holds bytes.
#[derive(Clone)]
pub struct Item {
    data: Data,
    writable: bool,
    on_select: Option<SelectCallback>,
    on_write: Option<WriteCallback>,
}

impl<T: AsRef<[u8]> + Send + Sync + 'static> From<T> for Item {
    fn from(data: T) -> Self {
        Self { data: Arc::new(data), writable: false, on_select: None, on_write: None }
    }
}

impl Item {
    /// Lets the guest overwrite the bytes by DMA; their number stays.
    #[must_use]
    pub fn writable(mut self) -> Self {
        self.writable = true;
        self
    }

    /// Calls `callback` each time the guest has selected the item, before it reads the first byte. It may
    /// replace this and other items.
    #[must_use]
    pub fn on_select(mut self, callback: impl Fn(&FwCfg) + Send + Sync + 'static) -> Self {
        self.on_select = Some(Arc::new(callback));
        self
    }

    /// Makes the item writable and calls `callback` with all of its bytes after each write.
    #[must_use]
    pub fn on_write(mut self, callback: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        self.writable = true;
        self.on_write = Some(Arc::new(callback));
        self
    }

    fn bytes(&self) -> &[u8] {
        (*self.data).as_ref()
    }

    fn check_length(&self) -> Result<(), FwCfgError> {
        match u32::try_from(self.bytes().len()) {
            Ok(length) if length < u32::MAX => Ok(()),
            _ => Err(FwCfgError::TooLarge(self.bytes().len())),
        }
    }
}

/// The registers, which are saved with the machine. The items are not: the board makes them anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FwCfgState {
    cur_entry: u16,
    cur_offset: u32,
    dma_addr: u64,
}

struct Contents {
    state: FwCfgState,
    /// Well-known and architecture-specific items by key, without [`spec::WRITE_CHANNEL`].
    items: BTreeMap<u16, Item>,
    /// Files in the order of the directory: by name. The key of the first is [`spec::FILE_FIRST`].
    files: Vec<(String, Item)>,
    file_slots: u16,
}

impl Contents {
    /// Whether `key` may be selected, even if there is nothing under it.
    fn is_valid(&self, key: u16) -> bool {
        key & spec::ENTRY_MASK < spec::FILE_FIRST + self.file_slots
    }

    fn item(&self, key: u16) -> Option<&Item> {
        let key = key & !spec::WRITE_CHANNEL;
        match key.checked_sub(spec::FILE_FIRST) {
            Some(file) if key & spec::ARCH_LOCAL == 0 => {
                self.files.get(usize::from(file)).map(|(_, item)| item)
            }
            _ => self.items.get(&key),
        }
    }

    fn item_mut(&mut self, key: u16) -> Option<&mut Item> {
        let key = key & !spec::WRITE_CHANNEL;
        match key.checked_sub(spec::FILE_FIRST) {
            Some(file) if key & spec::ARCH_LOCAL == 0 => {
                self.files.get_mut(usize::from(file)).map(|(_, item)| item)
            }
            _ => self.items.get_mut(&key),
        }
    }

    /// Builds the directory: the number of files, then one entry a slot.
    fn update_directory(&mut self) {
        let length = 4 + spec::FILE_ENTRY_SIZE * usize::from(self.file_slots);
        let mut directory = Vec::with_capacity(length);
        directory.extend((self.files.len() as u32).to_be_bytes());
        for (key, (name, item)) in (spec::FILE_FIRST..).zip(&self.files) {
            directory.extend((item.bytes().len() as u32).to_be_bytes());
            directory.extend(key.to_be_bytes());
            directory.extend([0; 2]);
            directory.extend(name.as_bytes());
            directory.resize(directory.len() + spec::MAX_FILE_PATH - name.len(), 0);
        }
        directory.resize(length, 0);
        self.items.insert(spec::FILE_DIR, directory.into());
    }

    fn add_file(&mut self, name: &str, item: Item) -> Result<(), FwCfgError> {
        let Err(position) = self.find_file(name) else {
            return Err(FwCfgError::DuplicateFile(name.to_owned()));
        };
        if name.len() >= spec::MAX_FILE_PATH {
            return Err(FwCfgError::NameTooLong);
        }
        if self.files.len() >= self.file_slots.into() {
            return Err(FwCfgError::NoSlot(name.to_owned()));
        }
        self.files.insert(position, (name.to_owned(), item));
        self.update_directory();
        Ok(())
    }

    fn find_file(&self, name: &str) -> Result<usize, usize> {
        self.files.binary_search_by(|(other, _)| other.as_str().cmp(name))
    }
}

/// The firmware configuration device without its ports.
pub struct FwCfg {
    contents: Mutex<Contents>,
    dma_enabled: bool,
}

impl FwCfg {
    /// A device with room for `file_slots` files (property `x-file-slots`) and, with `dma_enabled`, the DMA
    /// interface. It holds its signature, its feature bits and an empty directory.
    pub fn new(file_slots: u16, dma_enabled: bool) -> Result<Self, FwCfgError> {
        if file_slots < spec::FILE_SLOTS_MIN {
            return Err(FwCfgError::TooFewSlots);
        }
        if file_slots > spec::FILE_SLOTS_MAX {
            return Err(FwCfgError::TooManySlots);
        }
        let features = spec::VERSION | if dma_enabled { spec::VERSION_DMA } else { 0 };
        let items = BTreeMap::from([
            (spec::SIGNATURE, Item::from(b"QEMU")),
            (spec::ID, Item::from(features.to_le_bytes())),
        ]);
        let mut contents = Contents { state: FwCfgState::default(), items, files: Vec::new(), file_slots };
        contents.update_directory();
        Ok(Self { contents: Mutex::new(contents), dma_enabled })
    }

    /// Whether the guest can write files.
    pub fn has_dma(&self) -> bool {
        self.dma_enabled
    }

    /// Adds an item under a well-known or architecture-specific key.
    pub fn add_bytes(&self, key: u16, item: impl Into<Item>) -> Result<(), FwCfgError> {
        let item = item.into();
        item.check_length()?;
        let mut contents = self.contents.lock();
        let file = key & spec::ARCH_LOCAL == 0 && key >= spec::FILE_FIRST;
        if key & spec::WRITE_CHANNEL != 0 || file || !contents.is_valid(key) {
            return Err(FwCfgError::InvalidKey(key));
        }
        if contents.items.contains_key(&key) {
            return Err(FwCfgError::KeyInUse(key));
        }
        contents.items.insert(key, item);
        Ok(())
    }

    /// Adds a string with a terminating NUL.
    pub fn add_string(&self, key: u16, value: &str) -> Result<(), FwCfgError> {
        self.add_bytes(key, [value.as_bytes(), b"\0"].concat())
    }

    /// Adds a little-endian 16-bit number.
    pub fn add_i16(&self, key: u16, value: u16) -> Result<(), FwCfgError> {
        self.add_bytes(key, value.to_le_bytes())
    }

    /// Adds a little-endian 32-bit number.
    pub fn add_i32(&self, key: u16, value: u32) -> Result<(), FwCfgError> {
        self.add_bytes(key, value.to_le_bytes())
    }

    /// Adds a little-endian 64-bit number.
    pub fn add_i64(&self, key: u16, value: u64) -> Result<(), FwCfgError> {
        self.add_bytes(key, value.to_le_bytes())
    }

    /// Replaces the bytes of the item under `key`, or adds it.
    pub fn modify_bytes(&self, key: u16, data: impl Into<Item>) -> Result<(), FwCfgError> {
        let item = data.into();
        item.check_length()?;
        if let Some(old) = self.contents.lock().items.get_mut(&key) {
            old.data = item.data;
            return Ok(());
        }
        self.add_bytes(key, item)
    }

    /// Adds a file. Files after it in the alphabet move to the next key, so this is for before the guest runs.
    pub fn add_file(&self, name: &str, item: impl Into<Item>) -> Result<(), FwCfgError> {
        let item = item.into();
        item.check_length()?;
        self.contents.lock().add_file(name, item)
    }

    /// Replaces the bytes of a file, keeping its callbacks, or adds it.
    pub fn modify_file(&self, name: &str, data: impl Into<Item>) -> Result<(), FwCfgError> {
        let item = data.into();
        item.check_length()?;
        let mut contents = self.contents.lock();
        let Ok(position) = contents.find_file(name) else {
            return contents.add_file(name, item);
        };
        if let Some((_, old)) = contents.files.get_mut(position) {
            old.data = item.data;
        }
        contents.update_directory();
        Ok(())
    }

    /// The bytes of a file as they are now.
    pub fn file(&self, name: &str) -> Option<Data> {
        let contents = self.contents.lock();
        let position = contents.find_file(name).ok()?;
        contents.files.get(position).map(|(_, item)| item.data.clone())
    }

    /// Selects the signature and forgets half of a DMA address.
    pub fn reset(&self) {
        self.contents.lock().state = FwCfgState::default();
    }

    /// The registers, to be saved.
    pub fn state(&self) -> FwCfgState {
        self.contents.lock().state.clone()
    }

    /// Restores what [`Self::state`] gave.
    pub fn set_state(&self, state: FwCfgState) {
        self.contents.lock().state = state;
    }

    /// Writes the selector register.
    pub fn select(&self, key: u16) {
        let callback = {
            let mut contents = self.contents.lock();
            contents.state.cur_entry = if contents.is_valid(key) { key } else { spec::INVALID };
            contents.state.cur_offset = 0;
            contents.item(contents.state.cur_entry).and_then(|item| item.on_select.clone())
        };
        if let Some(callback) = callback {
            callback(self);
        }
    }

    /// Reads the data register: the item's next byte, 0 after its end.
    pub fn read_data(&self) -> u8 {
        let mut contents = self.contents.lock();
        let FwCfgState { cur_entry, cur_offset, .. } = contents.state;
        let byte = contents.item(cur_entry).and_then(|item| item.bytes().get(cur_offset as usize).copied());
        if byte.is_some() {
            contents.state.cur_offset += 1;
        }
        byte.unwrap_or(0)
    }

    /// Reads one of the two ports at [`spec::PORT_SELECTOR`]. The data register answers at both, a byte a time.
    pub fn read_port(&self, size: u32) -> u64 {
        if size == 1 { self.read_data().into() } else { 0 }
    }

    /// Writes one of the two ports at [`spec::PORT_SELECTOR`]: two bytes are a key, a single one is ignored.
    pub fn write_port(&self, value: u64, size: u32) {
        if size == 2 {
            self.select(value as u16);
        }
    }
}
