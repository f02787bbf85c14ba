//! Devices, buses, reset, irq lines, the machine and the accelerator interface (hw/core/).
