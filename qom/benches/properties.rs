//! What objects and their properties cost: a machine's start makes and sets many.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use qom::{Object, ObjectBase, Property};

/// An ancestor with properties of its own.
#[derive(Object)]
#[object(name = "bench-base", parent = ObjectBase)]
struct Base {
    parent: ObjectBase,
    #[property(default = 3)]
    inherited: Property<u32>,
}

impl<T> qom::ClassInit<T> for Base {
    fn class_init(_: &mut qom::Class) {}
}

#[derive(Object)]
#[object(name = "bench-object", parent = Base)]
struct Derived {
    parent: Base,
    #[property(default = 7)]
    number: Property<u32>,
    #[property(default = "text")]
    text: Property<String>,
}
qom::type_init!(Base, Derived);

fn properties(c: &mut Criterion) {
    qom::module_call_init(qom::ModuleInitType::Qom);
    let object = qom::object_new("bench-object").expect("the type is registered above");
    c.bench_function("object_new", |b| b.iter(|| qom::object_new(black_box("bench-object"))));
    c.bench_function("property_get of a number", |b| b.iter(|| object.property_get(black_box("number"))));
    c.bench_function("property_get of an inherited number", |b| {
        b.iter(|| object.property_get(black_box("inherited")));
    });
    c.bench_function("property_set_str of a number", |b| {
        b.iter(|| object.property_set_str(black_box("number"), black_box("0x3f8")));
    });
    let derived = object.cast::<Derived>().expect("it was made as one");
    c.bench_function("a device's own look at a property", |b| b.iter(|| black_box(derived).number.get()));
    c.bench_function("cast to the struct", |b| b.iter(|| black_box(&object).cast::<Derived>().is_some()));
    assert_eq!(derived.text.get(), "text");
}

criterion_group!(benches, properties);
criterion_main!(benches);
