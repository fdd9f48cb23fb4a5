//! A DNS server on loopback, UDP and TCP on one port. Its messages are written by hand, so that
//! they share no mistake with the codec under test.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::latch::Latch;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum QueryType {
    A,
    Aaaa,
    Other(u16),
}

/// One question that a [`DnsServer`] has received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DnsQuestion {
    /// Without the final dot, in the case of the wire.
    pub(crate) name: String,
    pub(crate) kind: QueryType,
    pub(crate) over_tcp: bool,
    /// How often this name and type were asked for before.
    pub(crate) nth: usize,
    pub(crate) id: u16,
    /// Where it came from.
    pub(crate) from: SocketAddr,
}

/// What a [`DnsServer`] does about a question.
#[derive(Clone, Debug)]
pub(crate) enum DnsReply {
    /// The addresses of the family asked for, with a TTL in seconds. None of that family: an empty
    /// answer with an SOA of that TTL.
    Answer(Vec<IpAddr>, u32),
    /// A CNAME to this name, and its addresses.
    Alias(String, Vec<IpAddr>, u32),
    /// There is no such name, for this many seconds.
    NxDomain(u32),
    ServFail,
    /// Nothing at all.
    Silent,
    /// Over UDP an empty answer with TC; over TCP the addresses.
    Truncated(Vec<IpAddr>, u32),
    /// Three answers with these addresses, of which one has another id, one another question and
    /// one comes from another port; then the true reply. Over TCP the true reply only.
    Forged(Vec<IpAddr>, Box<Self>),
    /// These bytes, whatever they are, after the id.
    Garbage(Vec<u8>),
    /// The reply, once the latch is released. Others are answered meanwhile.
    After(Latch, Box<Self>),
}

/// A server; dropping it ends its threads.
#[derive(Debug)]
pub(crate) struct DnsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl DnsServer {
    pub(crate) fn start(
        handler: impl Fn(&DnsQuestion) -> DnsReply + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp) = bind_both();
        let address = udp.local_addr().unwrap();
        let shared = Arc::new(Shared { state: Mutex::default(), handler: Box::new(handler) });
        let (datagrams, streams) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || serve_datagrams(&Arc::new(udp), &datagrams)),
            thread::spawn(move || serve_streams(&tcp, &streams)),
        ];
        Self { address, shared, threads }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every question so far, in order.
    pub(crate) fn questions(&self) -> Vec<DnsQuestion> {
        self.shared.lock().questions.clone()
    }

    /// How many questions of any type were about `name`.
    pub(crate) fn count(&self, name: &str) -> usize {
        let state = self.shared.lock();
        state.questions.iter().filter(|asked| asked.name.eq_ignore_ascii_case(name)).count()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        let latches = {
            let mut state = self.shared.lock();
            state.is_stopped = true;
            std::mem::take(&mut state.latches)
        };
        latches.iter().for_each(Latch::release);
        // Each thread wakes for something of no meaning, and sees that it is over.
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) {
            let _ = socket.send_to(&[], self.address);
        }
        let _ = TcpStream::connect(self.address);
        let mut failed = 0;
        for thread in self.threads.drain(..) {
            failed += usize::from(thread.join().is_err());
        }
        if !thread::panicking() {
            assert_eq!(failed, 0, "threads of the DNS server panicked");
        }
    }
}

struct Shared {
    state: Mutex<State>,
    handler: Box<dyn Fn(&DnsQuestion) -> DnsReply + Send + Sync>,
}

#[derive(Default)]
struct State {
    questions: Vec<DnsQuestion>,
    asked: HashMap<(String, QueryType), usize>,
    latches: Vec<Latch>,
    is_stopped: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the question and asks the handler. `None` for what is not a question.
    fn reply(&self, message: &[u8], from: SocketAddr, over_tcp: bool) -> Option<(Asked, DnsReply)> {
        let asked = Asked::parse(message)?;
        let question = {
            let mut state = self.lock();
            let times =
                state.asked.entry((asked.name.to_ascii_lowercase(), asked.kind)).or_default();
            let nth = *times;
            *times += 1;
            let (name, kind, id) = (asked.name.clone(), asked.kind, asked.id);
            let question = DnsQuestion { name, kind, over_tcp, nth, id, from };
            state.questions.push(question.clone());
            question
        };
        let reply = (self.handler)(&question);
        Some((asked, reply))
    }

    /// Whether the latch was released while the server is still there.
    fn wait(&self, latch: &Latch) -> bool {
        {
            let mut state = self.lock();
            if state.is_stopped {
                return false;
            }
            state.latches.push(latch.clone());
        }
        latch.wait();
        !self.lock().is_stopped
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("questions", &self.lock().questions).finish_non_exhaustive()
    }
}

fn bind_both() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn serve_datagrams(socket: &Arc<UdpSocket>, shared: &Arc<Shared>) {
    let mut buffer = [0; 4096];
    loop {
        let received = socket.recv_from(&mut buffer);
        if shared.lock().is_stopped {
            return;
        }
        // A client's closed port makes the next call fail; that is its affair.
        let Ok((length, from)) = received else { continue };
        let Some((asked, reply)) = shared.reply(&buffer[..length], from, false) else { continue };
        if let DnsReply::After(latch, reply) = reply {
            let (socket, shared) = (Arc::clone(socket), Arc::clone(shared));
            thread::spawn(move || {
                if shared.wait(&latch) {
                    send_datagrams(&socket, from, &asked, &reply);
                }
            });
        } else {
            send_datagrams(socket, from, &asked, &reply);
        }
    }
}

fn send_datagrams(socket: &UdpSocket, to: SocketAddr, asked: &Asked, reply: &DnsReply) {
    if let DnsReply::Forged(addresses, then) = reply {
        let answer = DnsReply::Answer(addresses.clone(), 60);
        let forged = [
            Asked { id: asked.id ^ 1, ..asked.clone() },
            Asked { name: "forged.test".to_owned(), ..asked.clone() },
        ];
        for message in forged.iter().filter_map(|asked| asked.message(&answer, false)) {
            let _ = socket.send_to(&message, to);
        }
        let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let _ = stranger.send_to(&asked.message(&answer, false).unwrap_or_default(), to);
        return send_datagrams(socket, to, asked, then);
    }
    if let Some(message) = asked.message(reply, false) {
        let _ = socket.send_to(&message, to);
    }
}

fn serve_streams(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut open: Vec<(TcpStream, JoinHandle<io::Result<()>>)> = Vec::new();
    for stream in listener.incoming() {
        if shared.lock().is_stopped {
            break;
        }
        let Ok(stream) = stream else { continue };
        let second = stream.try_clone().unwrap();
        let mine = Arc::clone(shared);
        open.push((second, thread::spawn(move || serve_stream(stream, &mine))));
    }
    for (stream, thread) in open {
        let _ = stream.shutdown(Shutdown::Both);
        let _ = thread.join();
    }
}

/// Answers one question after another (RFC 7766), until the client ends.
fn serve_stream(mut stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let from = stream.peer_addr()?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message)?;
        let Some((asked, mut reply)) = shared.reply(&message, from, true) else {
            return stream.shutdown(Shutdown::Both);
        };
        while let DnsReply::Forged(_, then) | DnsReply::After(_, then) = &reply {
            if let DnsReply::After(latch, _) = &reply
                && !shared.wait(latch)
            {
                return Ok(());
            }
            reply = (**then).clone();
        }
        if let Some(message) = asked.message(&reply, true) {
            let length = u16::try_from(message.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length[..], &message].concat())?;
        }
    }
}

/// The question of a message.
#[derive(Clone)]
struct Asked {
    id: u16,
    name: String,
    kind: QueryType,
}

impl Asked {
    fn parse(message: &[u8]) -> Option<Self> {
        let id = u16::from_be_bytes([*message.first()?, *message.get(1)?]);
        let is_query = *message.get(2)? & 0x80 == 0 && message.get(4..6)? == [0, 1];
        let mut labels = Vec::new();
        let mut at = 12;
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(message.get(at..at + length)?).into_owned());
            at += length;
        }
        let kind = match u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]) {
            1 => QueryType::A,
            28 => QueryType::Aaaa,
            other => QueryType::Other(other),
        };
        is_query.then(|| Self { id, name: labels.join("."), kind })
    }

    /// The response as bytes, or `None` where there is to be none.
    fn message(&self, reply: &DnsReply, over_tcp: bool) -> Option<Vec<u8>> {
        match reply {
            DnsReply::Answer(addresses, ttl) => Some(self.answer(None, addresses, *ttl)),
            DnsReply::Alias(alias, addresses, ttl) => {
                Some(self.answer(Some(alias), addresses, *ttl))
            }
            DnsReply::Truncated(addresses, ttl) if over_tcp => {
                Some(self.answer(None, addresses, *ttl))
            }
            DnsReply::Truncated(..) => Some(self.head(0x8380, 0, 0)),
            DnsReply::NxDomain(ttl) => Some(with_soa(self.head(0x8183, 0, 1), *ttl)),
            DnsReply::ServFail => Some(self.head(0x8182, 0, 0)),
            DnsReply::Garbage(bytes) => Some([&self.id.to_be_bytes()[..], bytes].concat()),
            DnsReply::Silent | DnsReply::Forged(..) | DnsReply::After(..) => None,
        }
    }

    fn answer(&self, alias: Option<&str>, addresses: &[IpAddr], ttl: u32) -> Vec<u8> {
        let data: Vec<Vec<u8>> = addresses
            .iter()
            .filter_map(|address| match (address, self.kind) {
                (IpAddr::V4(address), QueryType::A) => Some(address.octets().to_vec()),
                (IpAddr::V6(address), QueryType::Aaaa) => Some(address.octets().to_vec()),
                _ => None,
            })
            .collect();
        let answers = data.len() + usize::from(alias.is_some());
        let empty = u16::from(answers == 0);
        let mut message = self.head(0x8180, u16::try_from(answers).unwrap(), empty);
        let mut owner = QUESTION_POINTER.to_vec();
        if let Some(alias) = alias {
            let alias = encode_name(alias);
            record(&mut message, &owner, 5, ttl, &alias);
            owner = alias;
        }
        for address in &data {
            record(&mut message, &owner, self.kind.code(), ttl, address);
        }
        if empty == 1 { with_soa(message, ttl) } else { message }
    }

    /// The header and the question.
    fn head(&self, flags: u16, answers: u16, authorities: u16) -> Vec<u8> {
        let counts = [self.id, flags, 1, answers, authorities, 0];
        let mut message: Vec<u8> = counts.iter().flat_map(|count| count.to_be_bytes()).collect();
        message.extend(encode_name(&self.name));
        message.extend(self.kind.code().to_be_bytes());
        message.extend(CLASS_IN.to_be_bytes());
        message
    }
}

impl QueryType {
    fn code(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
            Self::Other(code) => code,
        }
    }
}

fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn record(message: &mut Vec<u8>, owner: &[u8], kind: u16, ttl: u32, data: &[u8]) {
    message.extend_from_slice(owner);
    message.extend(kind.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message.extend(ttl.to_be_bytes());
    message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    message.extend_from_slice(data);
}

/// The negative TTL is the lesser of the record's own and its last field (RFC 2308, section 5).
fn with_soa(mut message: Vec<u8>, ttl: u32) -> Vec<u8> {
    let mut data = encode_name("ns.test");
    data.extend(encode_name("admin.test"));
    data.extend([1, 60, 60, 60, ttl].iter().flat_map(|field| u32::to_be_bytes(*field)));
    record(&mut message, &[0], 6, ttl, &data);
    message
}

const CLASS_IN: u16 = 1;
/// Compression: the name at offset 12, the question's.
const QUESTION_POINTER: [u8; 2] = [0xc0, 12];
