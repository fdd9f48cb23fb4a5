//! Plain HTTP over kept connections, in the steady state, submitting clones: the library allocates
//! nothing. Counted by an allocator, for this thread only: the origin's threads do as they like.

#![allow(unsafe_code, reason = "an allocator cannot be written without")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, SystemTime};

use support::{Origin, chunked, ok, response};
use whippet::{Event, Reactor, Request, Settings};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it is; the counter is a
// const-initialised cell without a destructor, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
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

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Fetches until `count` are done, `IN_FLIGHT` at a time, and returns the bytes of their bodies.
fn fetch(reactor: &mut Reactor, requests: &[Request], count: u64) -> usize {
    let (mut submitted, mut done, mut bytes) = (0, 0, 0);
    while done < count {
        while submitted < count && submitted - done < IN_FLIGHT {
            let nth = usize::try_from(submitted).unwrap() % requests.len();
            reactor.submit(requests[nth].clone().tag(submitted)).unwrap();
            submitted += 1;
        }
        reactor.wait(Some(Duration::from_secs(20))).unwrap();
        while let Some(event) = reactor.next_event() {
            match event {
                Event::Body { chunk, .. } => bytes += chunk.len(),
                Event::Done { .. } => done += 1,
                Event::Failed { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
    }
    bytes
}

#[track_caller]
fn assert_no_allocation(origins: &[Origin], bytes_each: usize) {
    let mut settings = Settings::default();
    settings.concurrency = 64;
    let mut reactor = Reactor::new(settings).unwrap();
    // What is kept of other hosts costs nothing.
    let elsewhere = "http://cookies.example/".parse().unwrap();
    reactor.cookies_mut().store(&elsewhere, b"a=b; Path=/", SystemTime::UNIX_EPOCH).unwrap();
    let requests: Vec<_> =
        origins.iter().map(|origin| Request::get(origin.url("/")).unwrap()).collect();
    fetch(&mut reactor, &requests, 1_000);
    // Steady is a round that needs no connection more than the one before.
    let allocations = (0..20).find_map(|_| {
        let (before, connections) = (ALLOCATIONS.get(), reactor.connections());
        let bytes = fetch(&mut reactor, &requests, 1_000);
        let made = ALLOCATIONS.get() - before;
        assert_eq!(bytes, 1_000 * bytes_each);
        (reactor.connections() == connections).then_some(made)
    });
    assert_eq!(allocations, Some(0));
    assert_eq!((reactor.pending(), reactor.in_flight()), (0, 0));
    assert_eq!(reactor.connections(), reactor.idle_connections());
}

#[test]
fn this_thread_is_counted() {
    let before = ALLOCATIONS.get();
    let list = vec![1, 2, 3];
    assert_eq!(ALLOCATIONS.get() - before, 1);
    drop(list);
}

#[test]
fn small_responses_allocate_nothing() {
    assert_no_allocation(&[Origin::plain(|_| ok("hello"))], 5);
}

#[test]
fn responses_without_a_body_allocate_nothing() {
    assert_no_allocation(&[Origin::plain(|_| response(204, &[("X-Some", "thing")], ""))], 0);
}

#[test]
fn longer_and_chunked_bodies_allocate_nothing() {
    assert_no_allocation(&[Origin::plain(|_| ok(vec![b'x'; 100_000]))], 100_000);
    assert_no_allocation(&[Origin::plain(|_| chunked(&[[b'x'; 1_000]; 10]))], 10_000);
}

#[test]
fn many_origins_allocate_nothing() {
    let origins: Vec<_> = (0..8).map(|_| Origin::plain(|_| ok("hello"))).collect();
    assert_no_allocation(&origins, 5);
}

const IN_FLIGHT: u64 = 64;
