//! The options of `blockdev-add` and `-blockdev` (qapi/block-core.json).

use qapi::QapiType;

use crate::driver::DebugEvent;

/// Whether discards reach the driver.
#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockdevDiscardOptions {
    /// No.
    Ignore,
    /// Yes.
    Unmap,
}

/// Whether writes of zeroes become something cheaper.
#[derive(QapiType, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlockdevDetectZeroesOptions {
    /// No.
    #[default]
    Off,
    /// Yes.
    On,
    /// Yes, and room for data may be given back.
    Unmap,
}

/// How a file is read and written.
#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockdevAioOptions {
    /// By threads that wait.
    Threads,
    /// Linux's own asynchronous I/O.
    Native,
    /// Rings shared with the kernel.
    #[qapi(name = "io_uring")]
    IoUring,
}

/// Whether `auto` takes what there is.
#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOffAuto {
    /// As the driver likes.
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

/// What of the host's caching is used.
#[derive(QapiType, Clone, Copy, Debug, Default)]
pub struct BlockdevCacheOptions {
    /// Around the host's page cache (O_DIRECT).
    pub direct: Option<bool>,
    /// Flushes are not carried out.
    pub no_flush: Option<bool>,
}

/// A node that is there, or one to be made.
#[derive(QapiType, Clone, Debug)]
#[qapi(alternate)]
pub enum BlockdevRef {
    /// To be made.
    Definition(Box<BlockdevOptions>),
    /// Its node-name, or a device's.
    Reference(String),
}

/// As [`BlockdevRef`], or none.
#[derive(QapiType, Clone, Debug)]
#[qapi(alternate)]
pub enum BlockdevRefOrNull {
    /// To be made.
    Definition(Box<BlockdevOptions>),
    /// Its node-name, or a device's.
    Reference(String),
    /// None.
    Null(()),
}

/// Options of any node.
#[derive(QapiType, Clone, Debug)]
pub struct BlockdevOptions {
    /// The node's name.
    pub node_name: Option<String>,
    /// Whether discards reach the driver.
    pub discard: Option<BlockdevDiscardOptions>,
    /// The host's caching.
    pub cache: Option<BlockdevCacheOptions>,
    /// Nothing can be written.
    pub read_only: Option<bool>,
    /// Read-only where it cannot be opened for writing.
    pub auto_read_only: Option<bool>,
    /// Open it even where others have it locked; read-only then.
    pub force_share: Option<bool>,
    /// Whether writes of zeroes become something cheaper.
    pub detect_zeroes: Option<BlockdevDetectZeroesOptions>,
    /// The driver and its own.
    #[qapi(flatten)]
    pub driver: BlockdevDriver,
}

impl BlockdevOptions {
    /// A node of `driver` with nothing else said.
    pub fn new(driver: BlockdevDriver) -> Self {
        BlockdevOptions {
            node_name: None,
            discard: None,
            cache: None,
            read_only: None,
            auto_read_only: None,
            force_share: None,
            detect_zeroes: None,
            driver,
        }
    }
}

/// The drivers.
#[derive(QapiType, Clone, Debug)]
#[qapi(name = "BlockdevOptionsDriver", tag = "driver", tag_type = "BlockdevDriver")]
pub enum BlockdevDriver {
    /// Injects errors.
    Blkdebug(BlockdevOptionsBlkdebug),
    /// Copies what is read from backing files.
    #[qapi(name = "copy-on-read")]
    CopyOnRead(BlockdevOptionsCor),
    /// A file of the host.
    File(BlockdevOptionsFile),
    /// A device of the host.
    #[qapi(name = "host_device")]
    HostDevice(BlockdevOptionsFile),
    /// A disk that is not there.
    #[qapi(name = "null-aio")]
    NullAio(BlockdevOptionsNull),
    /// A disk that is not there.
    #[qapi(name = "null-co")]
    NullCo(BlockdevOptionsNull),
    /// QEMU's image format.
    Qcow2(BlockdevOptionsQcow2),
    /// What the file has is the disk.
    Raw(BlockdevOptionsRaw),
    /// Limits requests.
    Throttle(BlockdevOptionsThrottle),
}

impl BlockdevDriver {
    /// The name in `driver=`.
    pub fn name(&self) -> &'static str {
        match self {
            BlockdevDriver::Blkdebug(_) => "blkdebug",
            BlockdevDriver::CopyOnRead(_) => "copy-on-read",
            BlockdevDriver::File(_) => "file",
            BlockdevDriver::HostDevice(_) => "host_device",
            BlockdevDriver::Qcow2(_) => "qcow2",
            BlockdevDriver::NullAio(_) => "null-aio",
            BlockdevDriver::NullCo(_) => "null-co",
            BlockdevDriver::Raw(_) => "raw",
            BlockdevDriver::Throttle(_) => "throttle",
        }
    }
}

/// Options of the null drivers.
#[derive(QapiType, Clone, Debug, Default)]
pub struct BlockdevOptionsNull {
    /// Size in bytes, 1 GiB by default.
    pub size: Option<u64>,
    /// How long each request takes.
    pub latency_ns: Option<u64>,
    /// Whether reads give zeroes, or leave the memory as it is.
    pub read_zeroes: Option<bool>,
}

/// Options of `file` and `host_device`.
#[derive(QapiType, Clone, Debug)]
pub struct BlockdevOptionsFile {
    /// Its path.
    pub filename: String,
    /// Whether it is locked against other programs.
    pub locking: Option<OnOffAuto>,
    /// How it is read and written.
    pub aio: Option<BlockdevAioOptions>,
}

/// Options of `qcow2`.
#[derive(QapiType, Clone, Debug)]
pub struct BlockdevOptionsQcow2 {
    /// The image.
    pub file: BlockdevRef,
    /// What has the data that the image does not have; by default as the image says.
    pub backing: Option<BlockdevRefOrNull>,
    /// Whether reference counts may be written late.
    pub lazy_refcounts: Option<bool>,
    /// Whether the guest's discards reach the file.
    pub pass_discard_request: Option<bool>,
    /// Most memory for tables of addresses, in bytes.
    pub l2_cache_size: Option<u64>,
}

/// Options of `raw`.
#[derive(QapiType, Clone, Debug)]
pub struct BlockdevOptionsRaw {
    /// What it reads and writes.
    pub file: BlockdevRef,
    /// Where the disk begins in it.
    pub offset: Option<i64>,
    /// The disk's size.
    pub size: Option<i64>,
}

/// Options of `copy-on-read`.
#[derive(QapiType, Clone, Debug)]
pub struct BlockdevOptionsCor {
    /// What it reads and writes.
    pub file: BlockdevRef,
    /// The last of the backing files to copy from, by its node-name; all of them by default.
    pub bottom: Option<String>,
}

/// Options of `throttle`.
#[derive(QapiType, Clone, Debug)]
pub struct BlockdevOptionsThrottle {
    /// The group that limits it.
    pub throttle_group: String,
    /// What it reads and writes.
    pub file: BlockdevRef,
}

/// Kinds of requests that an error can be injected into.
#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BlkdebugIOType {
    Read,
    Write,
    #[qapi(name = "write-zeroes")]
    WriteZeroes,
    Discard,
    Flush,
    #[qapi(name = "block-status")]
    BlockStatus,
}

/// An error to be injected.
#[derive(QapiType, Clone, Debug)]
#[qapi(name = "BlkdebugInjectErrorOptions")]
pub struct BlkdebugInjectError {
    /// After which event.
    pub event: DebugEvent,
    /// Only in this state.
    pub state: Option<i64>,
    /// Only into these requests: by default all that QEMU had when the option came.
    pub iotype: Option<BlkdebugIOType>,
    /// The error, EIO by default.
    pub errno: Option<i64>,
    /// Only into requests that touch this sector.
    pub sector: Option<i64>,
    /// Only once.
    pub once: Option<bool>,
    /// Without returning to the event loop first.
    pub immediately: Option<bool>,
}

/// A change of state.
#[derive(QapiType, Clone, Debug)]
#[qapi(name = "BlkdebugSetStateOptions")]
pub struct BlkdebugSetState {
    /// At which event.
    pub event: DebugEvent,
    /// Only in this state.
    pub state: Option<i64>,
    /// The new state.
    #[qapi(name = "new_state")]
    pub new_state: i64,
}

/// Options of `blkdebug`.
#[derive(QapiType, Clone, Debug)]
pub struct BlockdevOptionsBlkdebug {
    /// What it reads and writes.
    pub image: BlockdevRef,
    /// A file with rules.
    pub config: Option<String>,
    /// Unit of requests as rules see them, bytes; a power of 2.
    pub align: Option<u64>,
    /// Errors to be injected.
    pub inject_error: Option<Vec<BlkdebugInjectError>>,
    /// Changes of state.
    pub set_state: Option<Vec<BlkdebugSetState>>,
}
