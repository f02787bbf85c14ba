//! The error every layer above shares: one line for the user, and the class QMP reports with it.

/// QAPI's error classes (`qapi/error.json`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ErrorClass {
    /// Anything without a class of its own.
    #[default]
    GenericError,
    /// The requested command is not known.
    CommandNotFound,
    /// A device is not in a state to do what was asked.
    DeviceNotActive,
    /// The requested device was not found.
    DeviceNotFound,
    /// A KVM capability is missing.
    KvmMissingCap,
}

impl ErrorClass {
    /// The name as it stands in a QMP error.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorClass::GenericError => "GenericError",
            ErrorClass::CommandNotFound => "CommandNotFound",
            ErrorClass::DeviceNotActive => "DeviceNotActive",
            ErrorClass::DeviceNotFound => "DeviceNotFound",
            ErrorClass::KvmMissingCap => "KVMMissingCap",
        }
    }
}

/// QEMU's `Error`: a message of one line, a class, and optionally a hint that only people see.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What is wrong, naming the option, property or file.
    pub message: String,
    /// The class QMP clients see.
    pub class: ErrorClass,
    /// Further lines for the terminal (`error_append_hint`), never sent over QMP.
    pub hint: Option<String>,
}

/// What most functions of this workspace return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of class `GenericError`.
    pub fn new(message: impl Into<String>) -> Error {
        Error { message: message.into(), class: ErrorClass::GenericError, hint: None }
    }

    /// The same error with another class.
    pub fn with_class(mut self, class: ErrorClass) -> Error {
        self.class = class;
        self
    }

    /// The same error with a hint for people.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with `prefix` before its message (`error_prepend`).
    pub fn prepend(mut self, prefix: impl AsRef<str>) -> Error {
        self.message.insert_str(0, prefix.as_ref());
        self
    }
}

/// Returns early with a formatted [`Error`].
#[macro_export]
macro_rules! bail {
    ($($arg:tt)*) => { return Err($crate::Error::new(format!($($arg)*))) };
}
