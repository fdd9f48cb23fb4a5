//! whippet as a client of the benchmark.
//!
//! `whippet CLIENT url=… requests=N at_once=N…`, where CLIENT is
//! - `reactor`: events; no body is kept. With `collect`, whole responses;
//! - `client`: whole responses, from `Client::as_completed`, or one after another from `get`;
//! - `names`: as `reactor`, but over `origins` origins by name, one in twenty failing;
//! - `shared`: as `reactor`, but over `origins` origins, one after another; `slow` is one of them.

use std::iter;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use whippet::{
    Client, Event, Limit, Reactor, Request, ResolverChoice, Roots, Settings, TlsSettings,
};
use whippet_bench::Failure;
use whippet_bench::gate::Gate;
use whippet_bench::meter::{Counting, Meter, Tally, nanoseconds};
use whippet_bench::plan::Plan;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<(), Failure> {
    let plan = Plan::from_args()?;
    match plan.client.as_str() {
        "reactor" => {
            let request = Request::get(plan.url()?)?.collect(plan.is_set("collect"));
            stream(&plan, |nth| Ok(request.clone().tag(nth)))
        }
        "client" if plan.at_once()? == 1 => one_by_one(&plan),
        "client" => complete(&plan),
        "names" => by_name(&plan),
        "shared" => share(&plan),
        other => Err(format!("no client is called {other}").into()),
    }
}

fn settings(plan: &Plan) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    settings.concurrency = usize::try_from(plan.at_once()?)?;
    settings.idle_connections_max = settings.concurrency.max(256);
    settings.waiting_requests_max = settings.concurrency.max(8_192);
    // A response is as long as it is; and a figure that hides a second attempt is none.
    settings.body_bytes_max = u64::MAX;
    settings.retries = 0;
    settings.timeouts.set(Limit::Total, Some(Duration::from_secs(120)));
    if plan.is_tls() {
        let mut tls = TlsSettings::new()
            .with_roots(Roots::OnlyAdded)
            .add_ca_pem(std::fs::read(plan.authority_file()?)?);
        if !plan.is_set("resume") {
            tls = tls.with_resumed_servers(0);
        }
        settings.tls = Arc::new(tls);
    }
    if let Some(server) = plan.get("dns") {
        settings.dns_servers = vec![server.parse()?];
        settings.resolver = ResolverChoice::Builtin;
    }
    Ok(settings)
}

/// Submits each request when one before it has ended. A tag says whose place a request has.
fn stream(plan: &Plan, request: impl Fn(u64) -> Result<Request, Failure>) -> Result<(), Failure> {
    let requests = plan.requests()?;
    let mut reactor = Reactor::new(settings(plan)?)?;
    let mut gate = plan.gate()?;
    let mut meter = Meter::start(plan)?;
    let mut tally = Tally::default();
    let mut began = Vec::new();
    while began.len() < usize::try_from(plan.at_once()?.min(requests))? {
        let place = began.len() as u64;
        began.push(meter.now());
        reactor.submit(request(place)?.tag(place))?;
    }
    let mut submitted = began.len() as u64;
    loop {
        while let Some(event) = reactor.next_event() {
            let place = match event {
                Event::Body { chunk, .. } => {
                    tally.bytes += chunk.len() as u64;
                    continue;
                }
                Event::Done { tag, response, .. } => {
                    tally.add(response.map_or(0, |response| response.body().len() as u64));
                    tag
                }
                Event::Failed { tag, error, .. } => {
                    if !plan.is_set("failing") {
                        eprintln!("{error}");
                    }
                    tally.failed += 1;
                    tag
                }
                _ => continue,
            };
            let began = &mut began[usize::try_from(place)?];
            meter.note(*began);
            if submitted < requests {
                *began = meter.now();
                reactor.submit(request(submitted)?.tag(place))?;
                submitted += 1;
            }
        }
        if reactor.pending() == 0 {
            return meter.finish(tally);
        }
        let timeout = gate.as_mut().map(Gate::step).transpose()?.flatten();
        reactor.wait(timeout)?;
    }
}

/// Whole responses, as they complete.
fn complete(plan: &Plan) -> Result<(), Failure> {
    let mut client = Client::with_settings(settings(plan)?)?;
    let request = Request::get(plan.url()?)?;
    let requests = iter::repeat_n(request, usize::try_from(plan.requests()?)?);
    let mut meter = Meter::start(plan)?;
    let mut tally = Tally::default();
    for completed in client.as_completed(requests) {
        match completed.result {
            Ok(response) => {
                tally.add(response.body().len() as u64);
                // Requests are taken ahead of their turn: only whippet knows when one was admitted.
                meter.note_all(&[nanoseconds(response.stats().timings.total)]);
            }
            Err(error) => {
                eprintln!("{error}");
                tally.failed += 1;
            }
        }
    }
    meter.finish(tally)
}

/// Whole responses, one after another.
fn one_by_one(plan: &Plan) -> Result<(), Failure> {
    let mut client = Client::with_settings(settings(plan)?)?;
    let request = Request::get(plan.url()?)?;
    let mut meter = Meter::start(plan)?;
    let mut tally = Tally::default();
    for _ in 0..plan.requests()? {
        let began = meter.now();
        tally.add(client.fetch(request.clone())?.body().len() as u64);
        meter.note(began);
    }
    meter.finish(tally)
}

/// Each origin in turn, by its name; one request in twenty fails: half of those because the name
/// does not exist, half because nobody listens.
fn by_name(plan: &Plan) -> Result<(), Failure> {
    let origins = plan.number("origins", 1)?;
    let port = plan.address()?.port();
    stream(plan, |nth| {
        // Once round, each origin gets its turn to fail.
        let origin = nth % origins;
        let url = match (nth + nth / origins) % 40 {
            0 => format!("http://none{origin}.test:{port}/{nth}"),
            20 => format!("http://o{origin}.test:1/{nth}"),
            _ => format!("http://o{origin}.test:{port}/{nth}"),
        };
        Ok(Request::get(url)?)
    })
}

/// Each origin has as many requests as another. Prints how long all took, and all but `slow`.
fn share(plan: &Plan) -> Result<(), Failure> {
    let origins = plan.number("origins", 1_u8)?;
    let port = plan.address()?.port();
    let slow = plan.number("slow", origins)?;
    let mut reactor = Reactor::new(settings(plan)?)?;
    let began = Instant::now();
    for nth in 0..plan.requests()? {
        let origin = u8::try_from(nth % u64::from(origins))?;
        let host = Ipv4Addr::new(127, 0, 1, origin);
        let request = Request::get(format!("http://{host}:{port}/"))?;
        reactor.submit(request.tag(u64::from(origin)))?;
    }
    let (mut others, mut done) = (Duration::ZERO, 0);
    while reactor.pending() > 0 {
        reactor.wait(None)?;
        while let Some(event) = reactor.next_event() {
            match event {
                Event::Done { tag, .. } => {
                    done += 1;
                    if tag != u64::from(slow) {
                        others = began.elapsed();
                    }
                }
                Event::Failed { error, .. } => return Err(error.into()),
                _ => {}
            }
        }
    }
    println!(
        r#"{{"done": {done}, "failed": 0, "wall_us": {}, "others_us": {}}}"#,
        began.elapsed().as_micros(),
        others.as_micros()
    );
    Ok(())
}
