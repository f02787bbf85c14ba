//! What can be wrong with a character device.

use std::io;

use thiserror::Error;
use util::log::OsError;
use util::sockets::SocketError;

/// Why a chardev cannot be made, found or attached: one line, in QEMU's words where it has them.
#[derive(Debug, Error)]
pub enum ChardevError {
    /// The options make no sense.
    #[error("{0}")]
    Options(String),
    /// The operating system refused.
    #[error("{0}: {1}")]
    System(String, #[source] OsError),
    /// Another frontend has it.
    #[error("Device '{0}' is in use")]
    InUse(String),
}

impl ChardevError {
    pub(crate) fn options(text: impl Into<String>) -> Self {
        ChardevError::Options(text.into())
    }

    pub(crate) fn system(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        ChardevError::System(what.into(), OsError(error.into()))
    }
}

impl From<SocketError> for ChardevError {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::Address(text) => ChardevError::Options(text),
            SocketError::System(what, error) => ChardevError::System(what, error),
        }
    }
}
