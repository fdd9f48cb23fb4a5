//! What becomes of each event: heads and bodies to where they are wanted, ends to results.
//!
//! It knows every job that was submitted and has not ended, by the slot whose number is the
//! request's tag; it does not know the reactor. What the reactor should do about an event is what
//! [`Desk::receive`] returns.

use std::time::Instant;

use serde_json::Value;
use slab::Slab;
use whippet::url::Url;
use whippet::{Event, FetchId, Head, Headers, Hop, Kind, Phase, Request, Response, Stats};

use super::demo::Ledger;
use super::files::{Files, Owner};
use super::jobs::Failure;
use super::output::Output;
use super::part::{Part, Target};
use super::progress::Progress;
use super::record::{Answer, Ended, push_plain, write_headers};
use super::report::Report;
use super::setup::Print;
use super::summary::{Summary, Wanted};
use super::values::shown;

/// Everything that results go through.
pub(crate) struct Desk {
    pub(crate) slots: Slab<Slot>,
    pub(crate) output: Output,
    pub(crate) summary: Summary,
    pub(crate) progress: Progress,
    pub(crate) ledger: Option<Box<Ledger>>,
    pub(crate) report: Option<Box<Report>>,
    pub(crate) files: Option<Files>,
    pub(crate) print: Print,
    pub(crate) wanted: Wanted,
    /// Where lines come from.
    pub(crate) source_name: String,
    /// The turn's clock.
    pub(crate) now: Instant,
    /// About the largest of the last bodies that were collected.
    pub(crate) body_bytes: usize,
    /// Where a result is put together.
    pub(crate) scratch: Vec<u8>,
}

/// A job that was taken in and has not ended.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) n: u64,
    /// Set where the input's line could not become a request.
    pub(crate) line: Option<u64>,
    pub(crate) id: Option<Value>,
    pub(crate) url: Option<Box<str>>,
    pub(crate) fetch: Option<FetchId>,
    pub(crate) answer: Option<Answer>,
    pub(crate) bytes: u64,
    /// Where its body goes, where that was to be known beforehand.
    pub(crate) target: Option<Target>,
    pub(crate) part: Option<Part>,
}

/// What the reactor should do about an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    GoOn,
    /// Output cannot keep up with this fetch.
    Pause(FetchId),
    /// There is nowhere for it to go; its result was printed.
    Cancel(FetchId),
}

impl Desk {
    /// Takes an event.
    pub(crate) fn receive(&mut self, event: Event<'_>) -> Verdict {
        match event {
            Event::Head { id, tag, head, url, redirects } => {
                let went = self.receive_head(key_of(tag), &head, url, redirects);
                self.unless_failed(key_of(tag), id, went)
            }
            Event::Body { id, tag, chunk } => {
                let went = self.receive_body(key_of(tag), chunk);
                match self.unless_failed(key_of(tag), id, went) {
                    Verdict::GoOn if self.output.backlog() > STREAM_BYTES_MAX => Verdict::Pause(id),
                    verdict => verdict,
                }
            }
            Event::Done { tag, stats, trailers, response, .. } => {
                self.receive_done(key_of(tag), &stats, trailers, response);
                Verdict::GoOn
            }
            Event::Failed { tag, error, stats, url, redirects, partial, .. } => {
                let key = key_of(tag);
                if let (Print::Json { .. }, Some(slot)) = (self.print, self.slots.get_mut(key)) {
                    slot.answer.get_or_insert_with(|| Answer::missing(url, redirects));
                }
                self.receive_failed(key, &Failure::from(&error), &stats, partial);
                Verdict::GoOn
            }
            _ => Verdict::GoOn,
        }
    }

    /// Asks for the rest, where a GET's body goes to a file of which an earlier run left some.
    pub(crate) fn aim(&mut self, slot: &mut Slot, request: Request) -> Result<Request, Failure> {
        let Some(files) = &mut self.files else { return Ok(request) };
        if request.method() != "GET" {
            return Ok(request);
        }
        let url = slot.url.as_deref().unwrap_or_default();
        let owner = Owner { n: slot.n, id: slot.id.as_ref(), url };
        let failed = |error| Failure::new(Kind::Io, Phase::Request, error);
        slot.target = files.target(owner).map_err(failed)?;
        match &slot.target {
            Some(target) => target.ask(request).map_err(|error| Failure::from(&error)),
            None => Ok(request),
        }
    }

    /// Ends a job that never was a fetch, or is none any more.
    pub(crate) fn refuse(&mut self, slot: &Slot, failure: &Failure) {
        self.finish(slot, None, &[], &Stats::default(), Some(failure));
    }

    /// Ends a job whose fetch was cancelled for this reason.
    pub(crate) fn give_up(&mut self, id: FetchId, failure: &Failure) {
        let found = self.slots.iter().find(|(_, slot)| slot.fetch == Some(id));
        if let Some(slot) = found.map(|(key, _)| key).and_then(|key| self.slots.try_remove(key)) {
            self.refuse(&slot, failure);
        }
    }

    /// Ends a job because of an interrupt.
    pub(crate) fn cancel(&mut self, slot: &Slot) {
        let failure =
            Failure::new(Kind::Cancelled, Phase::Request, "cancelled by an interrupt".to_owned());
        self.refuse(slot, &failure);
    }

    fn receive_head(
        &mut self,
        key: usize,
        head: &Head<'_>,
        url: &Url,
        redirects: &[Hop],
    ) -> Result<(), String> {
        let answer = self.answer_of(head, url, redirects);
        let wanted = self.wants_body_of(&answer);
        let Some(slot) = self.slots.get_mut(key) else { return Ok(()) };
        if let (Some(files), true) = (&mut self.files, wanted) {
            let url = slot.url.as_deref().unwrap_or_default();
            let owner = Owner { n: slot.n, id: slot.id.as_ref(), url };
            slot.part = Some(files.begin(owner, slot.target.as_ref(), head)?);
        }
        if let (Some(target), 416) = (&slot.target, answer.status) {
            target.forget();
        }
        if self.print == Print::Head {
            self.scratch.clear();
            push_head(&mut self.scratch, head, &answer);
            self.output.push(&self.scratch, self.now);
        }
        slot.answer = Some(answer);
        Ok(())
    }

    fn receive_body(&mut self, key: usize, chunk: &[u8]) -> Result<(), String> {
        let Some(slot) = self.slots.get_mut(key) else { return Ok(()) };
        slot.bytes = slot.bytes.saturating_add(chunk.len() as u64);
        if let Some(part) = &mut slot.part {
            part.write(chunk)?;
        }
        let wanted = !slot.answer.as_ref().is_some_and(|a| self.wanted.refuses(a.status));
        if self.print == Print::Body && wanted {
            self.output.push(chunk, self.now);
        }
        Ok(())
    }

    fn receive_done(
        &mut self,
        key: usize,
        stats: &Stats,
        trailers: Headers<'_>,
        response: Option<Response>,
    ) {
        let Some(mut slot) = self.slots.try_remove(key) else { return };
        let mut encoded = Vec::new();
        if trailers.size_hint().0 > 0 {
            write_headers(&mut encoded, trailers);
        }
        if let Some(response) = response {
            return self.finish_collected(slot, &response, stats, None);
        }
        let kept = slot.part.take().map_or(Ok(()), Part::keep);
        let failure = kept.err().map(|error| Failure::new(Kind::Io, Phase::Body, error));
        self.finish(&slot, None, &encoded, stats, failure.as_ref());
    }

    fn receive_failed(
        &mut self,
        key: usize,
        failure: &Failure,
        stats: &Stats,
        partial: Option<Response>,
    ) {
        let Some(mut slot) = self.slots.try_remove(key) else { return };
        slot.part = None;
        match partial {
            Some(response) => self.finish_collected(slot, &response, stats, Some(failure)),
            None => self.finish(&slot, None, &[], stats, Some(failure)),
        }
    }

    /// A body has nowhere to go: the fetch ends here.
    fn unless_failed(&mut self, key: usize, id: FetchId, went: Result<(), String>) -> Verdict {
        let Err(error) = went else { return Verdict::GoOn };
        if let Some(slot) = self.slots.try_remove(key) {
            self.refuse(&slot, &Failure::new(Kind::Io, Phase::Body, error));
        }
        Verdict::Cancel(id)
    }

    fn finish_collected(
        &mut self,
        mut slot: Slot,
        response: &Response,
        stats: &Stats,
        failure: Option<&Failure>,
    ) {
        let mut trailers = Vec::new();
        if response.trailers().size_hint().0 > 0 {
            write_headers(&mut trailers, response.trailers());
        }
        let body = response.body();
        slot.answer = Some(self.answer_of(&response.head(), response.url(), response.redirects()));
        slot.bytes = body.len() as u64;
        self.body_bytes = body.len().max(self.body_bytes - self.body_bytes / 64);
        self.finish(&slot, Some(body), &trailers, stats, failure);
    }

    fn finish(
        &mut self,
        slot: &Slot,
        body: Option<&[u8]>,
        trailers: &[u8],
        stats: &Stats,
        failure: Option<&Failure>,
    ) {
        let ended = Ended {
            n: slot.n,
            id: slot.id.as_ref(),
            url: slot.url.as_deref(),
            line: slot.line,
            answer: slot.answer.as_ref(),
            trailers,
            body: body.filter(|_| self.print == Print::Json { bodies: true }),
            bytes: slot.bytes,
            stats,
            failure,
        };
        let succeeded = self.summary.receive(&ended);
        if let Some(report) = &mut self.report {
            report.receive(&ended, succeeded, self.now);
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.receive(&ended);
        }
        self.scratch.clear();
        match self.print {
            Print::Json { .. } => ended.write_json(&mut self.scratch),
            Print::Lines => ended.write_line(&self.source_name, &mut self.scratch),
            Print::Body | Print::Head | Print::Nothing => {
                if !succeeded && self.ledger.is_none() {
                    self.progress.aside(|| eprintln!("fetch: {}", in_words(&ended)));
                }
            }
        }
        self.output.push_result(slot.n, &self.scratch, self.now);
    }

    fn answer_of(&self, head: &Head<'_>, url: &Url, redirects: &[Hop]) -> Answer {
        // A line shows the status alone; the reason is for a single fetch whose status fails it.
        let is_shown = match self.print {
            Print::Json { .. } | Print::Head => true,
            Print::Body | Print::Nothing => self.wanted != Wanted::Anything,
            Print::Lines => false,
        };
        if is_shown { Answer::of(head, url, redirects) } else { Answer::status_of(head) }
    }

    fn wants_body_of(&self, answer: &Answer) -> bool {
        !self.wanted.refuses(answer.status)
    }
}

/// A slot's key was the request's tag.
fn key_of(tag: u64) -> usize {
    usize::try_from(tag).unwrap_or(usize::MAX)
}

/// Status line and fields, as they came.
fn push_head(out: &mut Vec<u8>, head: &Head<'_>, answer: &Answer) {
    out.extend_from_slice(format!("{} {} ", answer.version, answer.status).as_bytes());
    out.extend_from_slice(head.reason());
    out.push(b'\n');
    for (name, value) in head.headers() {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// Why a single fetch failed.
fn in_words(ended: &Ended<'_>) -> String {
    let url = shown(ended.url.unwrap_or_default());
    plain(&match (ended.failure, ended.answer) {
        (Some(failure), _) => format!("{url}: {}", failure.message),
        (None, Some(answer)) => format!("{url}: {} {}", answer.status, answer.reason),
        (None, None) => url.into_owned(),
    })
}

/// One line, whatever a server or the input said.
fn plain(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    push_plain(&mut line, text);
    line
}

/// Pending output past which a body that goes to standard output is paused.
const STREAM_BYTES_MAX: usize = 1 << 20;
