//! Lookups against scripted servers: lost, late, forged and truncated answers, search lists.

use super::super::message::server::Reply;
use super::*;

const TTL: u32 = 300;

/// A lookup, its clock, and the last query sent in each family.
struct Bench {
    lookup: Lookup,
    now: Moment,
    id: u16,
    last: [Option<(Transmit, Vec<u8>)>; 2],
    log: Vec<String>,
}

impl Bench {
    fn new(resolv_conf: &str, host: &str) -> Self {
        Self::drawing(resolv_conf, host, 0)
    }

    fn drawing(resolv_conf: &str, host: &str, draw: u16) -> Self {
        let config = Arc::new(Config::parse(Some(resolv_conf.as_bytes()), None));
        let mut bench = Self {
            lookup: Lookup::new(&config, host, draw),
            now: Moment::from_micros(1_000_000),
            id: 100,
            last: [None, None],
            log: Vec::new(),
        };
        bench.flush();
        bench
    }

    /// Sends all that wants to be sent.
    fn flush(&mut self) {
        while let Some(transmit) = self.lookup.next_transmit() {
            let mut bytes = Vec::new();
            self.id += 1;
            self.lookup.send(transmit.kind, self.id, self.now, &mut bytes);
            if transmit.transport == Transport::Tcp {
                let mut frames = Frames::default();
                frames.receive(&bytes);
                bytes = frames.next_message().unwrap();
            }
            let query = Reply::to(&bytes);
            self.log.push(format!(
                "{:?} {} @{} {:?}",
                query.kind(),
                query.name(),
                transmit.server.ip(),
                transmit.transport
            ));
            self.last[transmit.kind as usize] = Some((transmit, bytes));
        }
    }

    fn reply(&self, kind: Kind) -> Reply {
        Reply::to(&self.last[kind as usize].as_ref().unwrap().1)
    }

    fn answer(&mut self, kind: Kind, with: impl FnOnce(Reply) -> Reply) -> bool {
        let bytes = with(self.reply(kind)).bytes();
        self.raw(kind, &bytes)
    }

    fn raw(&mut self, kind: Kind, bytes: &[u8]) -> bool {
        let was_ours = self.lookup.receive(kind, bytes, self.now);
        self.flush();
        was_ours
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now.after(Duration::from_millis(millis));
        self.lookup.on_time(self.now);
        self.flush();
    }

    /// How long until the deadline, in milliseconds.
    fn due(&self) -> u128 {
        self.lookup.next_deadline().since(self.now).as_millis()
    }

    fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    fn found(&self) -> Vec<String> {
        let verdict = self.lookup.verdict().unwrap();
        verdict.result.as_ref().unwrap().iter().map(ToString::to_string).collect()
    }

    fn error(&self) -> DnsError {
        self.lookup.verdict().unwrap().result.clone().unwrap_err()
    }

    fn ttl(&self) -> u64 {
        self.lookup.verdict().unwrap().ttl.as_secs()
    }
}

fn four(reply: Reply) -> Reply {
    reply.ip(TTL, "192.0.2.1").ip(TTL, "192.0.2.2")
}

fn six(reply: Reply) -> Reply {
    reply.ip(60, "2001:db8::1")
}

fn nothing(reply: Reply) -> Reply {
    reply.soa(40, 40)
}

fn nobody(reply: Reply) -> Reply {
    reply.code(3).soa(50, 50)
}

const ONE: &str = "nameserver 10.0.0.1";
const TWO: &str = "nameserver 10.0.0.1\nnameserver 10.0.0.2";

#[test]
fn both_families_are_asked_at_once_and_interleaved() {
    let mut bench = Bench::new(ONE, "www.example");
    let asked = ["A www.example @10.0.0.1 Udp", "Aaaa www.example @10.0.0.1 Udp"];
    assert_eq!(bench.take_log(), asked);
    assert!(bench.answer(Kind::A, four));
    assert!(bench.lookup.verdict().is_none());
    assert!(bench.answer(Kind::Aaaa, six));
    assert_eq!(bench.found(), ["2001:db8::1", "192.0.2.1", "192.0.2.2"]);
    assert_eq!(bench.ttl(), 60);
    assert_eq!(bench.lookup.next_deadline(), Moment::NEVER);
}

#[test]
fn ipv6_is_waited_for_fifty_milliseconds() {
    let mut bench = Bench::new(ONE, "www.example");
    bench.answer(Kind::A, four);
    assert_eq!(bench.due(), 50);
    bench.pass(49);
    assert!(bench.lookup.verdict().is_none());
    bench.pass(1);
    assert_eq!(bench.found(), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(bench.ttl(), 30, "half an answer is not kept for long");
    assert!(!bench.lookup.is_waiting(Kind::Aaaa));
}

#[test]
fn what_comes_after_the_verdict_does_not_change_it() {
    let mut bench = Bench::new(ONE, "www.example");
    bench.answer(Kind::A, four);
    bench.pass(50);
    let verdict = bench.lookup.verdict().cloned();
    assert!(!bench.answer(Kind::Aaaa, six), "nobody waits for it");
    bench.lookup.receive_failure(Kind::Aaaa, "refused".to_owned(), bench.now);
    bench.pass(60_000);
    assert_eq!(bench.lookup.verdict().cloned(), verdict);
}

#[test]
fn ipv4_is_waited_for_until_its_first_resend() {
    let mut bench = Bench::new(ONE, "www.example");
    bench.pass(100);
    bench.answer(Kind::Aaaa, six);
    assert_eq!(bench.due(), 4_900);
    bench.pass(4_900);
    assert_eq!(bench.found(), ["2001:db8::1"]);

    let mut bench = Bench::new(ONE, "www.example");
    bench.pass(5_000);
    bench.answer(Kind::Aaaa, six);
    bench.pass(0);
    assert_eq!(bench.found(), ["2001:db8::1"]);
}

#[test]
fn one_family_alone_is_enough() {
    let mut bench = Bench::new(ONE, "www.example");
    bench.answer(Kind::Aaaa, nothing);
    bench.answer(Kind::A, four);
    assert_eq!(bench.found(), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(bench.ttl(), 300);
}

#[test]
fn silence_moves_to_the_next_server_and_ends_as_a_timeout() {
    let mut bench = Bench::new(&format!("{TWO}\noptions timeout:2 attempts:2 no-aaaa"), "h.x");
    for _ in 0..3 {
        assert_eq!(bench.due(), 2_000);
        bench.pass(1_999);
        bench.pass(1);
    }
    let asked = ["1", "2", "1", "2"].map(|last| format!("A h.x @10.0.0.{last} Udp"));
    assert_eq!(bench.take_log(), asked);
    bench.pass(2_000);
    let servers = ["10.0.0.1:53", "10.0.0.2:53"].map(|text| text.parse().unwrap());
    assert_eq!(bench.error(), DnsError::Timeout { servers: servers.to_vec() });
    assert_eq!(bench.ttl(), 1);
}

#[test]
fn rotation_begins_where_the_draw_says() {
    let mut bench = Bench::drawing(&format!("{TWO}\noptions rotate no-aaaa"), "h.x", u16::MAX);
    bench.pass(5_000);
    assert_eq!(bench.take_log(), ["A h.x @10.0.0.2 Udp", "A h.x @10.0.0.1 Udp"]);
}

#[test]
fn failing_servers_are_passed_over_at_once() {
    let mut bench = Bench::new(&format!("{TWO}\noptions no-aaaa attempts:1"), "h.x");
    bench.answer(Kind::A, |reply| reply.code(2));
    bench.answer(Kind::A, four);
    assert_eq!(bench.found().len(), 2);

    let mut bench = Bench::new(&format!("{TWO}\noptions no-aaaa attempts:1"), "h.x");
    bench.lookup.receive_failure(Kind::A, "Connection refused".to_owned(), bench.now);
    bench.flush();
    bench.answer(Kind::A, |reply| reply.code(5));
    let server = "10.0.0.2:53".parse().unwrap();
    assert_eq!(bench.error(), DnsError::ServerFailure { server, rcode: 5 });

    let mut bench = Bench::new(&format!("{ONE}\noptions no-aaaa attempts:1"), "h.x");
    bench.answer(Kind::A, |reply| reply.alias("h.x", 1, "h.x"));
    assert_eq!(bench.error(), DnsError::BadAnswer { server: "10.0.0.1:53".parse().unwrap() });
}

#[test]
fn a_server_without_edns_is_asked_plainly() {
    let mut bench = Bench::new(&format!("{ONE}\noptions no-aaaa attempts:1"), "h.x");
    let long = bench.last[0].as_ref().unwrap().1.len();
    bench.answer(Kind::A, |reply| reply.code(1));
    assert_eq!(bench.last[0].as_ref().unwrap().1.len(), long - 11);
    bench.answer(Kind::A, four);
    assert_eq!(bench.found().len(), 2);
}

#[test]
fn what_is_forged_or_late_does_not_end_the_wait() {
    let mut bench = Bench::new(&format!("{ONE}\noptions no-aaaa"), "h.x");
    let first = four(bench.reply(Kind::A)).bytes();
    let forged = [
        bench.reply(Kind::A).id(7).ip(9, "192.0.2.66").bytes(),
        Reply::new(101, "evil.x", Kind::A).ip(9, "192.0.2.66").bytes(),
        Reply::new(101, "h.x", Kind::Aaaa).bytes(),
        vec![0; 3],
    ];
    for bytes in &forged {
        assert!(!bench.raw(Kind::A, bytes));
    }
    assert!(bench.lookup.is_waiting(Kind::A));
    bench.pass(5_000);
    assert!(!bench.raw(Kind::A, &first), "the id of the first try is no longer asked for");
    bench.answer(Kind::A, |reply| reply.ip(9, "192.0.2.7"));
    assert!(!bench.raw(Kind::A, &first), "a duplicate after the end changes nothing");
    assert_eq!(bench.found(), ["192.0.2.7"]);
}

#[test]
fn truncation_asks_the_same_server_over_tcp() {
    let mut bench = Bench::new(&format!("{TWO}\noptions no-aaaa"), "h.x");
    bench.answer(Kind::A, |reply| reply.ip(9, "192.0.2.9").truncated());
    assert_eq!(bench.take_log(), ["A h.x @10.0.0.1 Udp", "A h.x @10.0.0.1 Tcp"]);
    bench.answer(Kind::A, |reply| reply.truncated());
    assert_eq!(bench.take_log(), ["A h.x @10.0.0.2 Udp"], "truncated over TCP is broken");
    bench.answer(Kind::A, four);
    assert_eq!(bench.found().len(), 2);

    let mut bench = Bench::new(&format!("{ONE}\noptions use-vc no-aaaa"), "h.x");
    bench.pass(5_000);
    assert_eq!(bench.take_log(), ["A h.x @10.0.0.1 Tcp", "A h.x @10.0.0.1 Tcp"]);
}

#[test]
fn the_search_list_is_walked_until_a_name_has_addresses() {
    let search = format!("{ONE}\nsearch a.example b.example\noptions ndots:2 no-aaaa");
    let mut bench = Bench::new(&search, "h");
    bench.answer(Kind::A, nobody);
    bench.answer(Kind::A, four);
    let asked = ["A h.a.example @10.0.0.1 Udp", "A h.b.example @10.0.0.1 Udp"];
    assert_eq!(bench.take_log(), asked);
    assert_eq!(bench.found().len(), 2);

    let mut bench = Bench::new(&search, "h");
    for _ in 0..3 {
        bench.answer(Kind::A, nobody);
    }
    assert_eq!((bench.error(), bench.ttl()), (DnsError::NoSuchName, 50));

    let mut bench = Bench::new(&search, "h");
    bench.answer(Kind::A, nothing);
    bench.answer(Kind::A, nobody);
    bench.answer(Kind::A, nobody);
    assert_eq!((bench.error(), bench.ttl()), (DnsError::NoAddresses, 40));
}

#[test]
fn a_failure_on_the_way_is_not_an_absence() {
    let search = format!("{ONE}\nsearch a.example\noptions no-aaaa attempts:1");
    let mut bench = Bench::new(&search, "h");
    bench.answer(Kind::A, |reply| reply.code(2));
    bench.answer(Kind::A, nobody);
    let server = "10.0.0.1:53".parse().unwrap();
    assert_eq!(bench.error(), DnsError::ServerFailure { server, rcode: 2 });

    let mut bench = Bench::new(&search, "h");
    bench.pass(5_000);
    assert_eq!(bench.error(), DnsError::Timeout { servers: vec![server] });
}

#[test]
fn the_families_of_an_absent_name_agree() {
    type Answers = fn(Reply) -> Reply;
    let cases: [(Answers, Answers, DnsError, u64); 4] = [
        (nobody, nobody, DnsError::NoSuchName, 50),
        (nothing, nothing, DnsError::NoAddresses, 40),
        (nobody, nothing, DnsError::NoAddresses, 40),
        (nothing, nobody, DnsError::NoAddresses, 40),
    ];
    for (a, aaaa, error, ttl) in cases {
        let mut bench = Bench::new(ONE, "h.x");
        bench.answer(Kind::A, a);
        assert!(bench.lookup.verdict().is_none());
        bench.answer(Kind::Aaaa, aaaa);
        assert_eq!((bench.error(), bench.ttl()), (error, ttl));
    }
    let mut bench = Bench::new(ONE, "h.x");
    bench.answer(Kind::A, nobody);
    bench.pass(5_000);
    bench.pass(5_000);
    assert_eq!(bench.error(), DnsError::NoSuchName);

    let mut bench = Bench::new(ONE, "h.x");
    bench.answer(Kind::A, nothing);
    bench.pass(5_000);
    bench.pass(5_000);
    assert!(matches!(bench.error(), DnsError::Timeout { .. }));
}

#[test]
fn frames_come_out_the_same_at_every_cut() {
    let mut stream = Vec::new();
    let messages: [&[u8]; 3] = [b"first", b"", &[7; 300]];
    for message in messages {
        stream.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
        stream.extend_from_slice(message);
    }
    let mut cuts: Vec<Vec<&[u8]>> = vec![stream.chunks(1).collect()];
    for at in 0..=stream.len() {
        let (head, tail) = stream.split_at(at);
        cuts.push(vec![head, tail]);
    }
    for pieces in cuts {
        let mut frames = Frames::default();
        let mut out = Vec::new();
        for piece in pieces {
            frames.receive(piece);
            while let Some(message) = frames.next_message() {
                out.push(message);
            }
        }
        assert_eq!(out, messages);
        assert_eq!(frames.start, frames.bytes.len());
    }
}

/// Each byte is moved a few times at most, however many messages there are.
#[test]
fn many_small_messages_come_out_at_linear_cost() {
    let empty = [0; 65_536];
    let cost = crate::kit::work::counted(|| {
        let mut frames = Frames::default();
        frames.receive(&empty);
        assert_eq!(std::iter::from_fn(|| frames.next_message()).count(), empty.len() / 2);
    });
    assert!(cost < 3 * empty.len(), "{cost}");
}
