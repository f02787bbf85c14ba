//! i8042 and PS/2 keyboard and mouse (hw/input/).
