//! What a user of the object model sees: order of initialisation, inheritance, properties, the tree.

use std::sync::Arc;
use std::sync::Mutex;

use qom::{
    Class, ClassInit, Interface, Object, ObjectBase, Property, Size, TypeInfo, class_by_name, class_list,
    container_get, module_call_init, object_get_root, object_new, object_resolve_path, type_register,
};

static ORDER: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

fn note(what: &'static str) {
    ORDER.lock().unwrap().push(what);
}

/// The method table of animals.
#[derive(Clone, Default)]
struct AnimalClass {
    sound: Option<fn(&dyn Object) -> String>,
    legs: u32,
}

trait AnimalImpl: Object {
    fn sound(&self) -> String;
}

#[derive(Object)]
#[object(name = "animal", parent = ObjectBase, abstract, class_init = animal_class_init,
    instance_init = Animal::init, instance_post_init = Animal::post_init)]
struct Animal {
    parent: ObjectBase,
    /// Weight, as food is sold.
    #[property(default = Size(4096))]
    weight: Property<Size>,
    #[property(live, name = "pet-name")]
    name: Property<String>,
}

fn animal_class_init(class: &mut Class) {
    note("animal class");
    class.get_mut::<AnimalClass>().legs = 4;
}

impl Animal {
    fn init(&self) {
        note("animal init");
    }
    fn post_init(&self) {
        note("animal post");
    }
}

impl<T: AnimalImpl> ClassInit<T> for Animal {
    fn class_init(class: &mut Class) {
        class.get_mut::<AnimalClass>().sound = Some(|o| o.cast::<T>().map(T::sound).unwrap_or_default());
    }
}

trait Fetches: Send + Sync {
    fn fetch(&self) -> &'static str;
}

impl Interface for dyn Fetches {
    const TYPE_NAME: &'static str = "fetches";
}

#[derive(Object)]
#[object(name = "dog", parent = Animal, interfaces(dyn Fetches), class_init = dog_class_init,
    instance_init = Dog::init, instance_post_init = Dog::post_init)]
struct Dog {
    parent: Animal,
    #[property(default = 3)]
    age: Property<u8>,
    #[property]
    tricks: Property<Vec<String>>,
}

fn dog_class_init(_: &mut Class) {
    note("dog class");
}

impl Dog {
    fn init(&self) {
        note("dog init");
    }
    fn post_init(&self) {
        note("dog post");
    }
}

impl AnimalImpl for Dog {
    fn sound(&self) -> String {
        format!("{} says wuff", self.name.get())
    }
}

impl Fetches for Dog {
    fn fetch(&self) -> &'static str {
        "stick"
    }
}

fn register_animals() {
    type_register(<Dog as qom::ObjectType>::type_info());
    type_register(TypeInfo::interface::<dyn Fetches>());
    // A type without a struct of its own, as CPU models are.
    type_register(TypeInfo::new("hexadog", "dog", |class| class.get_mut::<AnimalClass>().legs = 6));
}
qom::type_init!(fn register_animals);
qom::type_init!(Animal);

fn setup() {
    module_call_init(qom::ModuleInitType::Qom);
}

#[test]
fn classes_and_instances_initialise_parent_first() {
    setup();
    ORDER.lock().unwrap().clear();
    // nextest runs each test in a process of its own, cargo test may have made the class before.
    object_new("dog").unwrap();
    let order = ORDER.lock().unwrap().join(",");
    assert!(order.ends_with("animal init,dog init,dog post,animal post"), "{order}");
    if let (Some(a), Some(d)) = (order.find("animal class"), order.find("dog class")) {
        assert!(a < d, "{order}");
    }
}

#[test]
fn tables_are_inherited_and_overridden() {
    setup();
    assert_eq!(class_by_name("dog").unwrap().get::<AnimalClass>().unwrap().legs, 4);
    let six = class_by_name("hexadog").unwrap();
    let table = six.get::<AnimalClass>().unwrap();
    assert_eq!(table.legs, 6);
    let object = object_new("hexadog").unwrap();
    object.property_set_str("pet-name", "Rex").unwrap();
    assert_eq!(table.sound.unwrap()(&*object), "Rex says wuff");
    assert!(six.is_a("animal") && six.is_a("fetches") && !six.is_a("container"));
}

#[test]
fn interfaces_are_found_through_the_class() {
    setup();
    let object = object_new("hexadog").unwrap();
    assert_eq!(object.interface::<dyn Fetches>().unwrap().fetch(), "stick");
    let names: Vec<_> = class_list("fetches", false).iter().map(|c| c.name()).collect();
    assert_eq!(names, ["dog", "hexadog"]);
}

#[test]
fn abstract_and_unknown_types_are_refused_by_name() {
    setup();
    assert_eq!(object_new("animal").err().unwrap().message, "object type 'animal' is abstract");
    assert_eq!(object_new("cat").err().unwrap().message, "invalid object type: cat");
}

#[test]
fn properties_read_both_dialects_and_name_what_is_wrong() {
    setup();
    let dog = object_new("dog").unwrap();
    dog.property_set_str("weight", "1.5k").unwrap();
    assert_eq!(dog.property_get("weight").unwrap(), 1536);
    dog.property_set_str("age", "0x10").unwrap();
    assert_eq!(dog.property_get("age").unwrap(), 16);
    dog.property_set_value("tricks", vec!["sit", "roll"]).unwrap();
    assert_eq!(dog.property_get("tricks").unwrap(), serde_json::json!(["sit", "roll"]));
    let error = |r: qom::Result<()>| r.unwrap_err().message;
    assert_eq!(error(dog.property_set_str("age", "256")), "Parameter 'age' expects uint8_t");
    assert_eq!(error(dog.property_set_str("age", "old")), "Parameter 'age' expects integer");
    assert_eq!(error(dog.property_set_value("age", "5")), "Parameter 'age' expects uint64");
    assert_eq!(error(dog.property_set_str("wings", "2")), "Property 'dog.wings' not found");
    dog.base().freeze(|object, name| format!("{}: too late for {name}", object.type_name()));
    assert_eq!(error(dog.property_set_str("age", "4")), "dog: too late for age");
    dog.property_set_str("pet-name", "Max").unwrap();
    dog.base().thaw();
    dog.property_set_str("age", "4").unwrap();
}

#[test]
fn defaults_and_descriptions_come_from_the_declaration() {
    setup();
    let class = class_by_name("dog").unwrap();
    let weight = class.property("weight").unwrap();
    assert_eq!(
        (weight.type_name.as_str(), weight.description.as_str()),
        ("size", "Weight, as food is sold.")
    );
    assert_eq!(weight.default, Some(4096.into()));
    assert_eq!(class.property("tricks").unwrap().type_name, "list<str>");
}

#[test]
fn the_tree_gives_paths_and_resolves_them() {
    setup();
    let root = object_get_root();
    let kennel = container_get(&root, "/kennel/left");
    let (a, b) = (object_new("dog").unwrap(), object_new("dog").unwrap());
    assert_eq!(kennel.property_add_child("dog[*]", &a).unwrap(), "dog[0]");
    assert_eq!(kennel.property_add_child("dog[*]", &b).unwrap(), "dog[1]");
    assert_eq!(b.canonical_path().unwrap(), "/kennel/left/dog[1]");
    assert!(Arc::ptr_eq(&object_resolve_path("/kennel/left/dog[1]").unwrap(), &b));
    assert!(Arc::ptr_eq(&object_resolve_path("left/dog[0]").unwrap(), &a));
    let elsewhere = container_get(&root, "/elsewhere");
    elsewhere.property_add_child("dog[0]", &object_new("dog").unwrap()).unwrap();
    assert_eq!(object_resolve_path("dog[0]").err(), Some(qom::path::ResolveError::Ambiguous));
    assert_eq!(kennel.property_get("dog[0]").unwrap(), "/kennel/left/dog[0]");
    a.unparent();
    assert!(object_resolve_path("/kennel/left/dog[0]").is_err());
    assert!(kennel.property_add_child("dog[1]", &a).is_err());
}
