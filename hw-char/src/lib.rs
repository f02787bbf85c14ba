//! 16550A serial ports and the debug console (hw/char/).
