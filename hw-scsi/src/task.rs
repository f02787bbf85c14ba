//! Commands under way at a device.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use block::backend::RequestMemory;

use crate::cdb::{Cdb, Direction};
use crate::plan::Plan;
use crate::sense::Sense;

/// What answers a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// There is no such command.
    InvalidOpcode,
    /// It has too much data.
    InvalidField,
    /// The guest must hear of something first.
    Attention(Sense),
    /// The target.
    Target,
    /// The device.
    Device,
}

/// A command that a device has looked at and not yet begun.
#[derive(Debug)]
pub struct Command {
    pub(crate) kind: Kind,
    pub(crate) cdb: Option<Cdb>,
    pub(crate) lun: u32,
    pub(crate) tag: u64,
}

impl Command {
    /// Bytes of data that it moves.
    pub fn transfer(&self) -> u64 {
        self.cdb.as_ref().map_or(0, |cdb| cdb.transfer)
    }

    /// Which way.
    pub fn direction(&self) -> Direction {
        self.cdb.as_ref().map_or(Direction::None, |cdb| cdb.direction)
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By itself.
    Done {
        /// Status ([`status`](crate::spec::status)).
        status: u8,
        /// What is wrong, with CHECK CONDITION.
        sense: Option<Sense>,
        /// Bytes that were not moved.
        residual: u64,
    },
    /// Its driver or its device's end called it off.
    Aborted,
    /// By a reset.
    Reset,
}

/// What is called when a command is done, and gets its memory back; on any thread, with no lock held.
pub type Done = Box<dyn FnOnce(Box<dyn RequestMemory>, Outcome) + Send>;

/// A command under way.
pub(crate) struct Task {
    pub id: u64,
    pub is_read: bool,
    /// It tells of a unit attention.
    pub is_attention: bool,
    pub plan: Plan,
    pub memory: Box<dyn RequestMemory>,
    pub done: Done,
}

/// What others know of it.
struct Entry {
    tag: u64,
    /// It is called off, to end so.
    cancelled: Option<Outcome>,
    /// Dropped when it is over.
    waiters: Vec<Arc<dyn Any + Send + Sync>>,
}

/// All that are under way.
#[derive(Default)]
pub(crate) struct Tasks {
    next: u64,
    entries: BTreeMap<u64, Entry>,
    /// Those that an error stopped the machine at, to be tried again.
    stopped: Vec<Task>,
    /// The device goes: no more come.
    closed: bool,
}

impl Tasks {
    /// Notes a command; `None` where no more are taken.
    pub fn begin(&mut self, tag: u64) -> Option<u64> {
        if self.closed {
            return None;
        }
        self.next += 1;
        self.entries.insert(self.next, Entry { tag, cancelled: None, waiters: Vec::new() });
        Some(self.next)
    }

    /// No more are taken.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether one is called off.
    pub fn is_cancelled(&self, id: u64) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.cancelled.is_some())
    }

    /// One is over: how it ends if it was called off, and who waits for that.
    pub fn end(&mut self, id: u64) -> (Option<Outcome>, Vec<Arc<dyn Any + Send + Sync>>) {
        self.entries.remove(&id).map_or((None, Vec::new()), |entry| (entry.cancelled, entry.waiters))
    }

    /// An error stops the machine: keeps a command until it goes on, unless it is called off.
    pub fn stop(&mut self, task: Task) -> Result<(), Task> {
        if self.is_cancelled(task.id) {
            return Err(task);
        }
        self.stopped.push(task);
        Ok(())
    }

    /// Takes those that are to be tried again.
    pub fn take_stopped(&mut self) -> Vec<Task> {
        std::mem::take(&mut self.stopped)
    }

    /// Whether there is one with this tag, or any.
    pub fn has(&self, tag: Option<u64>) -> bool {
        self.entries.values().any(|entry| tag.is_none_or(|tag| entry.tag == tag))
    }

    /// Calls off those with this tag, or all. `waiter` is dropped when all are over. Those that wait for the machine to
    /// go on are given back, to be ended.
    pub fn cancel(
        &mut self,
        tag: Option<u64>,
        how: Outcome,
        waiter: Option<&Arc<dyn Any + Send + Sync>>,
    ) -> Vec<Task> {
        for entry in self.entries.values_mut().filter(|entry| tag.is_none_or(|tag| entry.tag == tag)) {
            entry.cancelled.get_or_insert(how);
            entry.waiters.extend(waiter.cloned());
        }
        let entries = &self.entries;
        let called_off =
            |task: &mut Task| entries.get(&task.id).is_none_or(|entry| entry.cancelled.is_some());
        self.stopped.extract_if(.., called_off).collect()
    }
}
