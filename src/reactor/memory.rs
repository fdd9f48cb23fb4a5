//! Floor 2. How many bytes may wait in the whole client, and who reads on when that many do.
//!
//! What waits: bodies that are being collected, heads and TLS records in pieces, what a paused
//! fetch has not taken, records that a socket has not. In goes a fetch that wants to read or
//! write; out comes how much it may, or it starves until others have given memory back.
//!
//! Reads shrink as the bound comes near. At the bound collecting fetches starve, all but one: a
//! reserve of one body is kept for the one admitted first, so that there is always progress.
//! A streamed body waits only where its fetch is paused, so these may read a little longer.

#[cfg(debug_assertions)]
mod audit;

use super::connection::ConnectionKey;
use super::exchange::{Exchange, ExchangeKey};
use super::fetch::{Fetch, FetchKey, Stage};
use super::{Reactor, connection::Phase};
use crate::error::Limit;
use crate::kit::list::{Linked, Links, List};
use crate::kit::machine::Machine;
use crate::net::Net;
use crate::settings::Settings;

/// Whether a fetch takes what arrives for it.
pub(crate) enum Flow {
    Flowing,
    /// The user said so.
    Paused,
    /// Too much waits already. It is in one of [`Memory`]'s lists.
    Starved {
        /// It reads on when there is room for so much.
        need_bytes: usize,
        /// It is among those of which one has the reserve.
        is_favourable: bool,
    },
}

impl Machine for Flow {
    const NAME: &'static str = "Flow";
    const ARROWS: &'static [(&'static str, &'static str)] = &[
        ("Flowing", "Paused"),
        ("Flowing", "Starved"),
        ("Paused", "Flowing"),
        ("Starved", "Flowing"),
    ];

    fn state(&self) -> &'static str {
        match self {
            Self::Flowing => "Flowing",
            Self::Paused => "Paused",
            Self::Starved { .. } => "Starved",
        }
    }
}

/// Marks the lists of fetches that starve.
pub(crate) struct Starving;

impl Linked<Starving> for Fetch {
    fn links(&mut self) -> &mut Links<Self> {
        &mut self.starving
    }
}

/// The bound, and who waits because of it.
pub(super) struct Memory {
    /// In heads and bodies that are being collected, or were and are not told yet.
    pub(super) collected_bytes: usize,
    /// In decoders.
    pub(super) decoding_bytes: usize,
    /// Up to how many bytes in all a fetch that collects, and one that streams, may read on.
    collecting_max: usize,
    streaming_max: usize,
    /// Those that collect, or whose decoder may grow.
    favourable: List<Fetch, Starving>,
    streaming: List<Fetch, Starving>,
    /// The one of the former that reads on from the reserve.
    pub(super) favoured: Option<FetchKey>,
    #[cfg(debug_assertions)]
    most: usize,
}

impl Memory {
    pub(super) fn new(settings: &Settings) -> Self {
        let most = settings.buffered_bytes_max.max(BUFFERED_BYTES_MIN);
        let body = usize::try_from(settings.body_bytes_max).unwrap_or(usize::MAX);
        let one = body.saturating_add(settings.head_bytes_max).min(most / 2);
        let streaming_max = most - one;
        Self {
            collected_bytes: 0,
            decoding_bytes: 0,
            collecting_max: streaming_max - STREAMS_BYTES.min(streaming_max / 2),
            streaming_max,
            favourable: List::default(),
            streaming: List::default(),
            favoured: None,
            #[cfg(debug_assertions)]
            most,
        }
    }

    /// So little waits that nobody needs to be asked whether more may.
    fn is_ample(&self, held: usize) -> bool {
        held + WINDOW_SHARES * WINDOW_BYTES_MAX <= self.collecting_max
    }

    /// How much more may wait before fetches of this kind starve.
    fn free(&self, held: usize, is_favourable: bool) -> usize {
        let most = if is_favourable { self.collecting_max } else { self.streaming_max };
        most.saturating_sub(held)
    }

    /// Whether there is room for what is starved for.
    fn suffices(&self, held: usize, flow: &Flow) -> bool {
        match flow {
            Flow::Starved { need_bytes, is_favourable } => {
                self.free(held, *is_favourable) >= *need_bytes
            }
            Flow::Flowing | Flow::Paused => false,
        }
    }

    fn list(&mut self, is_favourable: bool) -> &mut List<Fetch, Starving> {
        if is_favourable { &mut self.favourable } else { &mut self.streaming }
    }
}

impl<N: Net> Reactor<N> {
    /// Bytes that wait in memory: of collected responses whose end was not told yet, of heads and
    /// TLS records in pieces, what paused fetches have not taken, TLS records that sockets have
    /// not, and the windows of decoders. [`Settings::buffered_bytes_max`] bounds them.
    pub fn buffered_bytes(&self) -> usize {
        self.buffers.held_bytes() + self.memory.collected_bytes + self.memory.decoding_bytes
    }

    /// Whether collecting fetches starve: no more requests are taken then.
    pub(super) fn is_memory_short(&self) -> bool {
        self.memory.free(self.buffered_bytes(), true) < WINDOW_BYTES_MIN
    }

    /// How much of `room` a connection may read, or seal, at once. 0: its fetch starves, and is
    /// heard of again when there is room.
    pub(super) fn window(&mut self, key: ConnectionKey, room: usize) -> usize {
        self.grant(key, room, 0)
    }

    /// The same for a step in which a decoder may come to hold `growth` bytes more.
    pub(super) fn grant(&mut self, key: ConnectionKey, room: usize, growth: usize) -> usize {
        let held = self.buffered_bytes();
        if self.memory.is_ample(held + growth) {
            return room;
        }
        let Some(fetch_key) = self.fetch_of(key) else { return room };
        let decodes = self.decodes_for(fetch_key);
        let Some(fetch) = self.fetches.get_mut(fetch_key) else { return room };
        if self.memory.favoured == Some(fetch_key) {
            return room;
        }
        let is_favourable = fetch.collects() || growth > 0;
        let free = self.memory.free(held, is_favourable);
        let need_bytes = WINDOW_BYTES_MIN + growth;
        if free >= need_bytes {
            // It may starve for more than this step takes, and then goes on doing so.
            if self.memory.suffices(held, &fetch.flow) {
                self.relieve(fetch_key);
            }
            return room.min(((free - growth) / WINDOW_SHARES).max(WINDOW_BYTES_MIN));
        }
        if !is_favourable && decodes {
            // Its decoder's memory comes back only where it reads on, and what it makes is lent.
            return room.min(WINDOW_BYTES_MIN);
        }
        if matches!(fetch.flow, Flow::Flowing) {
            fetch.flow.go(Flow::Starved { need_bytes, is_favourable });
            fetch.deadlines.clear(Limit::FirstByte);
            fetch.deadlines.clear(Limit::Stall);
            self.memory.list(is_favourable).push_back(&mut self.fetches, fetch_key);
        }
        0
    }

    /// Lets one fetch read on for which there is room now. `false`: there is none.
    pub(super) fn feed(&mut self) -> bool {
        let next = self.next_fed();
        if let Some(fetch) = next {
            self.relieve(fetch);
        }
        next.is_some()
    }

    /// Whether [`Self::feed`] would find one.
    pub(super) fn can_feed(&self) -> bool {
        self.has_room_for_first(false)
            || self.has_room_for_first(true)
            || (self.memory.favoured.is_none() && !self.memory.favourable.is_empty())
    }

    fn next_fed(&mut self) -> Option<FetchKey> {
        if self.has_room_for_first(false) {
            return self.memory.streaming.first();
        }
        if self.has_room_for_first(true) {
            return self.memory.favourable.first();
        }
        if self.memory.favoured.is_none() {
            self.memory.favoured = self.oldest_starving();
            return self.memory.favoured;
        }
        None
    }

    /// Whether the first of a list could read on.
    fn has_room_for_first(&self, is_favourable: bool) -> bool {
        let Memory { streaming, favourable, .. } = &self.memory;
        let first = if is_favourable { favourable.first() } else { streaming.first() };
        let first = first.and_then(|first| self.fetches.get(first));
        first.is_some_and(|fetch| self.memory.suffices(self.buffered_bytes(), &fetch.flow))
    }

    /// The fetch starves no longer, if it did: it reads and writes on.
    pub(super) fn relieve(&mut self, key: FetchKey) {
        if self.stop_starving(key) {
            self.flow_on(key);
        }
    }

    /// Takes a fetch off the lists. `true`: it starved.
    pub(super) fn stop_starving(&mut self, key: FetchKey) -> bool {
        let Some(fetch) = self.fetches.get_mut(key) else { return false };
        let Flow::Starved { is_favourable, .. } = fetch.flow else { return false };
        fetch.flow.go(Flow::Flowing);
        self.memory.list(is_favourable).remove(&mut self.fetches, key);
        true
    }

    /// Limits of the flow begin anew, and what waits to be sent or read is looked at.
    pub(super) fn flow_on(&mut self, key: FetchKey) {
        let Some(fetch) = self.fetches.get(key) else { return };
        let connection = match &fetch.stage {
            Stage::Running(exchange_key) => {
                let exchange_key = *exchange_key;
                let Some(exchange) = self.exchanges.get(exchange_key) else { return };
                let (connection, awaits) = (exchange.connection, exchange.awaits_answer());
                self.begin_limit(key, Limit::Stall);
                if awaits {
                    self.begin_limit(key, Limit::FirstByte);
                }
                self.send(exchange_key);
                connection
            }
            Stage::Dialling(race) => {
                let Some(first) = race.dials.first() else { return };
                *first
            }
            _ => return,
        };
        self.queue(connection);
    }

    /// The fetch has left its attempt: it holds no reserve and starves no more.
    pub(super) fn leave_memory(&mut self, key: FetchKey) {
        self.stop_starving(key);
        if self.memory.favoured == Some(key) {
            self.memory.favoured = None;
        }
    }

    /// What was collected for a fetch is given away, or forgotten.
    pub(super) fn release_collected(&mut self, key: FetchKey) {
        if let Some(fetch) = self.fetches.get(key) {
            self.memory.collected_bytes -= fetch.collected_bytes();
        }
    }

    /// An exchange is over: what was gathered of its fetch's body is its response's, in memory of
    /// its own size, and the buffer comes home.
    pub(super) fn give_gathered(&mut self, key: ExchangeKey) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let Some(gathered) = &exchange.gathered else { return };
        let fetch = exchange.fetch.and_then(|fetch| self.fetches.get_mut(fetch));
        if let Some(collected) = fetch.and_then(|fetch| fetch.collected.as_mut()) {
            collected.body = gathered.unread().to_vec();
            self.memory.collected_bytes += collected.body.len();
        }
        self.buffers.take_home(&mut exchange.gathered);
    }

    /// The fetch that a connection reads for. None: what it reads is kept nowhere, but for a
    /// record in pieces.
    pub(super) fn fetch_of(&self, key: ConnectionKey) -> Option<FetchKey> {
        match self.connections.get(key)?.phase {
            Phase::Open { current: Some(exchange) } => {
                self.exchanges.get(exchange).and_then(|Exchange { fetch, .. }| *fetch)
            }
            Phase::Handshaking { dialled_for } => dialled_for,
            _ => None,
        }
    }

    /// Whether a fetch has a decoder at work.
    fn decodes_for(&self, key: FetchKey) -> bool {
        let Some(Stage::Running(exchange)) = self.fetches.get(key).map(|fetch| &fetch.stage) else {
            return false;
        };
        self.exchanges.get(*exchange).is_some_and(Exchange::holds_decoder)
    }

    /// O(those that starve), once for each fetch that takes the reserve.
    fn oldest_starving(&mut self) -> Option<FetchKey> {
        let mut oldest: Option<(_, FetchKey)> = None;
        let mut next = self.memory.favourable.first();
        while let Some(key) = next {
            let admitted = self.fetches.get(key).and_then(|fetch| fetch.admitted);
            if oldest.is_none_or(|(before, _)| admitted < before) {
                oldest = Some((admitted, key));
            }
            next = self.memory.favourable.after(&mut self.fetches, key);
        }
        oldest.map(|(_, key)| key)
    }
}

/// However little a caller allows: a TLS record and a head must fit beside a body.
const BUFFERED_BYTES_MIN: usize = 1 << 20;
/// What collecting fetches leave to those that stream.
const STREAMS_BYTES: usize = 1 << 20;
/// One read takes at most this part of what is free.
const WINDOW_SHARES: usize = 64;
/// Below this there is no use in reading.
const WINDOW_BYTES_MIN: usize = 4 << 10;
/// The largest read of any connection.
const WINDOW_BYTES_MAX: usize = super::reading::TLS_READ_BYTES_MAX;
