//! QEMU's object model: types, classes, properties and the composition tree (qom/).
