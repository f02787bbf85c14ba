//! Numbers of the Hypervisor Top Level Functional Specification.

/// `HV_X64_MSR_SCONTROL`
pub const CONTROL: u32 = 0x4000_0080;
/// `HV_X64_MSR_SIEFP`, where the event flags are.
pub const EVENT_PAGE: u32 = 0x4000_0082;
/// `HV_X64_MSR_SIMP`, where messages are put.
pub const MESSAGE_PAGE: u32 = 0x4000_0083;
/// How many interrupt sources a SynIC has.
pub const SINTS: u8 = 16;

/// Bit 0 of the three registers.
pub(crate) const ENABLE: u64 = 1;
/// The rest of the two with an address.
pub(crate) const PAGE: u64 = !0xfff;

/// A slot of either page.
pub(crate) const SLOT: u64 = 256;
/// `HV_MESSAGE_NONE`: the slot is free.
pub(crate) const MESSAGE_NONE: u32 = 0;
/// Where a slot has its flags.
pub(crate) const MESSAGE_FLAGS: u64 = 5;
/// `HV_MESSAGE_FLAG_PENDING`: another message waits, and the guest is to write EOM.
pub(crate) const FLAG_PENDING: u8 = 1;
/// Length of a message's header, and of what it carries.
pub(crate) const HEADER: usize = 16;
pub(crate) const PAYLOAD: usize = 240;
/// What fits into `HvPostMessage`'s and `HvSignalEvent`'s number of a connection.
pub(crate) const CONNECTION_ID_MASK: u32 = 0x00ff_ffff;

/// Call codes.
pub(crate) const POST_MESSAGE: u64 = 0x5c;
pub(crate) const SIGNAL_EVENT: u64 = 0x5d;
/// Parameters are in registers.
pub(crate) const FAST: u64 = 1 << 16;

/// `HV_STATUS_*`
pub(crate) const SUCCESS: u16 = 0;
pub(crate) const INVALID_HYPERCALL_CODE: u16 = 2;
pub(crate) const INVALID_HYPERCALL_INPUT: u16 = 3;
pub(crate) const INVALID_ALIGNMENT: u16 = 4;
pub(crate) const INSUFFICIENT_MEMORY: u16 = 11;
pub(crate) const INVALID_PORT_ID: u16 = 17;
pub(crate) const INVALID_CONNECTION_ID: u16 = 18;
pub(crate) const INSUFFICIENT_BUFFERS: u16 = 19;
