//! AML: what crate `acpi_tables` has, and the terms it lacks.
//!
//! A term is any [`Aml`]. Operators that take a target get `&ZERO` (the null name) when the result is only used as
//! a value. Source followed: ACPI specification 6.4, chapter 20 (AML grammar) and section 6.4 (resource data types).

pub use acpi_tables::aml::*;
pub use acpi_tables::{Aml, AmlSink};

/// AML that is already encoded, or several terms in a row.
#[derive(Debug, Clone, Default)]
pub struct Raw(pub Vec<u8>);

impl Raw {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a term.
    pub fn push(&mut self, term: &dyn Aml) {
        term.to_aml_bytes(&mut self.0);
    }
}

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

macro_rules! prefix_op {
    ($(#[$doc:meta])* $name:ident, $opcode:expr, $($operand:ident),+) => {
        $(#[$doc])*
        pub struct $name<'a> {
            $($operand: &'a dyn Aml,)+
        }

        impl<'a> $name<'a> {
            /// The term.
            pub fn new($($operand: &'a dyn Aml),+) -> Self {
                Self { $($operand),+ }
            }
        }

        impl Aml for $name<'_> {
            fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
                sink.byte($opcode);
                $(self.$operand.to_aml_bytes(sink);)+
            }
        }
    };
}

prefix_op!(
    /// `!operand`.
    LNot, 0x92, operand
);
prefix_op!(
    /// `left || right`.
    LOr, 0x91, left, right
);
prefix_op!(
    /// `operand++`.
    Increment, 0x75, operand
);
prefix_op!(
    /// `ToHexString (operand, target)`.
    ToHexString, 0x98, operand, target
);

/// A `Package` of so many elements, none of them initialised.
#[derive(Debug, Clone, Copy)]
pub struct EmptyPackage(pub u8);

impl Aml for EmptyPackage {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&[0x12, 2, self.0]);
    }
}

/// `Processor (name, id, 0, 0)`: deprecated since ACPI 6.0, but what guests of a PC have been given.
pub struct Processor<'a> {
    name: &'a str,
    id: u8,
    children: Vec<&'a dyn Aml>,
}

impl<'a> Processor<'a> {
    /// A processor without a processor register block. `name` is one segment of four characters.
    pub fn new(name: &'a str, id: u8, children: Vec<&'a dyn Aml>) -> Self {
        Self { name, id, children }
    }
}

impl Aml for Processor<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        // A `Device` of the same name whose first "child" is the three fields between name and children
        // (id, register block, its length) differs from a `Processor` in the opcode only.
        let fields = Raw(vec![self.id, 0, 0, 0, 0, 0]);
        let mut children: Vec<&dyn Aml> = vec![&fields];
        children.extend(&self.children);
        let mut device = Vec::new();
        Device::new(self.name.into(), children).to_aml_bytes(&mut device);
        device[..2].copy_from_slice(&[0x5b, 0x83]);
        sink.vec(&device);
    }
}

/// `IRQNoFlags () {irq}`: an edge-triggered ISA interrupt, 0 to 15.
#[derive(Debug, Clone, Copy)]
pub struct IrqNoFlags(pub u8);

impl Aml for IrqNoFlags {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.byte(0x22);
        sink.word(1 << (self.0 & 15));
    }
}

/// `DMA (Compatibility, NotBusMaster, Transfer8) {channel}`: an ISA DMA channel, 0 to 7.
#[derive(Debug, Clone, Copy)]
pub struct IsaDma(pub u8);

impl Aml for IsaDma {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&[0x2a, 1 << (self.0 & 7), 0]);
    }
}
