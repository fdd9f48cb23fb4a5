//! Floor 2. When each job has something to do: a heap whose first entry always counts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::job::Job;
use crate::kit::arena::{Arena, Key};
use crate::kit::moment::Moment;

/// A job may have several entries; the one at its `due` counts. The others are dropped when they
/// come first, so that each costs its own insertion and removal and no more.
pub(super) struct Timers<W> {
    heap: BinaryHeap<Reverse<(Moment, Key<Job<W>>)>>,
}

impl<W> Timers<W> {
    pub(super) const fn new() -> Self {
        Self { heap: BinaryHeap::new() }
    }

    /// When the first job has something to do.
    pub(super) fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// Sees to it that the job's timer fires at its deadline or before.
    pub(super) fn arm(&mut self, key: Key<Job<W>>, job: &mut Job<W>) {
        let due = job.deadline();
        if due < job.due {
            job.due = due;
            self.heap.push(Reverse((due, key)));
        }
    }

    /// Takes a job that is due by now. It has no timer until it is armed again.
    pub(super) fn next_due(
        &mut self,
        jobs: &mut Arena<Job<W>>,
        now: Moment,
    ) -> Option<Key<Job<W>>> {
        while let Some(Reverse((due, key))) = self.heap.peek().copied()
            && due <= now
        {
            self.heap.pop();
            if let Some(job) = jobs.get_mut(key)
                && job.due == due
            {
                job.due = Moment::NEVER;
                return Some(key);
            }
        }
        None
    }

    /// Drops the first entries that no longer count, and moves those that fire too early.
    pub(super) fn prune(&mut self, jobs: &mut Arena<Job<W>>) {
        while let Some(Reverse((due, key))) = self.heap.peek().copied() {
            match jobs.get_mut(key) {
                Some(job) if job.due == due && job.deadline() == due => return,
                Some(job) if job.due == due => {
                    self.heap.pop();
                    job.due = Moment::NEVER;
                    self.arm(key, job);
                }
                _ => {
                    self.heap.pop();
                }
            }
        }
    }
}
