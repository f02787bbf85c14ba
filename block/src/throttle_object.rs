//! `-object throttle-group`: limits that nodes and drives share, made before them (block/throttle-groups.c).

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use qapi::{At, QapiType, from_keyval};
use qom::property::{PropertyInput, PropertyType};
use qom::{Class, Object, ObjectBase, PropertyInfo, Result, UserCreatable, bail};
use serde_json::Value;

use crate::throttle::{Config, Kind, Limit};
use crate::throttle_group::{self, ThrottleGroup};

/// The object.
#[derive(Object)]
#[object(name = "throttle-group", parent = ObjectBase, interfaces(dyn UserCreatable), class_init = class_init)]
pub struct ThrottleGroupObject {
    parent: ObjectBase,
    /// What is allowed until there is a group.
    config: Mutex<Config>,
    group: OnceLock<Arc<ThrottleGroup>>,
}
qom::type_init!(ThrottleGroupObject);

/// Limits of a group. What is left out stays as it is.
#[derive(QapiType, Clone, Debug, Default)]
struct ThrottleLimits {
    iops_total: Option<i64>,
    iops_total_max: Option<i64>,
    iops_total_max_length: Option<i64>,
    iops_read: Option<i64>,
    iops_read_max: Option<i64>,
    iops_read_max_length: Option<i64>,
    iops_write: Option<i64>,
    iops_write_max: Option<i64>,
    iops_write_max_length: Option<i64>,
    bps_total: Option<i64>,
    bps_total_max: Option<i64>,
    bps_total_max_length: Option<i64>,
    bps_read: Option<i64>,
    bps_read_max: Option<i64>,
    bps_read_max_length: Option<i64>,
    bps_write: Option<i64>,
    bps_write_max: Option<i64>,
    bps_write_max_length: Option<i64>,
    iops_size: Option<i64>,
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl ThrottleLimits {
    /// Average, burst and its length of each kind, in the order of [`Kind::ALL`].
    fn parts(&mut self) -> [[&mut Option<i64>; 3]; 6] {
        [
            [&mut self.bps_total, &mut self.bps_total_max, &mut self.bps_total_max_length],
            [&mut self.bps_read, &mut self.bps_read_max, &mut self.bps_read_max_length],
            [&mut self.bps_write, &mut self.bps_write_max, &mut self.bps_write_max_length],
            [&mut self.iops_total, &mut self.iops_total_max, &mut self.iops_total_max_length],
            [&mut self.iops_read, &mut self.iops_read_max, &mut self.iops_read_max_length],
            [&mut self.iops_write, &mut self.iops_write_max, &mut self.iops_write_max_length],
        ]
    }

    fn of(config: &Config) -> ThrottleLimits {
        let mut limits = ThrottleLimits { iops_size: Some(signed(config.op_size)), ..Default::default() };
        for ([average, max, length], limit) in limits.parts().into_iter().zip(&config.limits) {
            *average = Some(signed(limit.average));
            *max = Some(signed(limit.max));
            *length = Some(signed(limit.length));
        }
        limits
    }

    /// Changes a configuration, which must make sense then (`throttle_limits_to_config`).
    fn apply(mut self, config: &mut Config) -> Result<()> {
        // A number that no limit can be fails the check.
        let set = |to: &mut u64, from: Option<i64>| {
            if let Some(value) = from {
                *to = u64::try_from(value).unwrap_or(u64::MAX);
            }
        };
        set(&mut config.op_size, self.iops_size);
        let kinds = Kind::ALL.iter().zip(&mut config.limits);
        for (((_, name), limit), [average, max, length]) in kinds.zip(self.parts()) {
            set(&mut limit.average, *average);
            set(&mut limit.max, *max);
            if let Some(value) = *length {
                limit.length = length_of(&format!("{name}-max-length"), value)?;
            }
        }
        config.check()
    }
}

/// The length of a burst, seconds.
fn length_of(name: &str, value: i64) -> Result<u64> {
    match u32::try_from(value) {
        Ok(value) => Ok(value.into()),
        Err(_) => bail!("{name} value must be in the range [0, {}]", u32::MAX),
    }
}

/// Which number of a configuration a property is.
type Part = fn(&mut Limit) -> &mut u64;
const PARTS: [(&str, Part); 3] = [
    ("", |limit| &mut limit.average),
    ("-max", |limit| &mut limit.max),
    ("-max-length", |limit| &mut limit.length),
];

fn class_init(class: &mut Class) {
    class.add_property(PropertyInfo {
        get: Some(Arc::new(|object| Ok(ThrottleLimits::of(&this(object)?.config()).to_json()))),
        set: Some(Arc::new(|object, input| this(object)?.set_limits(input))),
        live: true,
        ..PropertyInfo::new("limits", "ThrottleLimits")
    });
    for (kind, name) in Kind::ALL {
        for (suffix, part) in PARTS {
            let at = move |config: &mut Config| *part(&mut config.limits[kind as usize]);
            let is_length = suffix == "-max-length";
            let set = move |config: &mut Config, name: &str, value: i64| {
                let value = if is_length { length_of(name, value)? } else { value.unsigned_abs() };
                *part(&mut config.limits[kind as usize]) = value;
                Ok(())
            };
            add_number(class, &format!("x-{name}{suffix}"), at, set);
        }
    }
    let set = |config: &mut Config, _: &str, value: i64| {
        config.op_size = value.unsigned_abs();
        Ok(())
    };
    add_number(class, "x-iops-size", |config| config.op_size, set);
}

/// A property that can be set until there is a group: some combinations make no sense, so that they are changed
/// together then.
fn add_number(
    class: &mut Class,
    name: &str,
    get: impl Fn(&mut Config) -> u64 + Send + Sync + 'static,
    set: impl Fn(&mut Config, &str, i64) -> Result<()> + Send + Sync + 'static,
) {
    let own_name = name.to_owned();
    class.add_property(PropertyInfo {
        get: Some(Arc::new(move |object| Ok(signed(get(&mut this(object)?.config())).into()))),
        set: Some(Arc::new(move |object, input| {
            let this = this(object)?;
            if this.group.get().is_some() {
                bail!("Property cannot be set after initialization");
            }
            let value = i64::parse(&own_name, input)?;
            if value < 0 {
                bail!("Property values cannot be negative");
            }
            set(&mut this.config.lock(), &own_name, value)
        })),
        live: true,
        ..PropertyInfo::new(name, "int")
    });
}

fn this(object: &dyn Object) -> Result<&ThrottleGroupObject> {
    match object.cast() {
        Some(this) => Ok(this),
        None => bail!("not a throttle-group"),
    }
}

impl ThrottleGroupObject {
    fn config(&self) -> Config {
        self.group.get().map_or_else(|| *self.config.lock(), |group| group.config())
    }

    fn set_limits(&self, input: PropertyInput<'_>) -> Result<()> {
        let PropertyInput::Json(value) = input else {
            bail!("Invalid parameter type for 'limits', expected: object");
        };
        let is_text = |value: &Value| value.as_object().is_some_and(|map| map.values().all(Value::is_string));
        let limits: ThrottleLimits = match self.group.get() {
            // Of an option.
            None if is_text(value) => from_keyval(value.clone())?,
            _ => QapiType::from_json(value.clone(), At::Member(&At::Top, "limits"))?,
        };
        let mut config = self.config();
        limits.apply(&mut config)?;
        match self.group.get() {
            Some(group) => group.set_config(config),
            None => *self.config.lock() = config,
        }
        Ok(())
    }
}

impl UserCreatable for ThrottleGroupObject {
    fn complete(self: Arc<Self>) -> Result<()> {
        let name = self.base().parent().map(|(_, name)| name).unwrap_or_default();
        if throttle_group::find(&name).is_some() {
            bail!("A group with this name already exists");
        }
        let config = self.config();
        config.check()?;
        let group = throttle_group::group(&name);
        group.set_config(config);
        let _ = self.group.set(group);
        Ok(())
    }

    fn can_be_deleted(&self) -> bool {
        self.group.get().is_none_or(|group| Arc::strong_count(group) == 1)
    }
}
