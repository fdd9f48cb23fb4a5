//! The resolver over a network of the test's own, with a clock that is moved by hand.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime};

use super::link::EMFILE;
use super::*;
use crate::net::SystemAnswer;
use crate::wire::dns::message::server::Reply;

/// Sockets that only remember. A datagram socket and a stream are both a place in `sockets`.
#[derive(Default)]
struct World {
    sockets: Vec<Fake>,
    refusals: VecDeque<io::Error>,
    connect_error: Option<io::Error>,
    write_at_most: usize,
    drawn: u16,
    asked: Vec<(String, u64)>,
    answers: VecDeque<SystemAnswer>,
}

struct Fake {
    to: SocketAddr,
    token: Token,
    is_open: bool,
    is_stream: bool,
    sent: Vec<u8>,
    inbox: VecDeque<io::Result<Vec<u8>>>,
}

impl World {
    fn new() -> Self {
        Self { write_at_most: usize::MAX, ..Self::default() }
    }

    fn open(&mut self, to: SocketAddr, token: Token, is_stream: bool) -> io::Result<usize> {
        if let Some(error) = self.refusals.pop_front() {
            return Err(error);
        }
        assert!(Resolver::<Self, u32>::owns(token));
        let (sent, inbox) = (Vec::new(), VecDeque::new());
        self.sockets.push(Fake { to, token, is_open: true, is_stream, sent, inbox });
        Ok(self.sockets.len() - 1)
    }

    fn take(&mut self, at: usize, into: &mut [u8]) -> io::Result<usize> {
        let fake = &mut self.sockets[at];
        assert!(fake.is_open);
        let mut bytes = fake.inbox.pop_front().ok_or(io::ErrorKind::WouldBlock)??;
        let length = bytes.len().min(into.len());
        into[..length].copy_from_slice(&bytes[..length]);
        if fake.is_stream && length < bytes.len() {
            fake.inbox.push_front(Ok(bytes.split_off(length)));
        }
        Ok(length)
    }

    fn live(&self) -> Vec<usize> {
        (0..self.sockets.len()).filter(|at| self.sockets[*at].is_open).collect()
    }

    /// The message sent over a socket.
    fn query(&self, at: usize) -> Reply {
        let fake = &self.sockets[at];
        Reply::to(if fake.is_stream { &fake.sent[2..] } else { &fake.sent })
    }
}

impl Net for World {
    type Stream = usize;
    type Datagram = usize;

    fn connect(&mut self, to: SocketAddr, token: Token) -> io::Result<usize> {
        self.open(to, token, true)
    }
    fn read(&mut self, stream: &mut usize, into: &mut [u8]) -> io::Result<usize> {
        self.take(*stream, into)
    }
    fn write(&mut self, stream: &mut usize, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.write_at_most);
        if length == 0 {
            self.write_at_most = 7;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.write_at_most != usize::MAX {
            self.write_at_most = 0;
        }
        self.sockets[*stream].sent.extend_from_slice(&bytes[..length]);
        Ok(length)
    }
    fn shutdown(&mut self, _: &mut usize) -> io::Result<()> {
        unreachable!("nothing is upgraded here")
    }
    fn take_error(&mut self, _: &mut usize) -> io::Result<Option<io::Error>> {
        Ok(self.connect_error.take())
    }
    fn close(&mut self, stream: usize) {
        assert!(std::mem::take(&mut self.sockets[stream].is_open));
    }
    fn open_datagram(&mut self, to: SocketAddr, token: Token) -> io::Result<usize> {
        self.open(to, token, false)
    }
    fn send(&mut self, socket: &mut usize, datagram: &[u8]) -> io::Result<usize> {
        self.sockets[*socket].sent = datagram.to_vec();
        Ok(datagram.len())
    }
    fn receive(&mut self, socket: &mut usize, into: &mut [u8]) -> io::Result<usize> {
        self.take(*socket, into)
    }
    fn close_datagram(&mut self, socket: usize) {
        self.close(socket);
    }
    fn wait(
        &mut self,
        _: Option<Duration>,
        _: Option<Duration>,
        _: &mut Vec<Readiness>,
    ) -> io::Result<bool> {
        unreachable!("the tests call the resolver themselves")
    }
    fn now(&mut self) -> Duration {
        unreachable!("time is an argument")
    }
    fn epoch(&self) -> Instant {
        unreachable!("time is an argument")
    }
    fn wall(&mut self) -> SystemTime {
        unreachable!("time is an argument")
    }
    fn random(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.drawn += 1;
        into.copy_from_slice(&self.drawn.to_ne_bytes());
        Ok(())
    }
    fn resolver_files(&mut self) -> ResolverFiles {
        unreachable!("the files are an argument")
    }
    fn start_system_lookup(&mut self, host: &str, ticket: u64) -> io::Result<()> {
        self.asked.push((host.to_owned(), ticket));
        Ok(())
    }
    fn next_system_answer(&mut self) -> Option<SystemAnswer> {
        self.answers.pop_front()
    }
}

struct Bench {
    net: World,
    resolver: Resolver<World, u32>,
    now: Moment,
}

impl Bench {
    fn new() -> Self {
        Self::with("nameserver 10.0.0.1\nnameserver 10.0.0.2", ResolverSettings::default())
    }

    fn with(resolv_conf: &str, settings: ResolverSettings) -> Self {
        let files = ResolverFiles {
            hosts: Some(b"192.0.2.80 here here.example".to_vec()),
            resolv_conf: Some(resolv_conf.as_bytes().to_vec()),
            nsswitch: Some(b"hosts: files dns".to_vec()),
        };
        let resolver = Resolver::new(&files, settings);
        Self { net: World::new(), resolver, now: Moment::from_micros(1_000_000) }
    }

    fn resolve(&mut self, host: &str, waiter: u32) -> Resolution {
        self.resolver.resolve(&mut self.net, host, waiter, self.now)
    }

    fn pending(&mut self, host: &str, waiter: u32) -> LookupKey {
        match self.resolve(host, waiter) {
            Resolution::Pending(key) => key,
            other => unreachable!("{other:?}"),
        }
    }

    fn forget(&mut self, key: LookupKey, waiter: u32) {
        self.resolver.forget(&mut self.net, key, waiter, self.now);
    }

    fn give(&mut self, at: usize, bytes: Vec<u8>) {
        self.net.sockets[at].inbox.push_back(Ok(bytes));
        self.ready(at);
    }

    fn ready(&mut self, at: usize) {
        let token = self.net.sockets[at].token;
        let ready = Readiness { token, bits: Readiness::READABLE | Readiness::WRITABLE };
        self.resolver.receive(&mut self.net, ready, self.now);
    }

    /// Answers every open query: the same IPv4 address for all names, and no IPv6.
    fn answer_all(&mut self, ttl: u32) {
        for at in self.net.live() {
            let reply = self.net.query(at);
            let reply = match reply.kind() {
                Kind::A => reply.ip(ttl, "192.0.2.1"),
                Kind::Aaaa => reply,
            };
            self.give(at, reply.bytes());
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now.after(Duration::from_millis(millis));
        self.resolver.on_time(&mut self.net, self.now);
    }

    /// In how many milliseconds the resolver has something to do.
    fn due(&self) -> Option<u128> {
        self.resolver.next_deadline().map(|due| due.since(self.now).as_millis())
    }

    fn finished(&mut self) -> Vec<(u32, Resolved)> {
        std::iter::from_fn(|| self.resolver.next_finished())
            .map(|ended| (ended.waiter, ended.resolved))
            .collect()
    }

    fn assert_idle(&self) {
        assert!(self.resolver.is_idle() && self.net.live().is_empty());
        assert!(self.resolver.sockets.is_empty() && self.resolver.by_name.is_empty());
        assert_eq!((self.resolver.asking, self.due()), (0, None));
    }
}

fn one() -> Resolved {
    Ok(Arc::from(vec![IpAddr::from([192, 0, 2, 1])]))
}

#[test]
fn one_lookup_serves_all_who_wait_and_then_the_cache() {
    let mut bench = Bench::new();
    let key = bench.pending("www.example", 1);
    assert_eq!(bench.pending("WWW.example", 2), key);
    assert_eq!(bench.net.live().len(), 2);
    assert_eq!(bench.due(), Some(5_000));
    bench.answer_all(300);
    assert_eq!(bench.finished(), [(1, one()), (2, one())]);
    bench.assert_idle();
    bench.pass(299_999);
    assert_eq!(bench.resolve("www.example", 3), resolution(one()));
    bench.pass(1);
    bench.pending("www.example", 4);
}

#[test]
fn absence_is_remembered_too() {
    let mut bench = Bench::new();
    bench.pending("gone.example", 1);
    for at in bench.net.live() {
        let reply = bench.net.query(at).code(3).soa(10, 10);
        bench.give(at, reply.bytes());
    }
    assert_eq!(bench.finished(), [(1, Err(DnsError::NoSuchName))]);
    bench.pass(9_999);
    assert_eq!(bench.resolve("gone.example", 2), Resolution::Failed(DnsError::NoSuchName));
    bench.pass(1);
    bench.pending("gone.example", 3);
}

#[test]
fn what_is_known_here_asks_nobody() {
    let mut bench = Bench::new();
    for host in ["here", "HERE.example", "here.example."] {
        let resolution = bench.resolve(host, 1);
        assert_eq!(resolution, Resolution::Ready(vec![[192, 0, 2, 80].into()].into()));
    }
    let both: Vec<IpAddr> = vec!["::1".parse().unwrap(), [127, 0, 0, 1].into()];
    assert_eq!(bench.resolve("a.localhost.", 1), Resolution::Ready(both.into()));
    for host in ["", ".", "a..b", "-.é"] {
        assert_eq!(bench.resolve(host, 1), Resolution::Failed(DnsError::InvalidName));
    }
    assert!(bench.net.sockets.is_empty());
    bench.assert_idle();
}

#[test]
fn a_lookup_ends_with_its_last_waiter() {
    let mut bench = Bench::new();
    let key = bench.pending("www.example", 1);
    bench.pending("www.example", 2);
    bench.forget(key, 1);
    bench.forget(key, 1);
    assert_eq!(bench.net.live().len(), 2);
    bench.forget(key, 2);
    bench.assert_idle();
    let other = bench.pending("www.example", 3);
    assert_ne!(other, key);
    // Events of sockets that are gone, and of none that ever was.
    bench.ready(0);
    let token = Token(u64::MAX >> 1);
    let ready = Readiness { token, bits: Readiness::READABLE };
    bench.resolver.receive(&mut bench.net, ready, bench.now);
    bench.answer_all(9);
    bench.forget(other, 3);
    assert!(bench.finished().is_empty(), "who was forgotten hears nothing");
    bench.assert_idle();
}

#[test]
fn each_try_has_a_socket_and_an_id_of_its_own() {
    let mut bench = Bench::new();
    bench.pending("www.example", 1);
    bench.pass(5_000);
    let to: Vec<String> = bench.net.sockets.iter().map(|fake| fake.to.to_string()).collect();
    assert_eq!(to, ["10.0.0.1:53", "10.0.0.1:53", "10.0.0.2:53", "10.0.0.2:53"]);
    let mut ids: Vec<&[u8]> = bench.net.sockets.iter().map(|fake| &fake.sent[..2]).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert_eq!(bench.net.live(), [2, 3]);
    for _ in 0..3 {
        bench.pass(5_000);
    }
    let ended = bench.finished();
    assert!(matches!(&ended[..], [(1, Err(DnsError::Timeout { servers }))] if servers.len() == 2));
    bench.assert_idle();
}

#[test]
fn forged_datagrams_are_counted_then_the_socket_is_left() {
    let mut bench = Bench::new();
    bench.pending("www.example", 1);
    let forged = bench.net.query(0).id(9_999).ip(9, "192.0.2.66").bytes();
    for _ in 0..64 {
        bench.give(0, forged.clone());
        bench.ready(0);
    }
    assert_eq!(bench.net.live(), [0, 1]);
    bench.give(0, forged);
    assert_eq!(bench.net.live(), [1, 2]);
    bench.answer_all(9);
    assert_eq!(bench.finished(), [(1, one())]);
    bench.assert_idle();
}

#[test]
fn an_error_of_a_socket_moves_to_the_next_server() {
    let mut bench = Bench::new();
    bench.pending("www.example", 1);
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    bench.net.sockets[0].inbox.push_back(Err(refused));
    bench.ready(0);
    assert_eq!(bench.net.live(), [1, 2]);
    assert_eq!(bench.net.sockets[2].to.to_string(), "10.0.0.2:53");

    let mut bench = Bench::new();
    bench.net.refusals = (0..8).map(|_| io::ErrorKind::NetworkUnreachable.into()).collect();
    let failed = bench.resolve("www.example", 1);
    assert!(matches!(failed, Resolution::Failed(DnsError::Unreachable { .. })), "{failed:?}");
    bench.assert_idle();
}

#[test]
fn a_lack_of_descriptors_only_delays() {
    let mut bench = Bench::new();
    let full = || io::Error::from_raw_os_error(EMFILE);
    bench.net.refusals = [full(), full(), full()].into();
    bench.pending("www.example", 1);
    for _ in 0..3 {
        assert_eq!(bench.due(), Some(50));
        assert!(bench.net.live().is_empty());
        bench.pass(49);
        bench.pass(1);
    }
    bench.answer_all(9);
    assert_eq!(bench.finished(), [(1, one())]);
    bench.assert_idle();
}

#[test]
fn many_names_take_turns_at_the_sockets() {
    let mut bench = Bench::new();
    let keys: Vec<_> = (0..2_000).map(|n| bench.pending(&format!("n{n}.example"), n)).collect();
    assert_eq!(bench.net.live().len(), 512);
    for n in (1..2_000).step_by(2) {
        bench.forget(keys[n as usize], n);
    }
    let mut ended = Vec::new();
    while !bench.net.live().is_empty() {
        assert!(bench.net.live().len() <= 512);
        bench.answer_all(300);
        ended.extend(bench.finished().into_iter().map(|(waiter, _)| waiter));
    }
    ended.sort_unstable();
    assert_eq!(ended, (0..2_000).step_by(2).collect::<Vec<_>>());
    bench.assert_idle();
    assert!(bench.resolver.queue.len() <= QUEUE_SLACK);
}

#[test]
fn silent_names_time_out_in_their_own_time() {
    let mut bench = Bench::new();
    for n in 0..200 {
        bench.pending(&format!("n{n}.example"), n);
        bench.pass(1);
    }
    assert_eq!(bench.due(), Some(4_800));
    for at in bench.net.live() {
        let name = bench.net.query(at).name().to_owned();
        if name != "n7.example" {
            let reply = bench.net.query(at).code(3);
            bench.give(at, reply.bytes());
        }
    }
    assert_eq!(bench.finished().len(), 199);
    assert_eq!(bench.due(), Some(4_807));
}

#[test]
fn a_truncated_answer_is_read_from_a_stream_at_every_cut() {
    let mut cut = 0;
    loop {
        let mut bench = Bench::new();
        bench.pending("www.example", 1);
        for at in bench.net.live() {
            let reply = bench.net.query(at);
            let is_four = reply.kind() == Kind::A;
            bench.give(at, if is_four { reply.truncated() } else { reply }.bytes());
        }
        let [at] = bench.net.live()[..] else { unreachable!("one stream") };
        assert!(bench.net.sockets[at].is_stream);
        assert_eq!(bench.net.sockets[at].to.to_string(), "10.0.0.1:53");
        assert!(bench.net.sockets[at].sent.is_empty(), "not connected yet");
        bench.net.write_at_most = 7;
        while bench.net.sockets[at].sent.len() < 2 + 40 {
            bench.ready(at);
        }
        let reply = bench.net.query(at).ip(9, "192.0.2.1").bytes();
        let mut stream = u16::try_from(reply.len()).unwrap().to_be_bytes().to_vec();
        stream.extend_from_slice(&reply);
        let tail = stream.split_off(cut);
        let was_last = tail.is_empty();
        for piece in [stream, tail].into_iter().filter(|piece| !piece.is_empty()) {
            bench.give(at, piece);
        }
        assert_eq!(bench.finished(), [(1, one())], "cut at {cut}");
        bench.assert_idle();
        if was_last {
            return;
        }
        cut += 1;
    }
}

#[test]
fn a_stream_that_ends_early_or_never_is_left() {
    let streams = "nameserver 10.0.0.1\nnameserver 10.0.0.2\noptions use-vc no-aaaa";
    let mut bench = Bench::with(streams, ResolverSettings::default());
    bench.pending("www.example", 1);
    bench.net.connect_error = Some(io::ErrorKind::ConnectionRefused.into());
    bench.ready(0);
    assert_eq!(bench.net.live(), [1]);

    let mut bench = Bench::with(streams, ResolverSettings::default());
    bench.pending("www.example", 1);
    bench.ready(0);
    bench.give(0, vec![0, 40, 1, 2]);
    bench.give(0, Vec::new());
    assert_eq!(bench.net.live(), [1]);
    bench.ready(1);
    let mut garbage = 0;
    while bench.net.live() == [1] {
        bench.give(1, vec![0; 4_096]);
        garbage += 4_096;
        assert!(garbage < 200_000);
    }
    assert_eq!(bench.net.live(), [2]);
}

#[test]
fn the_system_is_asked_where_it_must_be() {
    let mut bench = Bench::new();
    let key = bench.pending("printer.local", 1);
    assert_eq!(bench.pending("printer.local", 2), key);
    let dropped = bench.pending("other.local", 3);
    bench.forget(dropped, 3);
    assert_eq!(bench.net.asked.len(), 2);
    assert!(bench.net.sockets.is_empty() && bench.due().is_none());
    for (nth, (_, ticket)) in bench.net.asked.iter().enumerate() {
        let addresses = if nth == 0 { Ok(vec![[192, 0, 2, 1].into()]) } else { Ok(vec![]) };
        bench.net.answers.push_back(SystemAnswer { ticket: *ticket, addresses });
    }
    bench.resolver.system_answers(&mut bench.net, bench.now);
    assert_eq!(bench.finished(), [(1, one()), (2, one())]);
    bench.assert_idle();
    assert_eq!(bench.resolve("printer.local", 4), resolution(one()));
    bench.pass(1_000);
    bench.pending("printer.local", 5);
    let (_, ticket) = bench.net.asked[2];
    let addresses = Err(io::Error::other("Name or service not known"));
    bench.net.answers.push_back(SystemAnswer { ticket, addresses });
    bench.resolver.system_answers(&mut bench.net, bench.now);
    let reason = "Name or service not known".to_owned();
    assert_eq!(bench.finished(), [(5, Err(DnsError::System { reason }))]);
    bench.assert_idle();
}

#[test]
fn settings_decide_who_is_asked() {
    let asks_system = |mode, servers: Option<&str>, host: &str| {
        let servers = servers.map(|text| vec![text.parse().unwrap()]);
        let mut bench = Bench::with("options warp", ResolverSettings { mode, servers });
        bench.pending(host, 1);
        assert_ne!(bench.net.asked.is_empty(), bench.net.sockets.is_empty());
        bench.net.sockets.first().map_or("system".to_owned(), |fake| fake.to.to_string())
    };
    let own = Some("10.9.9.9:5353");
    assert_eq!(asks_system(ResolverChoice::Auto, None, "a.example"), "system");
    assert_eq!(asks_system(ResolverChoice::Auto, own, "a.local"), "10.9.9.9:5353");
    assert_eq!(asks_system(ResolverChoice::Builtin, None, "a.example"), "127.0.0.1:53");
    assert_eq!(asks_system(ResolverChoice::System, own, "here"), "system");
}
