//! One lookup against servers that say anything at any time: it ends, in bounded queries and time,
//! once, and with addresses that a server has said.
//!
//! The input is a byte of choices and then deeds: a byte that says which, and what it needs. A
//! server's answer is ended by LF LF.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use whippet::fuzzing::{Lookup, ResolverConfig};
use whippet_fuzz::input::Tape;

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape::new(bytes);
    let choice = tape.byte();
    let config = CONFIGS[usize::from(choice & 7)];
    let host = HOSTS[usize::from(choice >> 3) % HOSTS.len()];
    let mut bench = Bench::new(config, host, tape.word());
    while !tape.is_empty() && bench.lookup.verdict().is_none() {
        let deed = tape.byte();
        let is_aaaa = deed & 1 != 0;
        match deed >> 1 & 3 {
            0 => bench.pass(u64::from(tape.word()) * 1_000),
            1 => bench.lookup.receive_failure(is_aaaa, bench.now),
            2 => {
                let said = message(&mut tape);
                bench.receive(is_aaaa, &said);
            }
            _ => {
                let Some(mut answer) = bench.bare_answer(is_aaaa) else { continue };
                answer[2] |= tape.byte() & 0x02;
                answer[3] = tape.byte();
                answer[7] = tape.byte() % 16;
                answer[9] = tape.byte() % 16;
                answer.extend(message(&mut tape));
                bench.receive(is_aaaa, &answer);
            }
        }
        bench.send();
    }
    // From here on there is silence.
    for _ in 0..QUERIES_MAX {
        if bench.lookup.verdict().is_some() {
            return bench.check_end();
        }
        let due = bench.lookup.next_deadline().expect("it waits for nothing");
        bench.pass(due.saturating_sub(bench.now));
        bench.send();
    }
    panic!("it does not end: {:?}", bench.lookup);
});

struct Bench {
    lookup: Lookup,
    now: u64,
    id: u16,
    /// The last query of each family.
    asked: [Vec<u8>; 2],
    queries: usize,
    /// All that was taken for an answer.
    believed: Vec<Vec<u8>>,
}

impl Bench {
    fn new(config: &str, host: &str, draw: u16) -> Self {
        let config = ResolverConfig::parse(Some(config.as_bytes()), None);
        let lookup = Lookup::new(&config, host, draw);
        let asked = [Vec::new(), Vec::new()];
        let mut bench =
            Self { lookup, now: 1_000_000, id: 0, asked, queries: 0, believed: Vec::new() };
        bench.send();
        bench
    }

    /// Sends all that wants to be sent.
    fn send(&mut self) {
        while let Some((is_aaaa, _, is_tcp)) = self.lookup.next_transmit() {
            self.id += 257;
            let sent = self.lookup.send(is_aaaa, self.id, self.now);
            assert!(self.lookup.is_waiting(is_aaaa));
            let message = if is_tcp { &sent[2..] } else { &sent[..] };
            assert_eq!(message[..2], self.id.to_be_bytes());
            self.asked[usize::from(is_aaaa)] = message.to_vec();
            self.queries += 1;
            assert!(self.queries <= QUERIES_MAX, "{:?}", self.lookup);
        }
        if self.lookup.verdict().is_none() {
            let due = self.lookup.next_deadline().expect("it waits for nothing");
            assert!(due <= self.now + 30_000_000, "it waits too long");
        }
    }

    fn pass(&mut self, micros: u64) {
        self.now += micros;
        self.lookup.on_time(self.now);
    }

    fn receive(&mut self, is_aaaa: bool, message: &[u8]) {
        let is_ours = message.get(..2) == self.asked[usize::from(is_aaaa)].get(..2);
        let was_waiting = self.lookup.is_waiting(is_aaaa);
        if self.lookup.receive(is_aaaa, message, self.now) {
            assert!(is_ours && was_waiting, "an answer to nothing is believed");
            self.believed.push(message.to_vec());
        }
    }

    /// The header and the question of an answer to the last query.
    fn bare_answer(&self, is_aaaa: bool) -> Option<Vec<u8>> {
        let asked = &self.asked[usize::from(is_aaaa)];
        let end = 12 + asked.get(12..)?.iter().position(|byte| *byte == 0)? + 5;
        let mut answer = asked.get(..end)?.to_vec();
        answer[2] |= 0x80;
        answer[11] = 0;
        Some(answer)
    }

    fn check_end(&mut self) {
        let verdict = self.lookup.verdict().unwrap();
        if let Ok(addresses) = &verdict.0 {
            assert!((1..=64).contains(&addresses.len()));
            assert!(addresses.iter().all(|address| self.was_said(address)), "{addresses:?}");
        }
        let seconds = verdict.1.as_secs();
        assert!((1..=86_400).contains(&seconds));
        assert_eq!((self.lookup.next_transmit(), self.lookup.next_deadline()), (None, None));
        // Nothing moves it any more.
        self.pass(100_000_000);
        for is_aaaa in [false, true] {
            assert!(!self.lookup.is_waiting(is_aaaa));
            if let Some(late) = self.bare_answer(is_aaaa) {
                self.lookup.receive(is_aaaa, &late, self.now);
            }
            self.lookup.receive_failure(is_aaaa, self.now);
        }
        assert_eq!(self.lookup.verdict(), Some(verdict));
        assert_eq!(self.lookup.next_transmit(), None);
    }

    fn was_said(&self, address: &IpAddr) -> bool {
        let is_in = |octets: &[u8]| {
            self.believed.iter().any(|said| said.windows(octets.len()).any(|at| at == octets))
        };
        match address {
            IpAddr::V4(address) => is_in(&address.octets()),
            IpAddr::V6(address) => is_in(&address.octets()),
        }
    }
}

/// What stands before LF LF.
fn message(tape: &mut Tape<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    while !tape.is_empty() {
        let line = tape.until(b'\n');
        if line.is_empty() && !message.is_empty() {
            message.pop();
            break;
        }
        message.extend_from_slice(line);
        message.push(b'\n');
    }
    message
}

/// Two families, three names, three servers, five attempts, each over UDP, without EDNS and over
/// TCP: 270, and some room.
const QUERIES_MAX: usize = 300;

const HOSTS: [&str; 4] = ["a.test", "host", "a.test.", "deep.er.name.test"];

const CONFIGS: [&str; 8] = [
    "nameserver 10.0.0.1",
    "nameserver 10.0.0.1\nnameserver 10.0.0.2\noptions attempts:5 timeout:30",
    "nameserver 10.0.0.1\nsearch one.test two.test",
    "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch one.test two.test\noptions rotate ndots:3",
    "nameserver 10.0.0.1\noptions use-vc attempts:1",
    "nameserver 10.0.0.1\noptions no-aaaa",
    "nameserver 10.0.0.1\nsearch one.test\noptions no-tld-query timeout:1",
    "",
];
