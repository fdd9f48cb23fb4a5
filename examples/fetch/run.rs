//! The loop: jobs in, turns of the reactor, results out, until there is nothing left.
//!
//! The reactor nests in a poll of the program's own, beside the signal pipe and whichever of
//! standard input, standard output and the pipe that a body comes through can be polled. While none
//! of those is waited for, the reactor sleeps by itself, which saves a system call a turn; an
//! interrupt ends that sleep too, and the outer poll is looked at now and then.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use whippet::net::Net;
use whippet::{Error, Event, Kind, Phase, Reactor, Request, Settings};

use super::contents::Contents;
use super::cookies::Cookies;
use super::desk::{Desk, Slot, Verdict};
use super::jobs::Failure;
use super::output::{BACKLOG_BYTES_MAX, Closed, Output};
use super::progress::Progress;
use super::report::Report;
use super::setup::{Plan, Print, Way};
use super::signals::Interrupt;
use super::source;
use super::source::{Item, Next, Source};
use super::stdio::Outlet;
use super::summary::Summary;
use super::upload::Upload;
use super::verbose::Telling;

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    AllSucceeded,
    SomeFailed,
    Interrupted,
}

/// A run.
pub(crate) struct Run<N: Net> {
    reactor: Reactor<N>,
    poll: Poll,
    events: Events,
    interrupt: Interrupt,
    source: Source,
    /// What is read while it is sent.
    upload: Option<Upload>,
    /// A job that the reactor had no room for.
    held: Option<(Request, Slot)>,
    feeding: Feeding,
    desk: Desk,
    cookies: Cookies,
    /// The one fetch that is printed, while output cannot keep up.
    paused: Option<whippet::FetchId>,
    concurrency: usize,
    begun: Instant,
    looked: Instant,
    /// When the reactor told of something last.
    told: Instant,
    silent: bool,
    input_failed: bool,
    interrupted: bool,
}

/// Why no more jobs were submitted in this turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Feeding {
    /// The turn's share was; there is more.
    Spent,
    /// As many are in as a run without a pause needs.
    Ahead,
    /// There is no room, or no input yet.
    Waiting,
    /// There are no more.
    Over,
}

impl<N: Telling> Run<N> {
    /// Opens what the plan names, with the reactor that `make` makes. An error is one line.
    pub(crate) fn new(
        plan: Plan,
        make: impl FnOnce(Settings) -> Result<Reactor<N>, Error>,
    ) -> Result<Self, String> {
        let now = clock();
        let open = |error: io::Error| format!("cannot start: {error}");
        let poll = Poll::new().map_err(open)?;
        let interrupt = Interrupt::new(poll.registry(), SIGNAL).map_err(open)?;
        let concurrency = plan.settings.concurrency;
        let report = plan.report.map(|path| Report::new(&path, now)).transpose()?.map(Box::new);
        let pipe = plan.defaults.contents.as_ref().and_then(Contents::pipe);
        let upload = pipe.map(|path| Upload::open(path, poll.registry(), BODY)).transpose()?;
        let (source, ledger) = match plan.way {
            Way::Urls(urls) => (Source::of_urls(urls, plan.defaults), None),
            Way::Lines(path, format) => {
                let to = (poll.registry(), STDIN);
                let lines = Source::of_lines(&path, format, plan.defaults, to);
                (lines.map_err(|error| format!("{}: {error}", source::name_of(&path)))?, None)
            }
            Way::Demo(demo) => (Source::of_jobs(demo.jobs), Some(demo.ledger)),
        };
        let mut reactor = make(plan.settings).map_err(|error| match &*plan.tls_files {
            "" => error.to_string(),
            files => format!("{files}: {error}"),
        })?;
        plan.cookies.load(reactor.cookies_mut())?;
        let reactor_fd = reactor.as_fd().as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&reactor_fd), REACTOR, Interest::READABLE)
            .map_err(open)?;
        let outlet = Outlet::open(poll.registry(), STDOUT)
            .map_err(|error| format!("standard output: {error}"))?;
        let is_typed = source.is_typed() || upload.as_ref().is_some_and(Upload::is_typed);
        let busy_terminal = (plan.print == Print::Body && io::stdout().is_terminal())
            || (is_typed && io::stdin().is_terminal());
        let desk = Desk {
            slots: Slab::new(),
            output: Output::new(outlet, plan.ordered.then_some(concurrency.saturating_mul(4))),
            summary: Summary::new(plan.wanted, !plan.silent)?,
            progress: Progress::new(plan.silent, source.expected(), busy_terminal, now),
            ledger,
            report,
            files: plan.files,
            print: plan.print,
            wanted: plan.wanted,
            source_name: source.name().to_owned(),
            now,
            body_bytes: AHEAD_BYTES_MAX,
            scratch: Vec::new(),
        };
        Ok(Self {
            reactor,
            poll,
            events: Events::with_capacity(8),
            interrupt,
            source,
            upload,
            held: None,
            feeding: Feeding::Spent,
            desk,
            cookies: plan.cookies,
            paused: None,
            concurrency,
            begun: now,
            looked: now,
            told: now,
            silent: plan.silent,
            input_failed: false,
            interrupted: false,
        })
    }

    /// Runs until every job has its result, standard output is closed, or an interrupt.
    pub(crate) fn until_the_end(mut self) -> Ending {
        loop {
            self.feed();
            self.write(self.desk.slots.is_empty());
            if self.is_over() {
                return self.end();
            }
            if let Err(error) = self.sleep() {
                // Neither poll fails but for a defect; there is no going on without them.
                eprintln!("fetch: cannot wait: {error}");
                self.input_failed = true;
                return self.end();
            }
            self.desk.now = clock();
            let is_quiet = self.drain() == 0;
            if !is_quiet {
                self.told = self.desk.now;
            }
            self.send();
            self.tell();
            if self.interrupt.was_received() && !self.interrupted {
                self.stop();
            }
            self.write(is_quiet);
            let in_flight = self.reactor.in_flight();
            self.desk.progress.tick(self.desk.now, &self.desk.summary, in_flight);
        }
    }

    /// Submits jobs while there is room for them.
    fn feed(&mut self) {
        if self.feeding == Feeding::Over && self.held.is_none() {
            return;
        }
        for _ in 0..FEED_JOBS_MAX {
            if let Some((request, slot)) = self.held.take() {
                if !self.submit(request, slot) {
                    self.feeding = Feeding::Waiting;
                    return;
                }
                continue;
            }
            if !self.has_room() {
                self.feeding = match self.has_room_for(self.jobs_max_at_rest()) {
                    true => Feeding::Ahead,
                    false => Feeding::Waiting,
                };
                return;
            }
            self.feeding = match self.source.next(self.poll.registry()) {
                Ok(Next::Item(item)) => {
                    self.take(item);
                    continue;
                }
                Ok(Next::Busy) => Feeding::Spent,
                Ok(Next::Blocked) => Feeding::Waiting,
                Ok(Next::End) => Feeding::Over,
                Err(error) => {
                    self.desk.progress.aside(|| eprintln!("fetch: {error}"));
                    self.input_failed = true;
                    Feeding::Over
                }
            };
            return;
        }
        self.feeding = Feeding::Spent;
    }

    /// Whether another job may be taken in now.
    fn has_room(&self) -> bool {
        let is_at_rest = self.desk.now.saturating_duration_since(self.told) >= REST;
        let at_rest = self.jobs_max_at_rest();
        let at_work = self.concurrency.saturating_add(AHEAD_JOBS_AT_WORK_MAX).min(at_rest);
        self.has_room_for(if is_at_rest { at_rest } else { at_work })
    }

    fn has_room_for(&self, jobs_max: usize) -> bool {
        let next = self.desk.summary.ended() + self.desk.slots.len() as u64 + 1;
        self.desk.slots.len() < jobs_max && self.desk.output.has_room_for(next)
    }

    /// Those that are in will have their results even when nobody reads them: so where results
    /// have bodies, few jobs are taken in ahead, and fewer the larger the last bodies were.
    fn jobs_max_at_rest(&self) -> usize {
        if self.desk.print == (Print::Json { bodies: true }) {
            let ahead_max = self.concurrency.saturating_mul(4);
            (AHEAD_BYTES_MAX / self.desk.body_bytes.max(1)).clamp(self.concurrency, ahead_max)
        } else {
            self.concurrency.max(AHEAD_JOBS_MAX)
        }
    }

    fn take(&mut self, item: Item) {
        let Item { n, line, job } = item;
        let mut slot = Slot { n, id: job.id, url: job.url, ..Slot::default() };
        match job.request.and_then(|request| self.desk.aim(&mut slot, request)) {
            Ok(request) => {
                self.submit(request, slot);
            }
            Err(failure) => self.desk.refuse(&Slot { line, ..slot }, &failure),
        }
    }

    /// Hands a request to the reactor, or keeps it.
    fn submit(&mut self, request: Request, slot: Slot) -> bool {
        let entry = self.desk.slots.vacant_entry();
        match self.reactor.submit(request.tag(entry.key() as u64)) {
            Ok(id) => {
                entry.insert(Slot { fetch: Some(id), ..slot });
                true
            }
            Err(full) => {
                self.held = Some((full.request, slot));
                false
            }
        }
    }

    /// Waits for whatever comes first.
    fn sleep(&mut self) -> io::Result<()> {
        let now = self.desk.now;
        let mut patience = Some(LOOK_EVERY);
        let is_watching = self.desk.output.is_blocked()
            || self.upload.as_ref().is_some_and(Upload::is_blocked)
            || (self.source.is_blocked() && self.has_room() && self.feeding != Feeding::Over);
        if is_watching {
            let deadline = self.reactor.next_deadline();
            patience = deadline.map(|deadline| deadline.saturating_duration_since(now));
        }
        let others = [
            (self.feeding == Feeding::Spent).then_some(Duration::ZERO),
            (self.feeding == Feeding::Ahead).then_some(REST),
            self.desk.output.patience(),
            self.desk.progress.patience(now),
        ];
        for other in others.into_iter().flatten() {
            patience = Some(patience.map_or(other, |patience| patience.min(other)));
        }
        if is_watching {
            self.look(patience)?;
            return self.reactor.wait(Some(Duration::ZERO));
        }
        if now.saturating_duration_since(self.looked) >= LOOK_EVERY {
            self.look(Some(Duration::ZERO))?;
        }
        self.reactor.wait(patience)
    }

    /// Polls what is the program's own.
    fn look(&mut self, patience: Option<Duration>) -> io::Result<()> {
        self.looked = self.desk.now;
        match self.poll.poll(&mut self.events, patience) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in &self.events {
            match event.token() {
                STDIN => self.source.set_ready(),
                BODY => self.upload.iter_mut().for_each(Upload::set_ready),
                STDOUT if event.is_error() || event.is_write_closed() => {
                    self.desk.output.set_closed();
                }
                STDOUT => self.desk.output.set_ready(),
                SIGNAL => self.interrupt.drain(),
                // The reactor has its turn whatever the poll said.
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes the turn's events; says how many there were.
    fn drain(&mut self) -> usize {
        let mut events = 0;
        while let Some(event) = self.reactor.next_event() {
            events += 1;
            if let (Event::Writable { id, .. }, Some(upload)) = (&event, &mut self.upload) {
                upload.ask(*id);
            }
            match self.desk.receive(event) {
                Verdict::GoOn => {}
                Verdict::Pause(id) => {
                    self.reactor.pause(id);
                    self.paused = Some(id);
                }
                Verdict::Cancel(id) => {
                    self.reactor.cancel(id);
                }
            }
        }
        events
    }

    /// Sends on what is read while it is sent.
    fn send(&mut self) {
        let Some(upload) = &mut self.upload else { return };
        if let Err((id, error)) = upload.give(&mut self.reactor, self.poll.registry()) {
            self.reactor.cancel(id);
            self.desk.give_up(id, &Failure::new(Kind::Io, Phase::Send, error));
        }
    }

    /// Prints what the reactor tells of its steps.
    fn tell(&mut self) {
        if let Some(text) = N::told(&mut self.reactor) {
            self.desk.progress.aside(|| eprint!("{text}"));
        }
    }

    /// Writes what is due, and lets a paused fetch go on.
    fn write(&mut self, is_quiet: bool) {
        let Self { desk, poll, .. } = self;
        let is_due = desk.output.is_due(desk.now, is_quiet) || desk.slots.is_empty();
        if is_due && desk.output.backlog() > 0 {
            desk.progress.aside(|| desk.output.write(poll.registry()));
        }
        if desk.output.backlog() <= RESUME_BYTES_MAX
            && let Some(id) = self.paused.take()
        {
            self.reactor.resume(id);
        }
    }

    /// After an interrupt: no more jobs, and every one that was taken in has its result.
    fn stop(&mut self) {
        self.interrupted = true;
        self.feeding = Feeding::Over;
        let slots = std::mem::take(&mut self.desk.slots);
        let mut left: Vec<Slot> = slots.into_iter().map(|(_, slot)| slot).collect();
        left.extend(self.held.take().map(|(_, slot)| slot));
        left.sort_by_key(|slot| slot.n);
        for slot in left {
            if let Some(id) = slot.fetch {
                self.reactor.cancel(id);
            }
            self.desk.cancel(&slot);
        }
    }

    fn is_over(&self) -> bool {
        let is_fed = self.feeding == Feeding::Over && self.held.is_none();
        let output = &self.desk.output;
        output.closed().is_some() || (is_fed && self.desk.slots.is_empty() && output.backlog() == 0)
    }

    fn end(mut self) -> Ending {
        self.tell();
        self.desk.progress.end();
        match self.desk.output.closed() {
            // Quietly: whoever read has what they wanted.
            Some(Closed::ByReader) => self.silent = true,
            Some(Closed::ByError(error)) => {
                eprintln!("fetch: standard output: {error}");
                self.input_failed = true;
            }
            None => {}
        }
        if let Err(error) = self.cookies.save(self.reactor.cookies()) {
            eprintln!("fetch: {error}");
            self.input_failed = true;
        }
        let Desk { summary, ledger, report, now, .. } = &self.desk;
        if let Some(Err(error)) = report.as_ref().map(|report| report.write(*now)) {
            eprintln!("fetch: {error}");
            self.input_failed = true;
        }
        if !self.silent {
            eprint!("{}", summary.table(self.desk.now.saturating_duration_since(self.begun)));
            if let Some(ledger) = ledger {
                eprint!("{}", ledger.table());
            }
        }
        let is_good = match ledger {
            Some(ledger) => ledger.is_as_built(),
            None => summary.failed() == 0,
        };
        if self.interrupted {
            Ending::Interrupted
        } else if is_good && !self.input_failed {
            Ending::AllSucceeded
        } else {
            Ending::SomeFailed
        }
    }
}

/// Read once a turn; the reactor has its own.
#[allow(clippy::disallowed_methods, reason = "the program's clock")]
fn clock() -> Instant {
    Instant::now()
}

const REACTOR: Token = Token(0);
const SIGNAL: Token = Token(1);
const STDIN: Token = Token(2);
const STDOUT: Token = Token(3);
const BODY: Token = Token(4);

/// How often the outer poll is looked at while only the reactor is waited for: an interrupt that
/// comes in between looking and sleeping waits no longer than this.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Most jobs taken in between two turns of the reactor.
const FEED_JOBS_MAX: usize = 256;
/// Jobs taken in where their results are small: so many of a slow origin's can wait while others
/// have their turn. Some 32 MiB.
const AHEAD_JOBS_MAX: usize = 16_384;
/// As long as there is no rest, so many wait beyond those in flight: what they take stays in the
/// processor's cache, where 16,384 of them do not.
const AHEAD_JOBS_AT_WORK_MAX: usize = 1_024;
/// Nothing happens for so long: time to look further ahead.
const REST: Duration = Duration::from_millis(1);
/// What the bodies of jobs that were taken in may come to.
const AHEAD_BYTES_MAX: usize = 64 << 20;
/// Pending output below which a paused fetch goes on.
const RESUME_BYTES_MAX: usize = BACKLOG_BYTES_MAX / 16;
