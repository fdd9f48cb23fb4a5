//! Fetches one URL many times, 64 at once, and keeps nothing: the reactor's loop at its barest.
//!
//! `cargo run --release --example drain -- http://127.0.0.1:8080/ 10000`

#![forbid(unsafe_code)]

use whippet::{Event, Reactor, Request, Settings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("usage: drain URL [COUNT]")?;
    let count: u64 = args.next().map_or(Ok(10_000), |count| count.parse())?;

    let mut settings = Settings::default();
    settings.concurrency = 64;
    let mut reactor = Reactor::new(settings)?;
    let request = Request::get(url)?;
    let (mut submitted, mut done, mut failed, mut bytes) = (0, 0_u64, 0_u64, 0);

    // A clone costs a reference count, so that the steady state allocates nothing.
    while submitted < count.min(64) {
        reactor.submit(request.clone().tag(submitted))?;
        submitted += 1;
    }
    while reactor.pending() > 0 {
        reactor.wait(None)?;
        while let Some(event) = reactor.next_event() {
            match event {
                Event::Body { chunk, .. } => bytes += chunk.len(),
                Event::Done { .. } => done += 1,
                Event::Failed { tag, error, .. } => {
                    eprintln!("{tag}: {error}");
                    failed += 1;
                }
                _ => {}
            }
            if done + failed + 64 > submitted && submitted < count {
                reactor.submit(request.clone().tag(submitted))?;
                submitted += 1;
            }
        }
    }
    println!("{done} done, {failed} failed, {bytes} bytes of body");
    Ok(())
}
