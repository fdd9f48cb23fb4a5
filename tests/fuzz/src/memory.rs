//! Counts the bytes that are allocated and not freed, over all inputs of a run. Past a limit the
//! process aborts, which libFuzzer reports as a crash: an allocation without bound fails at the
//! input that causes it, a leak after many.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grow(size);
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(place, layout, size) }
    }
}

fn grow(size: usize) {
    let live = LIVE_BYTES.fetch_add(size, Ordering::Relaxed);
    // A panic's backtrace takes more, and is a crash anyway.
    let most = ALLOWED_BYTES.load(Ordering::Relaxed);
    if live.saturating_add(size) > most && !std::thread::panicking() {
        LIVE_BYTES.store(0, Ordering::Relaxed);
        eprintln!("an allocation of {size} bytes, with {live} live: more than {most}");
        std::process::abort();
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static ALLOWED_BYTES: AtomicUsize = AtomicUsize::new(LIVE_BYTES_MAX);

/// Allows more: for targets whose inputs may ask for a decoder's window.
pub fn allow(bytes: usize) {
    ALLOWED_BYTES.store(bytes, Ordering::Relaxed);
}

/// An input is some KiB; what is made of it is far below this.
const LIVE_BYTES_MAX: usize = 4 << 20;
