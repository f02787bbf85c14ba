//! Commands from their begin to their end.

use std::any::Any;
use std::io;
use std::sync::Arc;

use block::backend::{BlockErrorAction, Op, Request, RequestMemory};
use hw_block::conf;

use super::ScsiDisk;
use crate::cdb::{Cdb, Direction};
use crate::disk::{Disk, Reply};
use crate::plan::{self, Plan, StepMemory};
use crate::sense::{Sense, of_error};
use crate::spec::status;
use crate::target;
use crate::task::{Command, Done, Kind, Outcome, Task};

const GOOD: Outcome = Outcome::Done { status: status::GOOD, sense: None, residual: 0 };

fn check_condition(sense: Sense) -> Outcome {
    Outcome::Done { status: status::CHECK_CONDITION, sense: Some(sense), residual: 0 }
}

/// Gives a command its memory back from a request of its own.
fn with_memory_of(mut task: Task, request: Request) -> Task {
    let memory: Box<dyn Any> = request.memory;
    if let Ok(memory) = memory.downcast::<StepMemory>() {
        task.memory = memory.into_guest();
    }
    task
}

impl ScsiDisk {
    /// Carries out a command with the guest's memory, of which it uses no more than `Command::transfer`; `done` is
    /// called when it is over.
    pub fn run(self: &Arc<Self>, command: Command, memory: Box<dyn RequestMemory>, done: Done) {
        let Some(id) = self.tasks.lock().begin(command.tag) else { return done(memory, Outcome::Aborted) };
        let task = Task {
            id,
            is_read: command.direction() == Direction::FromDevice,
            is_attention: matches!(command.kind, Kind::Attention(_)),
            plan: Plan::of([]),
            memory,
            done,
        };
        let Some(cdb) = &command.cdb else {
            return self.end(task, check_condition(Sense::INVALID_OPCODE));
        };
        match command.kind {
            Kind::InvalidOpcode => self.end(task, check_condition(Sense::INVALID_OPCODE)),
            Kind::InvalidField => self.end(task, check_condition(Sense::INVALID_FIELD)),
            Kind::Attention(sense) => self.end(task, check_condition(sense)),
            Kind::Target => self.run_at_target(task, cdb, command.lun),
            Kind::Device => self.run_at_disk(task, cdb),
        }
    }

    fn run_at_target(self: &Arc<Self>, task: Task, cdb: &Cdb, lun: u32) {
        let Some(bus) = self.scsi_bus() else { return self.end(task, Outcome::Aborted) };
        let sense = self.with_disk(|disk| disk.state.sense);
        match target::execute(self, &bus, cdb, lun, sense) {
            Ok(data) => {
                plan::scatter(&*task.memory, &data);
                let residual = cdb.transfer.saturating_sub(data.len() as u64);
                if cdb.opcode() == crate::spec::op::REPORT_LUNS {
                    self.luns_reported(&bus);
                }
                self.end(task, Outcome::Done { status: status::GOOD, sense: None, residual });
            }
            Err(sense) => self.end(task, check_condition(sense)),
        }
    }

    /// The guest knows now which logical units there are.
    fn luns_reported(&self, bus: &crate::ScsiBus) {
        let changed = Some(Sense::REPORTED_LUNS_CHANGED);
        let forget = |waiting: &mut Option<Sense>| waiting.take_if(|sense| Some(*sense) == changed);
        self.with_disk(|disk| forget(&mut disk.state.unit_attention));
        forget(&mut bus.unit_attention().lock());
    }

    fn run_at_disk(self: &Arc<Self>, mut task: Task, cdb: &Cdb) {
        let takes_data = cdb.direction == Direction::ToDevice && !Disk::moves_blocks(cdb);
        let data = match takes_data {
            true => plan::gather(&*task.memory, cdb.transfer.min(crate::disk::MAX_DATA) as usize),
            false => Vec::new(),
        };
        let medium = self.medium();
        let reply = self.with_disk(|disk| Some(disk.execute(cdb, &data, &medium)));
        let reply = reply.unwrap_or(Reply::Check(Sense::TARGET_FAILURE));
        self.count_invalid(cdb, &reply);
        match reply {
            Reply::Check(sense) => self.end(task, check_condition(sense)),
            Reply::Data(mut data) => {
                if cdb.direction == Direction::FromDevice {
                    data.resize(usize::try_from(cdb.transfer).unwrap_or(0), 0);
                    plan::scatter(&*task.memory, &data);
                }
                self.end(task, GOOD);
            }
            Reply::Io(plan) => {
                task.plan = plan;
                self.proceed(task);
            }
            Reply::Tray(open) => {
                self.tray_moved(open);
                self.end(task, GOOD);
            }
            Reply::WriteCache(on) => {
                let Some(backend) = self.backend() else { return self.end(task, GOOD) };
                if let Some(on) = on {
                    backend.set_write_cache(on);
                }
                if !backend.write_cache() {
                    task.plan = Plan::flush();
                }
                self.proceed(task);
            }
        }
    }

    /// Counts what cannot be done as asked; of other commands than UNMAP it is not counted (`block_acct_invalid`).
    fn count_invalid(&self, cdb: &Cdb, reply: &Reply) {
        let is_refused = match reply {
            Reply::Check(_) => true,
            Reply::Io(plan) => plan.failure.is_some(),
            _ => false,
        };
        if cdb.opcode() == crate::spec::op::UNMAP
            && is_refused
            && let Some(backend) = self.backend()
        {
            backend.stats.count_invalid(Op::Discard);
        }
    }

    /// Goes on with what a command has the backend do. Requests that need no waiting are over at once; the loop is for
    /// them.
    fn proceed(self: &Arc<Self>, mut task: Task) {
        loop {
            if self.tasks.lock().is_cancelled(task.id) {
                return self.end(task, Outcome::Aborted);
            }
            let (Some(step), Some(backend)) = (task.plan.now(), self.backend()) else {
                let outcome = task.plan.failure.map_or(GOOD, check_condition);
                return self.end(task, outcome);
            };
            let guest = std::mem::replace(&mut task.memory, Box::new(()));
            let memory = Box::new(StepMemory::of(&step, guest));
            let request = Request { op: step.op, offset: step.offset, bytes: step.bytes, memory };
            let this = self.clone();
            let over = backend.submit_with(request, task, move |task, request, result| {
                if let Some(task) = this.step_done(with_memory_of(task, request), result) {
                    this.proceed(task);
                }
            });
            let Some((over, request, result)) = over else { return };
            match self.step_done(with_memory_of(over, request), result) {
                Some(next) => task = next,
                None => return,
            }
        }
    }

    /// A request of the backend's is over; the command, if it goes on (`scsi_handle_rw_error`).
    fn step_done(&self, mut task: Task, result: io::Result<()>) -> Option<Task> {
        let Err(error) = result else {
            task.plan.advance();
            return Some(task);
        };
        let Some(backend) = self.backend() else {
            self.end(task, check_condition(Sense::TARGET_FAILURE));
            return None;
        };
        if self.tasks.lock().is_cancelled(task.id) {
            return Some(task);
        }
        match conf::error_action(backend, task.is_read, &error) {
            BlockErrorAction::Ignore => {
                task.plan.advance();
                Some(task)
            }
            BlockErrorAction::Report => {
                let (status, sense) = of_error(&error);
                self.end(task, Outcome::Done { status, sense, residual: 0 });
                None
            }
            // One that is called off ends where it goes on.
            BlockErrorAction::Stop => self.tasks.lock().stop(task).err(),
        }
    }

    /// A command is over.
    pub(super) fn end(&self, task: Task, outcome: Outcome) {
        let (cancelled, waiters) = self.tasks.lock().end(task.id);
        let outcome = cancelled.unwrap_or(outcome);
        if let Outcome::Done { sense, .. } = outcome {
            self.with_disk(|disk| {
                // Those who are told of a unit attention need not ask.
                disk.state.sense = sense.filter(|_| !task.is_attention);
                if task.is_attention {
                    disk.unit_attention_reported();
                }
            });
        }
        (task.done)(task.memory, outcome);
        drop(waiters);
    }

    /// The machine goes on: what it was stopped for is tried again.
    pub(super) fn try_again(self: &Arc<Self>) {
        let stopped = self.tasks.lock().take_stopped();
        if stopped.is_empty() {
            return;
        }
        if let Some(backend) = self.backend() {
            backend.reset_io_status();
        }
        stopped.into_iter().for_each(|task| self.proceed(task));
    }
}
