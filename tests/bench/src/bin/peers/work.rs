//! Requests shared among tasks or threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use whippet_bench::Failure;
use whippet_bench::meter::{Meter, Tally, nanoseconds};
use whippet_bench::plan::Plan;

pub(crate) struct Work {
    left: AtomicU64,
    done: AtomicU64,
    bytes: AtomicU64,
    allocations: AtomicU64,
    is_timing: bool,
    nanoseconds: Mutex<Vec<u64>>,
}

impl Work {
    pub(crate) fn new(plan: &Plan) -> Result<Arc<Self>, Failure> {
        Ok(Arc::new(Self {
            left: AtomicU64::new(plan.requests()?),
            done: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            allocations: AtomicU64::new(0),
            is_timing: plan.is_set("latency"),
            nanoseconds: Mutex::default(),
        }))
    }

    /// Takes one more request; when it began, where that is asked for. `None`: none is left.
    pub(crate) fn next(&self) -> Option<Option<Instant>> {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.checked_sub(1)?, Ordering::Relaxed);
        Some(self.is_timing.then(Instant::now))
    }

    /// As [`Self::next`], where other threads take, too.
    pub(crate) fn next_of_threads(&self) -> Option<Option<Instant>> {
        let taken =
            self.left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.is_ok().then(|| self.is_timing.then(Instant::now))
    }

    pub(crate) fn done(&self, began: Option<Instant>, bytes: u64) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(began) = began {
            let took = nanoseconds(began.elapsed());
            self.nanoseconds.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        }
    }

    pub(crate) fn add_allocations(&self, count: u64) {
        self.allocations.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn finish(&self, mut meter: Meter) -> Result<(), Failure> {
        meter.note_all(&self.nanoseconds.lock().unwrap_or_else(PoisonError::into_inner));
        meter.finish(Tally {
            done: self.done.load(Ordering::Relaxed),
            failed: 0,
            bytes: self.bytes.load(Ordering::Relaxed),
            allocations: self.allocations.load(Ordering::Relaxed),
        })
    }
}

/// Runs as many tasks as requests are to be in flight, on tokio's one thread.
pub(crate) fn on_tokio<F>(plan: &Plan, task: impl Fn(Arc<Work>) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = Work::new(plan)?;
    let at_once = plan.at_once()?;
    let meter = Meter::start(plan)?;
    runtime.block_on(async {
        let tasks: Vec<_> = (0..at_once).map(|_| tokio::spawn(task(Arc::clone(&work)))).collect();
        for task in tasks {
            task.await??;
        }
        Ok::<_, Failure>(())
    })?;
    work.finish(meter)
}
