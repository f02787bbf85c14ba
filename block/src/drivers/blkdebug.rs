//! `blkdebug`: injects errors into what passes through (block/blkdebug.c).

use std::io;

use parking_lot::Mutex;
use qom::{Result, bail};
use util::config::{Group, parse as parse_config};

use super::filter::Filter;
use crate::breakpoints::Breakpoints;
use crate::driver::{Child, DebugEvent};
use crate::node::{Inherited, open_ref};
use crate::options::{BlkdebugIOType, BlkdebugInjectError, BlkdebugSetState, BlockdevOptionsBlkdebug};

/// Size of a sector in bytes.
const SECTOR: u64 = 512;
/// The error that is injected where none is named: EIO.
const EIO: i64 = 5;

/// Passes requests on, except where a rule says that they fail.
pub struct Blkdebug {
    image: Child,
    config: Option<String>,
    /// Rules see requests as if they were whole multiples of this.
    align: u64,
    rules: Mutex<Rules>,
    breakpoints: Breakpoints,
}

struct Rules {
    state: i64,
    inject: Vec<Inject>,
    set_state: Vec<BlkdebugSetState>,
}

struct Inject {
    rule: BlkdebugInjectError,
    /// Its event has come.
    active: bool,
}

impl Blkdebug {
    pub(crate) fn open(options: &BlockdevOptionsBlkdebug, mode: Inherited) -> Result<Self> {
        let mut inject = options.inject_error.clone().unwrap_or_default();
        let mut set_state = options.set_state.clone().unwrap_or_default();
        if let Some(path) = &options.config {
            read_config(path, &mut inject, &mut set_state)?;
        }
        if let Some(rule) = set_state.iter().find(|rule| rule.event == DebugEvent::None) {
            bail!("Invalid event for set-state: '{}'", rule.event.as_str());
        }
        let align = options.align.filter(|align| *align != 0).unwrap_or(1);
        if !align.is_power_of_two() || align >= i32::MAX as u64 {
            bail!("Cannot meet constraints with align {align}");
        }
        let image = open_ref(&options.image, mode)?;
        let inject =
            inject.into_iter().map(|rule| Inject { active: rule.event == DebugEvent::None, rule }).collect();
        let rules = Mutex::new(Rules { state: 1, inject, set_state });
        Ok(Blkdebug {
            image: Child::new("image", image),
            config: options.config.clone(),
            align,
            rules,
            breakpoints: Breakpoints::default(),
        })
    }

    /// The error that is to be injected into a request.
    fn check(&self, iotype: BlkdebugIOType, offset: u64, bytes: u64) -> io::Result<()> {
        let mut rules = self.rules.lock();
        let end = offset.saturating_add(bytes).checked_next_multiple_of(self.align).unwrap_or(u64::MAX);
        let aligned = offset & !(self.align - 1)..end;
        let hit = |inject: &Inject| {
            let rule = &inject.rule;
            // Rules from before the kinds were told apart leave out what came later.
            let kind = match rule.iotype {
                Some(wanted) => wanted == iotype,
                None => iotype != BlkdebugIOType::BlockStatus,
            };
            let sector = match rule.sector {
                Some(sector) if sector >= 0 => {
                    let at = (sector as u64).saturating_mul(SECTOR);
                    aligned.contains(&at)
                }
                _ => true,
            };
            inject.active && kind && sector
        };
        let Some(at) = rules.inject.iter().position(hit) else { return Ok(()) };
        let errno = rules.inject[at].rule.errno.unwrap_or(EIO);
        if rules.inject[at].rule.once == Some(true) {
            rules.inject.remove(at);
        }
        match i32::try_from(errno) {
            Ok(0) => Ok(()),
            Ok(errno) => Err(io::Error::from_raw_os_error(errno)),
            Err(_) => Err(io::Error::from_raw_os_error(EIO as i32)),
        }
    }
}

fn number(section: &Group, name: &str) -> Result<Option<i64>> {
    let Some((_, text)) = section.options.iter().rev().find(|(known, _)| known == name) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => bail!("Parameter '{name}' expects a number"),
    }
}

fn event(section: &Group) -> Result<DebugEvent> {
    let given =
        section.options.iter().rev().find(|(name, _)| name == "event").map(|(_, value)| value.as_str());
    let Some(name) = given else { bail!("Missing event name for rule") };
    match DebugEvent::by_name(name) {
        Some(event) => Ok(event),
        None => bail!("Invalid event name \"{name}\""),
    }
}

fn flag(section: &Group, name: &str) -> Result<Option<bool>> {
    let Some((_, text)) = section.options.iter().rev().find(|(known, _)| known == name) else {
        return Ok(None);
    };
    match util::cutils::parse_bool(text) {
        Some(value) => Ok(Some(value)),
        None => bail!("Parameter '{name}' expects 'on' or 'off'"),
    }
}

/// Reads rules from a file of sections `[inject-error]` and `[set-state]`.
fn read_config(
    path: &str,
    inject: &mut Vec<BlkdebugInjectError>,
    set_state: &mut Vec<BlkdebugSetState>,
) -> Result<()> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => bail!("Could not read blkdebug config file: {}", util::log::OsError(error)),
    };
    let sections = parse_config(path, &text)
        .map_err(|e| qom::Error::new(format!("Could not parse blkdebug config file: {e}")))?;
    for section in &sections {
        match section.name.as_str() {
            "inject-error" => inject.push(BlkdebugInjectError {
                event: event(section)?,
                state: number(section, "state")?,
                iotype: None,
                errno: number(section, "errno")?,
                sector: number(section, "sector")?,
                once: flag(section, "once")?,
                immediately: flag(section, "immediately")?,
            }),
            "set-state" => set_state.push(BlkdebugSetState {
                event: event(section)?,
                state: number(section, "state")?,
                new_state: number(section, "new_state")?.unwrap_or(0),
            }),
            other => bail!("There is no option group '{other}'"),
        }
    }
    Ok(())
}

impl Filter for Blkdebug {
    const FORMAT: &'static str = "blkdebug";

    fn below(&self) -> &Child {
        &self.image
    }

    fn before(&self, what: BlkdebugIOType, offset: u64, bytes: u64) -> io::Result<()> {
        self.check(what, offset, bytes)
    }

    fn name_of_file(&self) -> Option<String> {
        // Rules that came as options do not fit into a line.
        let image = self.image.node.driver().filename()?;
        self.rules
            .lock()
            .inject
            .is_empty()
            .then(|| format!("blkdebug:{}:{image}", self.config.as_deref().unwrap_or_default()))
    }

    fn notice(&self, event: DebugEvent) {
        let mut rules = self.rules.lock();
        let state = rules.state;
        let applies = |wanted: DebugEvent, in_state: Option<i64>| {
            wanted == event && in_state.is_none_or(|wanted| wanted == 0 || wanted == state)
        };
        for inject in &mut rules.inject {
            if applies(inject.rule.event, inject.rule.state) {
                inject.active = true;
            }
        }
        let next = rules.set_state.iter().rev().find(|rule| applies(rule.event, rule.state));
        if let Some(next) = next.map(|rule| rule.new_state) {
            rules.state = next;
        }
        drop(rules);
        self.breakpoints.hit(event);
    }

    fn own_breakpoints(&self) -> Option<&Breakpoints> {
        Some(&self.breakpoints)
    }

    fn let_go(&self) -> bool {
        let held = self.breakpoints.clear();
        self.image.node.driver().release() || held
    }
}
