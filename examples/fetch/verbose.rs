//! What `-v` prints: each step of each fetch, as a person reads curl's.
//!
//! In go the reactor's steps; out come lines for standard error: `* ` what happened, `> ` what was
//! sent, `< ` what came. Values that are credentials are not in them, whoever's they are.

use std::collections::HashMap;
use std::fmt::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use whippet::net::{Net, OsNet, Traced};
use whippet::{Because, FetchId, Head, Reactor, SentHead, Stats, Step, Trace, TraceEvent};

use super::record::push_plain;

/// A network whose reactor may have something to say.
pub(crate) trait Telling: Net + AsFd + Sized {
    /// What it has to say since it was asked last.
    fn told(reactor: &mut Reactor<Self>) -> Option<String>;
}

impl Telling for OsNet {
    fn told(_: &mut Reactor<Self>) -> Option<String> {
        None
    }
}

impl Telling for Traced<OsNet, Verbose> {
    fn told(reactor: &mut Reactor<Self>) -> Option<String> {
        let text = &mut reactor.watcher_mut().text;
        (!text.is_empty()).then(|| std::mem::take(text))
    }
}

/// Puts lines together.
pub(crate) struct Verbose {
    /// There is one fetch, and no need to say whose a line is.
    is_single: bool,
    text: String,
    submitted: u64,
    numbers: HashMap<FetchId, u64>,
    /// Of connections: whose they were last.
    sockets: HashMap<u64, u64>,
}

impl Verbose {
    pub(crate) fn new(is_single: bool) -> Self {
        Self {
            is_single,
            text: String::new(),
            submitted: 0,
            numbers: HashMap::new(),
            sockets: HashMap::new(),
        }
    }

    /// One line, whatever is in it.
    fn line(&mut self, mark: char, whose: Option<u64>, words: &str) {
        self.text.push(mark);
        if let (Some(number), false) = (whose, self.is_single) {
            // Writing to a string does not fail.
            let _ = write!(self.text, " [{number}]");
        }
        if !words.is_empty() {
            self.text.push(' ');
            push_plain(&mut self.text, words);
        }
        self.text.push('\n');
    }

    fn sent(&mut self, whose: Option<u64>, head: SentHead<'_>, body_bytes: Option<u64>) {
        self.line('>', whose, &String::from_utf8_lossy(head.line()));
        for (name, value) in head.fields() {
            let field = [name, b": ", value].concat();
            self.line('>', whose, &String::from_utf8_lossy(&field));
        }
        self.line('>', whose, "");
        match body_bytes {
            Some(0) => {}
            Some(bytes) => self.line('*', whose, &format!("Sent {bytes} B of body")),
            None => self.line('*', whose, "Sent a body in chunks"),
        }
    }

    fn came(&mut self, whose: Option<u64>, head: &Head<'_>) {
        let (status, reason) = (head.status().as_u16(), String::from_utf8_lossy(head.reason()));
        self.line('<', whose, &format!("{:?} {status} {reason}", head.version()));
        for (name, value) in head.shown_headers() {
            self.line('<', whose, &format!("{name}: {}", String::from_utf8_lossy(value)));
        }
        self.line('<', whose, "");
    }

    /// Which of the fetches it is, from 1.
    fn whose(&mut self, event: &TraceEvent<'_>) -> Option<u64> {
        let socket = event.socket.map(|socket| socket.number);
        let Some(id) = event.fetch else {
            return match event.step {
                Step::Closed { .. } => self.sockets.remove(&socket?),
                _ => self.sockets.get(&socket?).copied(),
            };
        };
        let number = match event.step {
            Step::Queued { .. } => {
                self.submitted += 1;
                self.numbers.insert(id, self.submitted);
                Some(self.submitted)
            }
            Step::Ended { .. } | Step::Cancelled => self.numbers.remove(&id),
            _ => self.numbers.get(&id).copied(),
        };
        if let (Some(socket), Some(number)) = (socket, number) {
            self.sockets.insert(socket, number);
        }
        number
    }
}

impl Trace for Verbose {
    fn record(&mut self, event: &TraceEvent<'_>) {
        let whose = self.whose(event);
        match event.step {
            Step::Sent { head, body_bytes, .. } => self.sent(whose, head, body_bytes),
            Step::Head { head, .. } => self.came(whose, &head),
            _ => {
                if let Some(words) = words(event) {
                    self.line('*', whose, &words);
                }
            }
        }
    }
}

/// What a step comes to, for a line of its own; `None` where others say it.
fn words(event: &TraceEvent<'_>) -> Option<String> {
    let socket = event.socket.unwrap_or_default();
    let (number, sent, received) = (socket.number, socket.sent_bytes, socket.received_bytes);
    Some(match event.step {
        Step::Queued { method, url } => format!("{method} {url}"),
        Step::Resolved { host, addresses, took } => {
            let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            format!("{host} is {} ({})", list.join(", "), millis(took))
        }
        Step::Dialled { peer } => format!("  Trying {peer}..."),
        Step::DialFailed { peer, error } => format!("  {peer}: {error}"),
        Step::Connected { peer, took } => {
            format!("Connected to {peer} (#{number}, {})", millis(took))
        }
        Step::Tunnelled { proxy, took } => format!("Tunnel through {proxy} ({})", millis(took)),
        Step::Secured { with_proxy, protocol, cipher, resumed, took } => {
            let with = if with_proxy { "the proxy" } else { "the server" };
            let how = if resumed { ", session resumed" } else { "" };
            format!("{protocol} with {with}: {cipher}{how} ({})", millis(took))
        }
        Step::Reused { peer } => format!("Connection #{number} to {peer} is taken again"),
        Step::Body { wire_bytes, body_bytes, took } => {
            let decoded = if wire_bytes == body_bytes {
                String::new()
            } else {
                format!(", {body_bytes} B decoded")
            };
            format!("Received {wire_bytes} B of body{decoded} ({})", millis(took))
        }
        Step::Redirected { status, to } => format!("{status}: following to {to}"),
        Step::Retried { because, after } => retried(&because, after),
        Step::Ended { error: Some(error), stats } => format!("Failed: {error}; {}", account(stats)),
        Step::Ended { error: None, stats } => format!("Done: {}", account(stats)),
        Step::Cancelled => "Cancelled".to_owned(),
        Step::Kept { peer } => {
            format!("Connection #{number} to {peer} is kept: {sent} B sent, {received} B received")
        }
        Step::Closed { reason } => {
            format!("Connection #{number} closed: {reason}; {sent} B sent, {received} B received")
        }
        _ => return None,
    })
}

fn retried(because: &Because<'_>, after: Duration) -> String {
    let why = match because {
        Because::Status(status) => format!("the status was {status}"),
        Because::Failed(error) => error.to_string(),
        Because::Stale(_) => "the connection was dead".to_owned(),
        Because::Challenged => "the server wants to know who asks".to_owned(),
        _ => "it failed".to_owned(),
    };
    if after.is_zero() {
        return format!("Trying again: {why}");
    }
    format!("Trying again in {}: {why}", millis(after))
}

/// All phases that took place.
fn account(stats: &Stats) -> String {
    let mut text = format!("{} in all", millis(stats.timings.total));
    for (name, span) in super::record::phases(stats) {
        if name != "total" && !span.is_zero() {
            let _ = write!(text, ", {} {}", name.replace('_', " "), millis(span));
        }
    }
    if stats.attempts > 1 {
        let _ = write!(text, "; {} attempts", stats.attempts);
    }
    text
}

fn millis(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1e3)
}
