//! Character devices (chardev/).
