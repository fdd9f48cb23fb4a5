//! What a stretch of work costs this process, and how it is told.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::json;

use crate::Failure;
use crate::plan::Plan;

/// The system's allocator, with each thread's calls counted.
pub struct Counting;

// SAFETY: every call is passed on to the system's allocator as it is; the counter is a
// const-initialised cell without a destructor, which allocates nothing.
#[allow(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(place, layout, size) }
    }
}

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Allocations that this thread has made.
pub fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// From `start` to `finish`, of the whole process.
pub struct Meter {
    usage: Usage,
    began: Instant,
    allocations: u64,
    /// Of each request, where that is asked for.
    nanoseconds: Option<Vec<u64>>,
}

/// What a client saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub done: u64,
    pub failed: u64,
    /// Of bodies.
    pub bytes: u64,
    /// By other threads than that of the meter.
    pub allocations: u64,
}

impl Tally {
    /// One more response.
    pub fn add(&mut self, bytes: u64) {
        self.done += 1;
        self.bytes += bytes;
    }
}

impl Meter {
    pub fn start(plan: &Plan) -> Result<Self, Failure> {
        let requests = usize::try_from(plan.requests()?)?;
        let nanoseconds = plan.is_set("latency").then(|| Vec::with_capacity(requests));
        Ok(Self {
            nanoseconds,
            usage: getrusage(UsageWho::RUSAGE_SELF)?,
            began: Instant::now(),
            allocations: allocations(),
        })
    }

    /// The time at which a request begins, where latencies are asked for.
    pub fn now(&self) -> Option<Instant> {
        self.nanoseconds.as_ref().map(|_| Instant::now())
    }

    pub fn note(&mut self, began: Option<Instant>) {
        if let (Some(list), Some(began)) = (&mut self.nanoseconds, began) {
            list.push(nanoseconds(began.elapsed()));
        }
    }

    pub fn note_all(&mut self, nanoseconds: &[u64]) {
        if let Some(list) = &mut self.nanoseconds {
            list.extend(nanoseconds);
        }
    }

    /// Prints the line.
    pub fn finish(self, tally: Tally) -> Result<(), Failure> {
        let allocations = allocations() - self.allocations + tally.allocations;
        let wall = self.began.elapsed();
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let between = |of: fn(&Usage) -> TimeVal| (of(&usage) - of(&self.usage)).num_microseconds();
        let switches = |usage: &Usage| {
            usage.voluntary_context_switches() + usage.involuntary_context_switches()
        };
        let mut line = json!({
            "done": tally.done,
            "failed": tally.failed,
            "bytes": tally.bytes,
            "user_us": between(Usage::user_time),
            "sys_us": between(Usage::system_time),
            "wall_us": nanoseconds(wall) / 1_000,
            "switches": switches(&usage) - switches(&self.usage),
            "allocations": allocations,
            "rss_kib": usage.max_rss(),
        });
        if let Some(mut list) = self.nanoseconds {
            list.sort_unstable();
            for (name, part) in [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)] {
                line[name] = json!(quantile(&list, part));
            }
        }
        println!("{line}");
        Ok(())
    }
}

/// Five hundred years fit.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn quantile(sorted: &[u64], part: f64) -> Option<f64> {
    let nanoseconds = sorted.get((sorted.len() as f64 * part) as usize).or(sorted.last())?;
    Some(*nanoseconds as f64 / 1e3)
}
