//! A program that owns its loop: the reactor is one source among others in its poll.
//!
//! `cargo run --example embed -- http://127.0.0.1:8080/`

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use whippet::{Event, Reactor, Request, Settings};

const FETCHES: Token = Token(0);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: embed URL")?;
    let mut reactor = Reactor::new(Settings::default())?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(16);
    let descriptor = reactor.as_fd().as_raw_fd();
    poll.registry().register(&mut SourceFd(&descriptor), FETCHES, Interest::READABLE)?;

    for tag in 0..10 {
        reactor.submit(Request::get(&url)?.tag(tag))?;
    }
    while reactor.pending() > 0 {
        // Sleep in the program's own poll, but never past the reactor's next deadline.
        match poll.poll(&mut events, time_left(&reactor)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        // Other sources of the program would be looked at here.
        reactor.wait(Some(Duration::ZERO))?;
        while let Some(event) = reactor.next_event() {
            match event {
                Event::Head { tag, head, .. } => println!("{tag}: {}", head.status()),
                Event::Done { tag, stats, .. } => println!("{tag}: {:?}", stats.timings.total),
                Event::Failed { tag, error, .. } => println!("{tag}: {error}"),
                _ => {}
            }
        }
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "the program reads its own clock")]
fn time_left(reactor: &Reactor) -> Option<Duration> {
    let deadline = reactor.next_deadline()?;
    Some(deadline.saturating_duration_since(Instant::now()))
}
