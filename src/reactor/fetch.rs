//! Floor 2. One fetch: its stage, and what is known of it so far.
//!
//! A fetch is what the user asked for. It survives redirects and retries, and ends exactly once.
//! In goes what happened to its exchanges; the reactor asks it what limit is next.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::connection::ConnectionKey;
use super::deadlines::Deadlines;
use super::exchange::ExchangeKey;
use super::hedge::Twin;
use super::memory::Flow;
use super::pool::{Queued, RoomKey};
use super::resolver::LookupKey;
use crate::error::{Error, Limit, Tried};
use crate::kit::arena::Key;
use crate::kit::list::{Linked, Links};
use crate::kit::machine::Machine;
use crate::kit::moment::Moment;
use crate::kit::wheel::TimerId;
use crate::policy::auth::Dialogue;
use crate::request::Request;
use crate::response::{Collected, Hop, Response, Stats, Timings, Trailers};
use crate::settings::Settings;
use crate::wire::tunnel::Tunnel;

pub(crate) type FetchKey = Key<Fetch>;

pub(crate) struct Fetch {
    /// What the current attempt sends: after a redirect, no longer what the user gave.
    pub(crate) request: Request,
    pub(crate) stage: Stage,
    /// Its origin's.
    pub(crate) room: RoomKey,
    /// Where it dials, while it does: there, or in a room of the proxy that it is handed to.
    pub(crate) home: RoomKey,
    /// What it counts for while it waits for first admission.
    pub(crate) weight_bytes: usize,
    /// In the list of those that wait in its room, or of those that resolve or dial in its home.
    pub(crate) links: Links<Self>,
    pub(crate) deadlines: Deadlines,
    pub(crate) timer: Option<TimerId>,
    pub(crate) flow: Flow,
    /// What stands beside it, where its answer is late.
    pub(crate) twin: Twin,
    /// When its request was sent, while an answer is awaited that is measured.
    pub(crate) sent_at: Moment,
    /// In the list of those that starve.
    pub(crate) starving: Links<Self>,
    /// A head was lent to the user: nothing is retried or redirected any more.
    pub(crate) lent: bool,
    /// Something was taken of a body that cannot be had again.
    pub(crate) body_spent: bool,
    /// It is on the list of those that have something to be told.
    pub(crate) is_to_be_told: bool,
    /// A kept connection turned out to be dead, or is taken for that: the one silent retry was
    /// made, and a new connection is wanted.
    pub(crate) stale_retried: bool,
    /// Retries made that the policy counts.
    pub(crate) retries: u32,
    /// With its origin, since the last redirect, and with its proxy.
    pub(crate) dialogue: Dialogue,
    pub(crate) proxy_dialogue: Dialogue,
    pub(crate) hops: Vec<Hop>,
    pub(crate) stats: Stats,
    pub(crate) submitted: Moment,
    pub(crate) admitted: Option<Moment>,
    /// When the phase that is being timed began.
    pub(crate) phase_began: Moment,
    /// What was received for a collected request.
    pub(crate) collected: Option<Box<Collected>>,
    /// The trailer section of a streamed response, where there was one.
    pub(crate) trailers: Option<Box<Trailers>>,
    /// The addresses that the last dial tried in vain.
    pub(crate) tried: Vec<Tried>,
}

/// Where a fetch is. Only the last three of these hold a slot of the caps.
pub(crate) enum Stage {
    /// In its origin's list, for its first turn or for another attempt.
    Waiting,
    /// A retry was decided; it waits for its moment.
    BackingOff,
    /// Its outcome is not told yet.
    Ended(Outcome),
    Resolving(LookupKey, Sought),
    /// Connecting, getting past a proxy, or shaking hands over TLS.
    Dialling(Box<Race>),
    Running(ExchangeKey),
}

/// Whose addresses are looked up.
#[derive(Clone, Copy)]
pub(crate) enum Sought {
    Origin,
    /// The proxy's, which will be told this address of the origin; none: its name.
    Proxy(Option<IpAddr>),
}

pub(crate) enum Outcome {
    Complete,
    Failed(Error),
}

/// Connection attempts to the addresses of one name (RFC 8305 §5).
pub(crate) struct Race {
    pub(crate) addresses: Arc<[IpAddr]>,
    pub(crate) port: u16,
    /// What is asked of the proxy that the addresses are of.
    pub(crate) tunnel: Option<Tunnel>,
    /// The first address not tried yet.
    pub(crate) next: usize,
    /// Sockets that race; or, once one has connected, that one.
    pub(crate) dials: Vec<ConnectionKey>,
    /// Fires when another address is to be tried beside those that have not answered.
    pub(crate) stagger: Option<TimerId>,
}

impl Race {
    pub(crate) fn next_address(&mut self) -> Option<SocketAddr> {
        let ip = *self.addresses.get(self.next)?;
        self.next += 1;
        Some(SocketAddr::new(ip, self.port))
    }

    pub(crate) fn has_more(&self) -> bool {
        self.next < self.addresses.len()
    }
}

impl Machine for Stage {
    const NAME: &'static str = "Fetch";
    const ARROWS: &'static [(&'static str, &'static str)] = &[
        ("Waiting", "Resolving"),
        ("Waiting", "Dialling"),
        ("Waiting", "Running"),
        ("Waiting", "Ended"),
        ("Resolving", "Resolving"),
        ("Resolving", "Dialling"),
        ("Resolving", "Running"),
        ("Resolving", "BackingOff"),
        ("Resolving", "Ended"),
        ("Dialling", "Running"),
        ("Dialling", "Waiting"),
        ("Dialling", "BackingOff"),
        ("Dialling", "Ended"),
        ("Running", "Running"),
        ("Running", "Waiting"),
        ("Running", "BackingOff"),
        ("Running", "Ended"),
        ("BackingOff", "Waiting"),
        ("BackingOff", "Ended"),
    ];

    fn state(&self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Resolving(..) => "Resolving",
            Self::Dialling(_) => "Dialling",
            Self::Running(_) => "Running",
            Self::BackingOff => "BackingOff",
            Self::Ended(_) => "Ended",
        }
    }
}

impl Linked<Queued> for Fetch {
    fn links(&mut self) -> &mut Links<Self> {
        &mut self.links
    }
}

impl Fetch {
    pub(crate) fn new(request: Request, room: RoomKey, now: Moment) -> Self {
        Self {
            request,
            stage: Stage::Waiting,
            room,
            home: room,
            weight_bytes: 0,
            links: Links::default(),
            deadlines: Deadlines::default(),
            timer: None,
            flow: Flow::Flowing,
            twin: Twin::None,
            sent_at: Moment::NEVER,
            starving: Links::default(),
            lent: false,
            body_spent: false,
            is_to_be_told: false,
            stale_retried: false,
            retries: 0,
            dialogue: Dialogue::default(),
            proxy_dialogue: Dialogue::default(),
            hops: Vec::new(),
            stats: Stats::default(),
            submitted: now,
            admitted: None,
            phase_began: now,
            collected: None,
            trailers: None,
            tried: Vec::new(),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    pub(crate) fn collects(&self) -> bool {
        self.request.collect
    }

    pub(crate) fn is_paused(&self) -> bool {
        matches!(self.flow, Flow::Paused)
    }

    pub(crate) fn starves(&self) -> bool {
        matches!(self.flow, Flow::Starved { .. })
    }

    /// Bytes of head and body that were collected.
    pub(crate) fn collected_bytes(&self) -> usize {
        let collected = self.collected.as_deref();
        collected.map_or(0, |collected| collected.bytes.len() + collected.body.len())
    }

    /// Most bytes of body that are taken.
    pub(crate) fn body_bytes_max(&self, settings: &Settings) -> u64 {
        let unasked = if self.collects() { settings.body_bytes_max } else { u64::MAX };
        self.request.parts.choices.body_bytes_max.unwrap_or(unasked)
    }

    /// Whether codings are asked for and removed.
    pub(crate) fn decodes(&self, settings: &Settings) -> bool {
        self.request.parts.choices.decode.unwrap_or(settings.decode)
    }

    /// How long `limit` allows this fetch.
    pub(crate) fn allowed(&self, limit: Limit, settings: &Settings) -> Option<Duration> {
        let own = self.request.parts.choices.timeouts.get(limit);
        own.or_else(|| settings.timeouts.get(limit)).filter(|allowed| *allowed != Duration::MAX)
    }

    /// Most bytes of a response's head.
    pub(crate) fn head_bytes_max(&self, settings: &Settings) -> usize {
        let own = self.request.parts.choices.head_bytes_max;
        own.unwrap_or(settings.head_bytes_max).min(HEAD_BYTES_CEILING)
    }

    /// The limit counts from the next reading of the clock, unless the fetch is held up here.
    /// `true` where it is the first that waits for that.
    pub(super) fn begin_limit(&mut self, limit: Limit) -> bool {
        let is_held_up = !matches!(self.flow, Flow::Flowing);
        if is_held_up && matches!(limit, Limit::FirstByte | Limit::Stall) {
            return false;
        }
        self.deadlines.begin(limit)
    }

    /// Ends the timing of a phase and begins the next one's.
    pub(crate) fn lap(&mut self, now: Moment) -> Duration {
        let took = now.since(self.phase_began);
        self.phase_began = now;
        took
    }

    /// What a new attempt forgets of the one before.
    pub(crate) fn begin_again(&mut self) {
        self.collected = None;
        self.trailers = None;
        for limit in ATTEMPT_LIMITS {
            self.deadlines.clear(limit);
        }
        let timings = &mut self.stats.timings;
        *timings = Timings { queued: timings.queued, ..Default::default() };
        self.stats.wire_bytes = 0;
        self.stats.hedged = false;
        self.stats.body_bytes = 0;
    }

    /// What was collected, as a response: whole, or as far as it came.
    pub(crate) fn take_response(&mut self) -> Option<Response> {
        let mut collected = self.collected.take()?;
        collected.hops.clone_from(&self.hops);
        collected.stats = self.stats;
        if let Some(trailers) = self.trailers.take() {
            collected.trailers = *trailers;
        }
        Some(Response(collected))
    }
}

/// However much a caller allows: places in a head are counted in 32 bits, with room to spare.
const HEAD_BYTES_CEILING: usize = 16 << 20;

/// Those that begin anew with each attempt.
const ATTEMPT_LIMITS: [Limit; 7] = [
    Limit::Dns,
    Limit::Connect,
    Limit::Proxy,
    Limit::Tls,
    Limit::Continue,
    Limit::FirstByte,
    Limit::Stall,
];
