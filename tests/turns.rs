//! Turns: each is finite, `wait` may come early, a nested descriptor loses no edge, and the
//! reactor's methods may be called while its events are taken.

mod support;

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use support::{Action, Latch, Origin, Reply, chunked, ok, refused_port, response};
use whippet::net::{Net, Readiness, ResolverFiles, SystemAnswer, Token};
use whippet::{Event, Limit, Reactor, Request, Settings, Timeouts};

/// No limits, no retries.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.timeouts = Timeouts::NONE;
    settings.retries = 0;
    settings
}

fn reactor(settings: Settings) -> Reactor {
    Reactor::new(settings).unwrap()
}

fn get(url: impl AsRef<str>, tag: u64) -> Request {
    Request::get(url).unwrap().tag(tag)
}

/// A server of one connection, whose body never ends.
fn endless() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]);
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        // Ends when the client has gone.
        while socket.write_all(&[b'x'; 64 << 10]).is_ok() {}
    });
    (address, thread)
}

#[test]
fn one_connection_at_full_speed_delays_nobody() {
    const ENDLESS: u64 = 1_000;
    const TIMER: u64 = 2_000;
    let (address, server) = endless();
    let small = Origin::plain(|_| ok("small"));
    let silent = Origin::plain(|_| Reply::new().silence());
    let mut reactor = reactor(settings());
    let endless = reactor.submit(get(format!("http://{address}/"), ENDLESS)).unwrap();
    let (mut small_ones, mut timer, mut bytes) = (0, false, 0_usize);
    let mut is_begun = false;
    while small_ones < 100 || !timer {
        if !is_begun && bytes > 1 << 20 {
            is_begun = true;
            for tag in 0..100 {
                reactor.submit(get(small.url("/"), tag)).unwrap();
            }
            let limited = get(silent.url("/"), TIMER);
            reactor.submit(limited.limit(Limit::FirstByte, Duration::from_millis(100))).unwrap();
        }
        reactor.wait(None).unwrap();
        let mut bytes_of_turn = 0;
        let mut events_of_turn = 0;
        while let Some(event) = reactor.next_event() {
            events_of_turn += 1;
            match event {
                Event::Body { tag: ENDLESS, chunk, .. } => bytes_of_turn += chunk.len(),
                Event::Done { tag: 0..100, .. } => small_ones += 1,
                Event::Failed { tag: TIMER, error, .. } => {
                    assert_eq!(error.limit(), Some(Limit::FirstByte));
                    timer = true;
                }
                Event::Head { .. } | Event::Body { tag: 0..100, .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(bytes_of_turn <= TURN_BYTES_MAX + READ_BYTES_MAX, "{bytes_of_turn}");
        // Three of each small one, and at most one for each KiB of the other.
        assert!(events_of_turn <= 3 * 101 + 257, "{events_of_turn}");
        bytes += bytes_of_turn;
    }
    assert_eq!(reactor.pending(), 1);
    assert!(reactor.cancel(endless));
    assert_eq!((reactor.pending(), reactor.in_flight()), (0, 0));
    assert_eq!(reactor.connections(), reactor.idle_connections());
    server.join().unwrap();
}

#[test]
fn a_body_that_is_left_for_the_next_turn_is_not_forgotten() {
    // Nothing more comes from the socket once this is in the kernel: no edge tells of the rest.
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let sent = body.clone();
    let origin = Origin::plain(move |_| response(200, &[], &sent));
    let mut reactor = reactor(settings());
    reactor.submit(get(origin.url("/"), 1)).unwrap();
    let mut got = Vec::new();
    while reactor.pending() > 0 {
        reactor.wait(None).unwrap();
        while let Some(event) = reactor.next_event() {
            if let Event::Body { chunk, .. } = event {
                got.extend_from_slice(chunk);
            }
        }
    }
    assert!(got == body);
}

/// Follows the documented recipe for embedding in an outer, edge-triggered poll.
fn embed(reactor: &mut Reactor, mut drain: impl FnMut(&mut Reactor)) {
    let mut outer = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let descriptor = reactor.as_fd().as_raw_fd();
    let token = mio::Token(0);
    outer.registry().register(&mut SourceFd(&descriptor), token, Interest::READABLE).unwrap();
    while reactor.pending() > 0 {
        #[allow(clippy::disallowed_methods, reason = "the outer loop has a clock of its own")]
        let now = Instant::now();
        let until = reactor.next_deadline().map(|at| at.saturating_duration_since(now));
        // A lost edge would be found by nobody.
        let patience = Duration::from_secs(20);
        outer.poll(&mut events, Some(until.unwrap_or(patience))).unwrap();
        assert!(!events.is_empty() || until.is_some(), "an edge was lost: {reactor:?}");
        reactor.wait(Some(Duration::ZERO)).unwrap();
        drain(reactor);
    }
}

#[test]
fn a_nested_descriptor_loses_no_edge() {
    let origin = Origin::plain(|seen| match &*seen.target {
        "/big" => response(200, &[], vec![b'x'; 1_000_000]),
        _ => ok("small"),
    });
    for events_max in [1, 3, 1_024] {
        let mut settings = settings();
        settings.events_per_wait_max = events_max;
        settings.concurrency = 50;
        let mut reactor = reactor(settings);
        for tag in 0..200 {
            let target = if tag % 50 == 0 { "/big" } else { "/" };
            reactor.submit(get(origin.url(target), tag)).unwrap();
        }
        let (mut done, mut bytes) = (0, 0);
        embed(&mut reactor, |reactor| {
            while let Some(event) = reactor.next_event() {
                match event {
                    Event::Done { .. } => done += 1,
                    Event::Body { chunk, .. } => bytes += chunk.len(),
                    Event::Failed { error, .. } => panic!("{error}"),
                    _ => {}
                }
            }
        });
        assert_eq!((done, bytes), (200, 4 * 1_000_000 + 196 * 5));
        assert_eq!((reactor.pending(), reactor.in_flight()), (0, 0));
        assert_eq!(reactor.connections(), reactor.idle_connections());
    }
}

#[test]
fn nested_timers_fire() {
    let silent = Origin::plain(|_| Reply::new().silence());
    let mut reactor = reactor(settings());
    for tag in 0..20 {
        let limit = Duration::from_millis(10 * tag);
        reactor.submit(get(silent.url("/"), tag).limit(Limit::FirstByte, limit)).unwrap();
    }
    let mut failed = Vec::new();
    embed(&mut reactor, |reactor| {
        while let Some(event) = reactor.next_event() {
            if let Event::Failed { tag, error, .. } = event {
                assert_eq!(error.limit(), Some(Limit::FirstByte));
                failed.push(tag);
            }
        }
    });
    failed.sort_unstable();
    assert_eq!(failed, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_wait_that_comes_early_loses_nothing() {
    let body: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
    let sent = body.clone();
    let origin = Origin::plain(move |seen| match &*seen.target {
        "/chunked" => chunked(&sent.chunks(10_000).collect::<Vec<_>>()),
        _ => response(200, &[], &sent),
    });
    let mut reactor = reactor(settings());
    for tag in 0..40 {
        let target = if tag % 2 == 0 { "/chunked" } else { "/" };
        reactor.submit(get(origin.url(target), tag)).unwrap();
    }
    let mut bodies = vec![Vec::new(); 40];
    let mut done = 0;
    while reactor.pending() > 0 {
        reactor.wait(None).unwrap();
        reactor.wait(Some(Duration::ZERO)).unwrap();
        // One event only; what else was found must not be lost, nor sleep come before it.
        match reactor.next_event() {
            Some(Event::Body { tag, chunk, .. }) => {
                bodies[usize::try_from(tag).unwrap()].extend_from_slice(chunk);
            }
            Some(Event::Done { .. }) => done += 1,
            Some(Event::Failed { error, .. }) => panic!("{error}"),
            _ => {}
        }
    }
    assert_eq!(done, 40);
    assert!(bodies.iter().all(|got| *got == body));
    assert_eq!(reactor.connections(), reactor.idle_connections());
}

#[test]
fn an_end_that_is_not_taken_yet_outlives_its_limits() {
    // 0.0.0.0/8 and multicast fail at once, within the turn.
    let request = get("http://255.255.255.255:9/", 1).timeout(Duration::from_millis(20));
    let mut reactor = reactor(settings());
    reactor.submit(request.clone()).unwrap();
    let refused = get(format!("http://{}/", refused_port()), 2);
    reactor.submit(refused.timeout(Duration::from_millis(20))).unwrap();
    let mut failed = 0;
    while failed < 2 {
        for _ in 0..3 {
            reactor.wait(Some(Duration::from_millis(30))).unwrap();
        }
        match reactor.next_event() {
            Some(Event::Failed { .. }) => failed += 1,
            None => {}
            other => panic!("{other:?}"),
        }
    }
    while reactor.next_event().is_some() {}
    assert_eq!((reactor.pending(), reactor.connections()), (0, 0));
    // And what has ended leaves no timer.
    reactor.submit(request.timeout(Duration::from_secs(3_600))).unwrap();
    while reactor.pending() > 0 {
        reactor.wait(None).unwrap();
        while reactor.next_event().is_some() {}
    }
    assert_eq!(reactor.next_deadline(), None);
    reactor.wait(Some(Duration::ZERO)).unwrap();
    assert!(reactor.next_event().is_none());
    assert_eq!(reactor.next_deadline(), None);
}

#[test]
fn the_next_deadline_is_past_while_work_is_queued_and_none_without_any() {
    #[allow(clippy::disallowed_methods, reason = "next_deadline is an instant of this clock")]
    let is_due = |reactor: &Reactor| reactor.next_deadline().is_some_and(|at| at <= Instant::now());
    let go = Latch::new();
    let gate = go.clone();
    let origin = Origin::plain(move |_| Reply::new().wait(&gate).then(Action::Send(OK.into())));
    let mut settings = settings();
    settings.timeouts.set(Limit::Total, Some(Duration::from_secs(3_600)));
    settings.concurrency = 1;
    let mut reactor = reactor(settings);
    assert_eq!(reactor.next_deadline(), None);
    let id = reactor.submit(get(origin.url("/"), 0)).unwrap();
    assert!(is_due(&reactor));
    assert!(reactor.cancel(id));
    assert_eq!(reactor.next_deadline(), None);

    reactor.submit(get(origin.url("/"), 1)).unwrap();
    let second = reactor.submit(get(origin.url("/"), 2)).unwrap();
    while origin.requests().is_empty() {
        reactor.wait(Some(Duration::from_millis(1))).unwrap();
        while reactor.next_event().is_some() {}
    }
    // One runs, and the other may not: there is nothing to do until an hour from now.
    assert!(!is_due(&reactor));
    assert!(reactor.next_deadline().is_some());
    assert!(reactor.cancel(second));
    go.release();
    let mut is_first = true;
    while reactor.pending() > 0 {
        reactor.wait(None).unwrap();
        while reactor.next_event().is_some() {
            // Events of this turn are left: due.
            assert!(!is_first || is_due(&reactor));
            is_first = false;
        }
    }
    // With no limit for idle connections there is no timer.
    assert_eq!((reactor.idle_connections(), reactor.next_deadline()), (1, None));
}

#[test]
fn submit_cancel_pause_and_resume_within_the_match() {
    let origin = Origin::plain(|seen| match &*seen.target {
        "/big" => response(200, &[], vec![b'x'; 1_000_000]),
        "/chunks" => chunked(&vec![vec![b'c'; 1_000]; 1_000]),
        _ => ok("small"),
    });
    let mut reactor = reactor(settings());
    let first = reactor.submit(get(origin.url("/big"), 0)).unwrap();
    let other = reactor.submit(get(origin.url("/chunks"), 1)).unwrap();
    let (mut submitted, mut paused) = (2, Vec::new());
    let (mut big, mut chunks) = (0, 0);
    let mut ended = Vec::new();
    while reactor.pending() > 0 {
        reactor.wait(None).unwrap();
        while let Some(event) = reactor.next_event() {
            match event {
                Event::Head { id, tag: 1, .. } => {
                    reactor.pause(id);
                    paused.push(id);
                }
                Event::Body { id, tag: 0, chunk, .. } => {
                    big += chunk.len();
                    if big > 500_000 {
                        assert_eq!(id, first);
                        assert!(reactor.cancel(id));
                        assert!(!reactor.cancel(id));
                        reactor.pause(id);
                        reactor.resume(id);
                        reactor.submit(get(origin.url("/small"), submitted)).unwrap();
                        submitted += 1;
                    }
                }
                Event::Body { id, tag: 1, chunk, .. } => {
                    assert_eq!(id, other);
                    chunks += chunk.len();
                    reactor.pause(id);
                    reactor.resume(id);
                    reactor.pause(id);
                    paused.push(id);
                }
                Event::Done { id, tag, .. } => {
                    ended.push(tag);
                    assert!(!reactor.cancel(id));
                    if submitted < 20 {
                        reactor.submit(get(origin.url("/small"), submitted)).unwrap();
                        submitted += 1;
                    }
                }
                Event::Failed { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
        paused.drain(..).for_each(|id| reactor.resume(id));
    }
    ended.sort_unstable();
    assert_eq!(ended, (1..20).collect::<Vec<_>>());
    assert_eq!(chunks, 1_000_000);
    assert_eq!(reactor.in_flight(), 0);
    assert_eq!(reactor.connections(), reactor.idle_connections());
}

#[test]
fn a_paused_fetch_costs_nothing_and_loses_nothing() {
    // Long enough that a read comes back full while it is paused.
    let origin = Origin::plain(|seen| match &*seen.target {
        "/chunked" => chunked(&vec![vec![b'c'; 100]; 5_000]),
        "/until-close" => {
            Reply::new().send("HTTP/1.1 200 OK\r\n\r\n").send(vec![b'c'; 500_000]).close()
        }
        _ => response(200, &[], vec![b'c'; 500_000]),
    });
    for target in ["/chunked", "/until-close", "/"] {
        let mut reactor = reactor(settings());
        let id = reactor.submit(get(origin.url(target), 1)).unwrap();
        let (mut bytes, mut is_paused) = (0, false);
        while reactor.pending() > 0 {
            // Resumed before the poll, so that what the poll finds comes upon what is kept.
            if std::mem::take(&mut is_paused) {
                reactor.wait(Some(Duration::from_millis(1))).unwrap();
                assert!(reactor.next_event().is_none());
                assert_eq!(reactor.next_deadline(), None);
                reactor.resume(id);
            }
            reactor.wait(None).unwrap();
            while let Some(event) = reactor.next_event() {
                match event {
                    Event::Body { chunk, .. } => {
                        assert!(!is_paused);
                        bytes += chunk.len();
                        if bytes % 70_000 < 2_000 {
                            reactor.pause(id);
                            is_paused = true;
                        }
                    }
                    Event::Failed { error, .. } => panic!("{target}: {error}"),
                    _ => {}
                }
            }
        }
        assert_eq!(bytes, 500_000, "{target}");
    }
}

/// A network whose clock is set by hand, and which notes for how long it was asked to sleep.
/// Connects stay unanswered.
#[derive(Clone)]
struct Still {
    epoch: Instant,
    now: Rc<Cell<Duration>>,
    slept: Rc<Cell<Option<Duration>>>,
}

impl Net for Still {
    type Stream = ();
    type Datagram = ();

    fn connect(&mut self, _: SocketAddr, _: Token) -> io::Result<()> {
        Ok(())
    }
    fn read(&mut self, (): &mut (), _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn write(&mut self, (): &mut (), _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn shutdown(&mut self, (): &mut ()) -> io::Result<()> {
        unreachable!("nothing is upgraded here")
    }
    fn take_error(&mut self, (): &mut ()) -> io::Result<Option<io::Error>> {
        Ok(None)
    }
    fn close(&mut self, (): ()) {}
    fn open_datagram(&mut self, _: SocketAddr, _: Token) -> io::Result<()> {
        Ok(())
    }
    fn send(&mut self, (): &mut (), datagram: &[u8]) -> io::Result<usize> {
        Ok(datagram.len())
    }
    fn receive(&mut self, (): &mut (), _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn close_datagram(&mut self, (): ()) {}
    fn wait(
        &mut self,
        timeout: Option<Duration>,
        until: Option<Duration>,
        _: &mut Vec<Readiness>,
    ) -> io::Result<bool> {
        let left = until.map(|until| until.saturating_sub(self.now.get()));
        let sleep = [timeout, left].into_iter().flatten().min();
        self.slept.set(sleep);
        self.now.set(self.now.get() + sleep.unwrap_or_default());
        Ok(false)
    }
    fn now(&mut self) -> Duration {
        self.now.get()
    }
    fn epoch(&self) -> Instant {
        self.epoch
    }
    fn wall(&mut self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
    fn random(&mut self, into: &mut [u8]) -> io::Result<()> {
        into.fill(7);
        Ok(())
    }
    fn resolver_files(&mut self) -> ResolverFiles {
        ResolverFiles::default()
    }
    fn start_system_lookup(&mut self, _: &str, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn next_system_answer(&mut self) -> Option<SystemAnswer> {
        None
    }
}

#[test]
fn a_sleep_is_measured_from_its_beginning() {
    let millis = Duration::from_millis;
    let net = Still {
        #[allow(clippy::disallowed_methods, reason = "any instant does")]
        epoch: Instant::now(),
        now: Rc::default(),
        slept: Rc::default(),
    };
    let (now, slept) = (Rc::clone(&net.now), Rc::clone(&net.slept));
    let mut reactor = Reactor::with_net(net, settings()).unwrap();
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);
    reactor.submit(get(format!("http://{address}/"), 1).timeout(millis(100))).unwrap();
    let begun = now.get();
    // It is admitted in the first of these turns, and its time begins with the second.
    for _ in 0..2 {
        reactor.wait(Some(millis(0))).unwrap();
        while reactor.next_event().is_some() {}
    }
    // The program was away for the greater part of the limit. A sleep from the turn's clock
    // would oversleep it by as much.
    now.set(now.get() + millis(70));
    reactor.wait(None).unwrap();
    assert!(slept.get().unwrap() <= millis(30), "{:?}", slept.get());
    let mut ended = 0;
    while ended == 0 {
        while let Some(event) = reactor.next_event() {
            assert!(matches!(event, Event::Failed { .. }));
            ended += 1;
        }
        reactor.wait(None).unwrap();
    }
    let took = now.get() - begun;
    assert!((millis(100)..=millis(101)).contains(&took), "{took:?}");
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// What one connection is given in a turn.
const TURN_BYTES_MAX: usize = 512 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
