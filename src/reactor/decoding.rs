//! Floor 2. Bodies in a content coding: decoded as they arrive, a bounded piece in each step.
//!
//! In goes a [`Focus`] on framed bytes; out come pieces of what they decode to, in the reactor's
//! one decoded buffer, or in the body that is being collected. A decoder lives from the first
//! byte of its body to the last.

use std::sync::Arc;

use super::event::Happening;
use super::exchange::{Exchange, ExchangeKey, Receiving};
use super::fetch::Fetch;
use super::reading::{Focus, Place};
use super::receiving::{malformed_error, take_trailers, too_large};
use super::{Reactor, Step};
use crate::coding::ContentCoding;
use crate::error::{Error, Kind, Phase as ErrorPhase};
use crate::kit::machine::Machine;
use crate::net::Net;
use crate::wire::coding::{Decoder, Fault};
use crate::wire::http1::head::Head;

/// What stands between the framed bytes of a body and whoever takes them.
pub(crate) enum Decoding {
    /// Nothing.
    Plain,
    /// A decoder, once there is a byte for it.
    Awaited(ContentCoding),
    Running(Box<Running>),
}

/// A decoder at work.
pub(crate) struct Running {
    decoder: Decoder,
    /// So many bytes, where the focus or the inbox begins, are the body's and of no framing.
    framed_bytes: usize,
    /// More comes without further bytes.
    has_more: bool,
    /// What the decoder counts for in memory.
    held_bytes: usize,
}

impl Machine for Decoding {
    const NAME: &'static str = "Decoding";
    const ARROWS: &'static [(&'static str, &'static str)] =
        &[("Plain", "Awaited"), ("Awaited", "Running")];

    fn state(&self) -> &'static str {
        match self {
            Self::Plain => "Plain",
            Self::Awaited(_) => "Awaited",
            Self::Running(_) => "Running",
        }
    }
}

impl Exchange {
    /// Its body is in a coding that is removed.
    pub(super) fn is_coded(&self) -> bool {
        !matches!(self.decoding, Decoding::Plain)
    }

    /// There is something to be done for its body without a further byte.
    pub(super) fn has_undecoded(&self) -> bool {
        let Receiving::Body(reader) = &self.receiving else { return false };
        match &self.decoding {
            Decoding::Plain => false,
            Decoding::Awaited(_) => reader.is_done(),
            Decoding::Running(running) => running.has_more || reader.is_done(),
        }
    }

    /// Whether a decoder is at work, which gives its memory back only when it reads on.
    pub(super) fn holds_decoder(&self) -> bool {
        matches!(self.decoding, Decoding::Running(_))
    }

    /// What its decoder counts for in memory.
    pub(super) fn decoder_bytes(&self) -> usize {
        match &self.decoding {
            Decoding::Running(running) => running.held_bytes,
            Decoding::Plain | Decoding::Awaited(_) => 0,
        }
    }
}

impl Fetch {
    /// The codings to be removed from the body behind `head`, which has one.
    pub(super) fn removes(&self, head: &Head, decodes: bool) -> Result<ContentCoding, Fault> {
        // A part of what is coded cannot be decoded (RFC 9110 §15.3.7).
        if !decodes || head.status == 206 {
            return Ok(ContentCoding::Identity);
        }
        match head.hints.content_coding {
            ContentCoding::TooMany => Err(Fault::TooManyCodings),
            ContentCoding::Unknown => Ok(ContentCoding::Identity),
            said => Ok(said),
        }
    }
}

/// Decoding.
impl<N: Net> Reactor<N> {
    /// Takes one step through a body in a coding: a run of framed bytes, a piece of what they
    /// decode to, or the end.
    pub(super) fn consume_coded(&mut self, key: ExchangeKey, mut focus: Focus) -> Step {
        let Some(exchange) = self.exchanges.get(key) else { return Step::Worked };
        let is_fed = match &exchange.decoding {
            Decoding::Running(running) => running.has_more || running.framed_bytes > 0,
            Decoding::Plain | Decoding::Awaited(_) => false,
        };
        if is_fed {
            return self.decode(key, focus);
        }
        let is_done = matches!(&exchange.receiving, Receiving::Body(reader) if reader.is_done());
        if is_done {
            self.finish_decoding(key);
        } else if let Decoding::Awaited(said) = exchange.decoding
            && self.grant(focus.connection, PIECE_BYTES, Decoder::first_bytes(said)) == 0
        {
            self.keep(focus);
            return Step::Worked;
        } else if let Err(error) = self.take_framed(key, &mut focus) {
            self.fail_exchange(key, error);
            return Step::Worked;
        }
        self.focus = Some(focus);
        Step::Worked
    }

    /// Finds the next run of the body's bytes; the focus is on its beginning then.
    fn take_framed(&mut self, key: ExchangeKey, focus: &mut Focus) -> Result<(), Error> {
        let Self { exchanges, connections, fetches, settings, .. } = self;
        let Some(exchange) = exchanges.get_mut(key) else { return Ok(()) };
        let Some(connection) = connections.get(focus.connection) else { return Ok(()) };
        let bytes = focus.bytes(&self.read_buffer, connection);
        let Receiving::Body(reader) = &mut exchange.receiving else { return Ok(()) };
        let piece =
            reader.read(bytes).map_err(|malformed| malformed_error(malformed, ErrorPhase::Body))?;
        focus.at += piece.skip;
        let Some(fetch) = exchange.fetch.and_then(|fetch| fetches.get_mut(fetch)) else {
            return Ok(());
        };
        fetch.stats.wire_bytes += piece.take as u64;
        fetch.deadlines.progress(self.now);
        let most = fetch.body_bytes_max(settings);
        if fetch.stats.wire_bytes > coded_bytes_max(most) {
            return Err(too_large(most));
        }
        if piece.done {
            take_trailers(fetch, reader);
        }
        if piece.take == 0 {
            return Ok(());
        }
        if let Decoding::Awaited(said) = exchange.decoding {
            let no_memory = || Error::new(Kind::Decode, ErrorPhase::Body, "there is no decoder");
            let decoder = Decoder::new(said).ok_or_else(no_memory)?;
            let held_bytes = decoder.held_bytes();
            self.memory.decoding_bytes += held_bytes;
            exchange.decoding.go(Decoding::Running(Box::new(Running {
                decoder,
                framed_bytes: 0,
                has_more: false,
                held_bytes,
            })));
        }
        if let Decoding::Running(running) = &mut exchange.decoding {
            running.framed_bytes = piece.take;
        }
        Ok(())
    }

    /// Decodes one piece.
    fn decode(&mut self, key: ExchangeKey, mut focus: Focus) -> Step {
        let Some(exchange) = self.exchanges.get(key) else { return Step::Worked };
        let (Decoding::Running(running), Some(fetch_key)) = (&exchange.decoding, exchange.fetch)
        else {
            return Step::Worked;
        };
        let growth = running.decoder.growth_bytes();
        let Some(connection) = self.connections.get(focus.connection) else { return Step::Worked };
        if self.has_spent_share(connection) {
            self.keep(focus);
            self.leave_for_next_turn(focus.connection);
            return Step::Worked;
        }
        let room = self.grant(focus.connection, PIECE_BYTES, growth);
        if room == 0 {
            self.keep(focus);
            return Step::Worked;
        }
        if self.decoded.is_empty() {
            self.decoded = vec![0; PIECE_BYTES].into();
        }
        let Self { exchanges, connections, fetches, settings, memory, buffers, .. } = self;
        let Some(exchange) = exchanges.get_mut(key) else { return Step::Worked };
        let Decoding::Running(running) = &mut exchange.decoding else { return Step::Worked };
        let Some(connection) = connections.get_mut(focus.connection) else { return Step::Worked };
        let Some(fetch) = fetches.get_mut(fetch_key) else { return Step::Worked };
        let bytes = focus.bytes(&self.read_buffer, connection);
        let bytes = bytes.get(..running.framed_bytes.min(INPUT_BYTES_MAX)).unwrap_or(bytes);
        let output = self.decoded.get_mut(..room).unwrap_or_default();
        let decoded = running.decoder.decode(bytes, output);
        let held_bytes = running.decoder.held_bytes();
        memory.decoding_bytes += held_bytes;
        memory.decoding_bytes -= std::mem::replace(&mut running.held_bytes, held_bytes);
        let progress = match decoded {
            Ok(progress) => progress,
            Err(fault) => {
                self.fail_exchange(key, undecodable(fault));
                return Step::Worked;
            }
        };
        running.framed_bytes -= progress.used.min(running.framed_bytes);
        running.has_more = progress.has_more;
        focus.at += progress.used;
        connection.spend(self.turn, progress.made);
        fetch.stats.body_bytes += progress.made as u64;
        let most = fetch.body_bytes_max(settings);
        if fetch.stats.body_bytes > most {
            self.fail_exchange(key, too_large(most));
            return Step::Worked;
        }
        if fetch.collects() {
            let made = output.get(..progress.made).unwrap_or_default();
            buffers.fill(&mut exchange.gathered, made);
        }
        let is_lent = !fetch.collects() && progress.made > 0;
        self.focus = Some(focus);
        if !is_lent {
            return Step::Worked;
        }
        let at = Focus { place: Place::Decoded, at: 0, end: progress.made, ..focus };
        Step::Happened(Happening::Body { fetch: fetch_key, at })
    }

    /// The body's last byte was decoded.
    fn finish_decoding(&mut self, key: ExchangeKey) {
        let Some(exchange) = self.exchanges.get_mut(key) else { return };
        let finished = match &exchange.decoding {
            Decoding::Running(running) => running.decoder.finish(),
            // Nothing at all is no coded data either, and yet a body that many servers send.
            Decoding::Plain | Decoding::Awaited(_) => Ok(()),
        };
        match finished {
            Ok(()) => exchange.receiving.go(Receiving::Done),
            Err(fault) => self.fail_exchange(key, undecodable(fault)),
        }
    }
}

pub(super) fn undecodable(fault: Fault) -> Error {
    let what = "the body cannot be decoded";
    Error::new(Kind::Decode, ErrorPhase::Body, what).caused_by(Arc::new(fault))
}

/// Most encoded bytes of a body of which `most` may be decoded. A coding adds little to what it
/// cannot compress; but it may go on for ever and decode to nothing.
pub(super) fn coded_bytes_max(most: u64) -> u64 {
    most.saturating_mul(2).saturating_add(CODING_BYTES)
}

/// One piece of what is decoded: what an event lends at the most.
const PIECE_BYTES: usize = 64 << 10;
/// Encoded bytes that are looked at for one piece, which may decode to nothing.
const INPUT_BYTES_MAX: usize = 16 << 10;
/// What headers, checksums and blocks of a short body may add.
const CODING_BYTES: u64 = 64 << 10;
