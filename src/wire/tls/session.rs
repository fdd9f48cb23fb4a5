//! Floor 1. One TLS session of a client, over buffers that the caller owns.
//!
//! In goes ciphertext, in the caller's buffer; out come plaintext at that buffer's front, and
//! bytes to send. Between calls a session holds no record and no plaintext: bytes that are still
//! needed stay with the caller.
//!
//! Beneath is the unbuffered connection of rustls 0.23. Three of its traits shape this file. It
//! hands out each record's plaintext while borrowing the input, so the input is let go first and
//! the plaintext fetched with an empty one. It panics when the bytes of a fragmented handshake
//! message are missing from the input, so their length is kept. After an error it would go on
//! reading, so the phase ends that.

use std::panic::{self, AssertUnwindSafe};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, WriteTraffic};
use rustls::{HandshakeKind, ProtocolVersion};

use super::config::Config;
use super::fault::TlsError;
use crate::kit::machine::Machine;

/// A client's session with one server.
pub(crate) struct Session {
    connection: Box<UnbufferedClientConnection>,
    phase: Phase,
    /// Length of the records at the front of the caller's kept bytes that were decrypted, but
    /// belong to a handshake message whose end has not come.
    held: usize,
}

/// What [`Session::open`] made of the bytes.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The bytes from here on are to be presented again, at the front, before the next ones. They
    /// were changed in place. At most [`KEPT_BYTES_MAX`].
    pub(crate) consumed: usize,
    /// `wire[..plain]` is plaintext; never more than `consumed`.
    pub(crate) plain: usize,
    /// The handshake ended in this call.
    pub(crate) handshake_done_now: bool,
    /// No plaintext follows: the peer's `close_notify` was seen, in this call or before, or the
    /// session was given up.
    pub(crate) peer_closed: bool,
    /// An error is the session's end; plaintext beside it came before it and is authentic.
    pub(crate) result: Result<(), TlsError>,
}

impl Session {
    /// A session with `host`: a DNS name, or an IP literal without brackets. [`Self::start`]
    /// gives its first bytes.
    ///
    /// # Errors
    /// `host` is neither, or the configuration cannot offer anything.
    pub(crate) fn new(config: &Config, host: &str) -> Result<Self, TlsError> {
        let name = config.name_for(host).ok_or_else(|| {
            TlsError::protocol(format!("{host:?} is no DNS name and no IP address"))
        })?;
        let connection = UnbufferedClientConnection::new(config.client().clone(), name)?;
        Ok(Self { connection: Box::new(connection), phase: Phase::Handshaking, held: 0 })
    }

    /// Appends the ClientHello.
    pub(crate) fn start(&mut self, out: &mut Vec<u8>) {
        self.flush(out);
    }

    /// Processes every complete record of `wire`: bytes kept from the last call, then new ones.
    /// What must be sent is appended to `out`, an alert on error included.
    pub(crate) fn open(&mut self, wire: &mut [u8], out: &mut Vec<u8>) -> Opened {
        let mut marks = Marks::default();
        let result = match &self.phase {
            Phase::Handshaking | Phase::Open => {
                let result = self.process(wire, &mut marks, out);
                match self.connection.negotiated_cipher_suite() {
                    Some(_) => result.map_err(TlsError::after_agreement),
                    None => result,
                }
            }
            Phase::WriteClosed => self.process_unheard(wire, &mut marks),
            // RFC 8446 §6.1: what follows a closure alert is ignored.
            Phase::PeerClosed | Phase::Closed => Ok(()),
            Phase::Failed(e) => Err(e.clone()),
        };
        let handshake_done_now =
            matches!(self.phase, Phase::Handshaking) && !self.connection.is_handshaking();
        if handshake_done_now {
            self.phase.go(Phase::Open);
        }
        if marks.peer_closed {
            let was_ours = matches!(self.phase, Phase::WriteClosed);
            self.phase.go(if was_ours { Phase::Closed } else { Phase::PeerClosed });
        }
        if let Err(e) = &result {
            self.fail(e.clone(), out);
        }
        let consumed = if self.is_readable() { marks.consumed } else { wire.len() };
        let peer_closed = matches!(self.phase, Phase::PeerClosed | Phase::Closed);
        Opened { consumed, plain: marks.plain, handshake_done_now, peer_closed, result }
    }

    /// Whether `new` bytes behind those kept make [`Self::open`] worth calling: they complete a
    /// record, or cannot be one. So a record that drips in costs linear work.
    pub(crate) fn completes_record(&self, kept: &[u8], new: &[u8]) -> bool {
        let byte = |at: usize| match at.checked_sub(kept.len()) {
            Some(at) => new.get(at).copied(),
            None => kept.get(at).copied(),
        };
        let (Some(high), Some(low)) = (byte(self.held + 3), byte(self.held + 4)) else {
            return false;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let end = self.held + RECORD_HEADER_BYTES + length;
        length > RECORD_PLAIN_BYTES_MAX + 2_048 || kept.len() + new.len() >= end
    }

    /// Encrypts all of `plain` and appends the records.
    ///
    /// # Errors
    /// Where [`Self::can_send`] is false, and where the keys are worn out (TLS 1.2 only).
    pub(crate) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        if !self.can_send() {
            return Err(TlsError::protocol("nothing can be sent outside an open TLS session"));
        }
        let records = plain.len().div_ceil(RECORD_PLAIN_BYTES_MAX);
        let guess = plain.len().saturating_add(records.saturating_mul(RECORD_OVERHEAD_BYTES));
        self.flush(out);
        let sent =
            self.with_traffic(|traffic| append(out, guess, |room| traffic.encrypt(plain, room)));
        sent.inspect_err(|e| self.fail(e.clone(), out))
    }

    /// Ends what is sent: appends `close_notify` (RFC 8446 §6.1). What the peer says is read on.
    pub(crate) fn close_write(&mut self, out: &mut Vec<u8>) {
        self.say_goodbye(out);
        match self.phase {
            Phase::Open => self.phase.go(Phase::WriteClosed),
            Phase::PeerClosed => self.phase.go(Phase::Closed),
            _ => {}
        }
    }

    /// Says goodbye: appends `close_notify` where a handshake had ended. Nothing is read or sent
    /// from here on.
    pub(crate) fn close(&mut self, out: &mut Vec<u8>) {
        self.say_goodbye(out);
        if !matches!(self.phase, Phase::Closed | Phase::Failed(_)) {
            self.phase.go(Phase::Closed);
        }
    }

    /// Whether the handshake is still to end.
    #[cfg(test)]
    pub(crate) fn is_handshaking(&self) -> bool {
        matches!(self.phase, Phase::Handshaking)
    }

    /// Whether [`Self::seal`] may be called.
    pub(crate) fn can_send(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::PeerClosed)
    }

    /// The protocol agreed on by ALPN, where the server answered that.
    #[cfg(test)]
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// `TLSv1.2` or `TLSv1.3`; empty until the server has chosen.
    pub(crate) fn version(&self) -> &'static str {
        match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "",
        }
    }

    /// The cipher suite, as IANA names it; empty until the server has chosen.
    pub(crate) fn cipher(&self) -> &'static str {
        let suite = self.connection.negotiated_cipher_suite();
        suite.and_then(|suite| suite.suite().as_str()).unwrap_or_default()
    }

    /// Whether an earlier session with this server was taken up, without certificates.
    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn is_readable(&self) -> bool {
        matches!(self.phase, Phase::Handshaking | Phase::Open | Phase::WriteClosed)
    }

    fn say_goodbye(&mut self, out: &mut Vec<u8>) {
        if self.can_send() {
            self.flush(out);
            // Where even that cannot be sent, the socket's end must do.
            let _ = self.with_traffic(|traffic| {
                append(out, RECORD_OVERHEAD_BYTES, |room| traffic.queue_close_notify(room))
            });
        }
    }

    /// Checks what the caller kept, steps through all of it, and notes what is to be kept now.
    fn process(
        &mut self,
        wire: &mut [u8],
        marks: &mut Marks,
        out: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        if wire.len() < self.held {
            return Err(TlsError::protocol("the start of a handshake message was not kept"));
        }
        // Before rustls sees them: it writes over the headers of fragments that it joins.
        let complete = complete_records(wire, self.held);
        self.step(wire, marks, out)?;
        self.held = complete.saturating_sub(marks.consumed);
        if self.held > HELD_BYTES_MAX {
            return Err(TlsError::protocol("a handshake message is too long or too fragmented"));
        }
        Ok(())
    }

    /// The same after our goodbye: whatever rustls would answer, an alert say, is not said.
    ///
    /// With debug assertions rustls 0.23 panics where it has an alert to send after its
    /// `close_notify`, as it has when the peer breaks TLS. That is the session's end and no bug of
    /// ours, so it is caught; without them, nothing is thrown.
    fn process_unheard(&mut self, wire: &mut [u8], marks: &mut Marks) -> Result<(), TlsError> {
        let mut unsaid = Vec::new();
        // A panic leaves a session of which only the phase is used.
        let process = AssertUnwindSafe(|| {
            let result = self.process(wire, marks, &mut unsaid);
            self.flush(&mut unsaid);
            result
        });
        let broken = || TlsError::protocol("the server broke TLS after our close_notify");
        panic::catch_unwind(process).unwrap_or_else(|_| Err(broken()))
    }

    /// Runs rustls until it has nothing more to do with `wire`. It ends: each round but the last
    /// takes a record from `wire`, or a chunk from the finite number that those records queued,
    /// or clears the flag that such a chunk has set.
    fn step(
        &mut self,
        wire: &mut [u8],
        marks: &mut Marks,
        out: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        loop {
            // A cursor moves instead of the bytes: rustls keeps offsets into handshake fragments
            // relative to what it has not let go, and that is where the cursor stands.
            let rest = wire.get_mut(marks.consumed..).unwrap_or_default();
            let status = self.connection.process_tls_records(rest);
            marks.consumed += status.discard;
            match status.state? {
                ConnectionState::ReadTraffic(_) => {
                    // The records read so far lie before the cursor, the plaintext of all but the
                    // last in `..plain`. A record's plaintext is shorter than the record by its
                    // header and tag, so it fits into what is free before the cursor: therefore
                    // `plain` never passes `consumed`.
                    let room = wire.get_mut(marks.plain..marks.consumed).unwrap_or_default();
                    marks.plain += take_plaintext(&mut self.connection, room)?;
                }
                ConnectionState::EncodeTlsData(chunk) => encode(chunk, out),
                ConnectionState::TransmitTlsData(sent) => sent.done(),
                ConnectionState::PeerClosed => {
                    marks.peer_closed = true;
                    return Ok(());
                }
                ConnectionState::BlockedHandshake
                | ConnectionState::WriteTraffic(_)
                | ConnectionState::Closed => return Ok(()),
                // Early data is the server's to read; the enum is open to later states.
                _ => return Err(TlsError::protocol(UNEXPECTED_STATE)),
            }
        }
    }

    /// Appends what rustls has queued. While something is, it is handed out before the input is
    /// looked at, so an empty input is safe.
    fn flush(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(chunk)) => encode(chunk, out),
                _ => return,
            }
        }
    }

    /// Brings rustls to where it encrypts. The input is as long as what it holds decrypted, which
    /// it skips unread; so what stands there does not matter. Almost always that is nothing.
    fn with_traffic(
        &mut self,
        mut encrypt: impl FnMut(&mut Traffic<'_>) -> Result<(), EncryptError>,
    ) -> Result<(), TlsError> {
        let mut skipped = vec![0; self.held];
        for _ in 0..TRAFFIC_ROUNDS_MAX {
            match self.connection.process_tls_records(&mut skipped).state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    return encrypt(&mut traffic).map_err(|e| TlsError::protocol(e.to_string()));
                }
                ConnectionState::TransmitTlsData(sent) => sent.done(),
                _ => break,
            }
        }
        Err(TlsError::protocol(UNEXPECTED_STATE))
    }

    fn fail(&mut self, e: TlsError, out: &mut Vec<u8>) {
        self.flush(out);
        if !matches!(self.phase, Phase::Failed(_)) {
            self.phase.go(Phase::Failed(e));
        }
    }
}

/// Where a session stands.
#[derive(Debug)]
enum Phase {
    Handshaking,
    Open,
    /// Its `close_notify` came; we may still send.
    PeerClosed,
    /// We said goodbye, and read what the peer still says.
    WriteClosed,
    /// We said goodbye, and nothing is read.
    Closed,
    Failed(TlsError),
}

impl Machine for Phase {
    const NAME: &'static str = "TLS session";

    const ARROWS: &'static [(&'static str, &'static str)] = &[
        ("Handshaking", "Open"),
        ("Handshaking", "Closed"),
        ("Handshaking", "Failed"),
        ("Open", "PeerClosed"),
        ("Open", "WriteClosed"),
        ("Open", "Closed"),
        ("Open", "Failed"),
        ("PeerClosed", "Closed"),
        ("PeerClosed", "Failed"),
        ("WriteClosed", "Closed"),
        ("WriteClosed", "Failed"),
    ];

    fn state(&self) -> &'static str {
        match self {
            Self::Handshaking => "Handshaking",
            Self::Open => "Open",
            Self::PeerClosed => "PeerClosed",
            Self::WriteClosed => "WriteClosed",
            Self::Closed => "Closed",
            Self::Failed(_) => "Failed",
        }
    }
}

/// How far a call of [`Session::open`] has come: `plain <= consumed`, always.
#[derive(Default)]
struct Marks {
    consumed: usize,
    plain: usize,
    peer_closed: bool,
}

type Traffic<'a> = WriteTraffic<'a, ClientConnectionData>;

/// Copies the plaintext that rustls holds into `room`, and says how much. It holds any only right
/// after it announced so, and hands it out before it looks at its input, which is empty here.
fn take_plaintext(
    connection: &mut UnbufferedClientConnection,
    room: &mut [u8],
) -> Result<usize, TlsError> {
    let state = connection.process_tls_records(&mut []).state?;
    let ConnectionState::ReadTraffic(mut traffic) = state else {
        return Err(TlsError::protocol(UNEXPECTED_STATE));
    };
    let mut filled = 0;
    while let Some(record) = traffic.next_record() {
        let payload = record?.payload;
        let Some(place) = room.get_mut(filled..).and_then(|r| r.get_mut(..payload.len())) else {
            return Err(TlsError::protocol(UNEXPECTED_STATE));
        };
        place.copy_from_slice(payload);
        filled += payload.len();
    }
    Ok(filled)
}

fn encode(mut chunk: EncodeTlsData<'_, ClientConnectionData>, out: &mut Vec<u8>) {
    let start = out.len();
    // The chunk's length is told only by refusing to fit it.
    if let Err(EncodeError::InsufficientSize(short)) = chunk.encode(&mut []) {
        out.resize(start + short.required_size, 0);
        let written = out.get_mut(start..).and_then(|room| chunk.encode(room).ok());
        out.truncate(start + written.unwrap_or(0));
    }
}

/// Appends what `write` writes, given `guess` bytes of room, or as many as it then asks for.
fn append(
    out: &mut Vec<u8>,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), EncryptError> {
    let start = out.len();
    out.resize(start + guess, 0);
    let mut written = write(out.get_mut(start..).unwrap_or_default());
    if let Err(EncryptError::InsufficientSize(short)) = &written {
        out.resize(start + short.required_size, 0);
        written = write(out.get_mut(start..).unwrap_or_default());
    }
    out.truncate(start + written.as_ref().copied().unwrap_or(0));
    written.map(|_| ())
}

/// Where the last complete record of `wire` ends, given that one ends at `from`. RFC 8446 §5.1:
/// a record is a type, a version, a length of two bytes, and so many bytes.
fn complete_records(wire: &[u8], from: usize) -> usize {
    let mut end = from;
    while let Some([_, _, _, high, low]) = wire.get(end..).and_then(|rest| rest.first_chunk()) {
        let next = end + RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
        if next > wire.len() {
            break;
        }
        end = next;
    }
    end
}

const RECORD_HEADER_BYTES: usize = 5;

/// RFC 8446 §5.1: 2^14.
const RECORD_PLAIN_BYTES_MAX: usize = 16_384;

/// Header, explicit nonce (TLS 1.2) or inner type (TLS 1.3), and tag: 29 and 22 bytes. Where a
/// suite takes more, encryption is asked twice.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// Decrypted fragments of one handshake message that a caller may have to keep. rustls takes
/// messages of up to 64 KiB; twice that allows for records that are half overhead.
const HELD_BYTES_MAX: usize = 128 * 1024;

/// What a caller may have to keep: held fragments, and less than one record of 16 KiB with the
/// expansion that TLS 1.2 allows (RFC 5246 §6.2.3: 2,048 bytes).
pub(crate) const KEPT_BYTES_MAX: usize =
    HELD_BYTES_MAX + RECORD_HEADER_BYTES + RECORD_PLAIN_BYTES_MAX + 2_048;

/// A transmission to acknowledge, then traffic; with one to spare.
const TRAFFIC_ROUNDS_MAX: usize = 3;

const UNEXPECTED_STATE: &str = "the TLS library is in an unexpected state";
