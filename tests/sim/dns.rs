//! Name servers: messages written by hand, so that they share no mistake with the codec under test.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::world::Env;

/// What resolv.conf says.
pub(crate) const RESOLV_CONF: &[u8] = b"nameserver 10.53.0.1\nnameserver 10.53.0.2\n";

pub(crate) fn is_server(at: SocketAddr) -> bool {
    at.port() == 53 && matches!(at.ip(), IpAddr::V4(ip) if ip.octets()[..3] == [10, 53, 0])
}

/// Messages over a stream.
#[derive(Default)]
pub(crate) struct Frames(Vec<u8>);

impl Frames {
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn next_message(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(u16::from_be_bytes([*self.0.first()?, *self.0.get(1)?]));
        if self.0.len() < 2 + length {
            return None;
        }
        let message = self.0[2..2 + length].to_vec();
        self.0.drain(..2 + length);
        Some(message)
    }
}

pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = (message.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    bytes
}

/// What is answered to a query, and after how long: nothing, something, or too much.
pub(crate) fn answer(query: &[u8], over_tcp: bool, env: &mut Env) -> Vec<(u64, Vec<u8>)> {
    let Some(question) = Question::read(query) else {
        env.ledger.break_law("a DNS query that cannot be read");
        return Vec::new();
    };
    let fault = env.random.chance(env.plan.dns_fault_pm).then(|| env.random.below(13));
    let name = question.name.clone();
    env.story.tell(env.now, &[40, u64::from(question.kind), fault.unwrap_or(99)], || {
        format!("dns  {name} type {} fault {fault:?}", question.kind)
    });
    let origin = env.origins.iter().position(|origin| origin.host == question.name);
    let Some(origin) = origin else {
        return vec![(0, question.reply(3, &[], 60))];
    };
    if fault.is_some() {
        env.ledger.excuse_origin(origin);
    }
    let at = &env.origins[origin];
    let all: Vec<IpAddr> = at.addresses.iter().chain(&at.dead).copied().collect();
    let ttl = env.random.below(300) as u32;
    let good = question.reply(0, &all, ttl);
    let late = env.random.magnitude(9_000_000);
    let forged = [IpAddr::from([66, 6, 6, 6])];
    match fault {
        None => vec![(0, good)],
        // Lost.
        Some(0) => Vec::new(),
        Some(1) => vec![(late, good)],
        Some(2) => vec![(0, good.clone()), (late / 100, good)],
        Some(3) if !over_tcp => vec![(0, question.truncated())],
        Some(4) if !over_tcp => {
            let other = Question { id: question.id ^ (1 << env.random.below(16)), ..question };
            vec![(0, other.reply(0, &forged, ttl)), (late / 10, good)]
        }
        Some(5) if !over_tcp => {
            let other = Question { name: "evil.test".to_owned(), ..question };
            vec![(0, other.reply(0, &forged, ttl)), (late / 10, good)]
        }
        Some(6) => vec![(0, question.reply(0, &[], ttl))],
        Some(7) => vec![(0, question.reply(3, &[], ttl))],
        Some(8) => vec![(0, question.reply(2, &[], ttl))],
        Some(9) => vec![(0, question.alias("www.h.test", "www.h.test", &all))],
        Some(11) => vec![(0, question.alias(&question.name, &question.name, &[]))],
        Some(10) => vec![(0, question.alias("www.h.test", &question.name, &[]))],
        Some(_) => {
            let mut garbage = vec![0; env.random.index(600)];
            env.random.fill(&mut garbage);
            vec![(0, garbage)]
        }
    }
}

/// What an attacker would answer who knows the query.
pub(crate) fn forged(query: &[u8]) -> Option<Vec<u8>> {
    Some(Question::read(query)?.reply(0, &[IpAddr::from([66, 6, 6, 6])], 300))
}

#[derive(Clone)]
struct Question {
    id: u16,
    name: String,
    kind: u16,
}

impl Question {
    fn read(query: &[u8]) -> Option<Self> {
        let id = u16::from_be_bytes([*query.first()?, *query.get(1)?]);
        let (mut at, mut labels) = (12, Vec::new());
        loop {
            let length = usize::from(*query.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
            at += length;
        }
        let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
        Some(Self { id, name: labels.join("."), kind })
    }

    fn begin(&self, flags: u16, answers: u16, authorities: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [self.id, 0x8180 | flags, 1, answers, authorities, 0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        put_name(&mut bytes, &self.name);
        bytes.extend_from_slice(&self.kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 1]);
        bytes
    }

    fn truncated(&self) -> Vec<u8> {
        self.begin(0x0200, 0, 0)
    }

    /// The addresses of the family asked for, or none and how long that holds.
    fn reply(&self, code: u16, all: &[IpAddr], ttl: u32) -> Vec<u8> {
        let mine = self.of_kind(all);
        let is_empty = mine.is_empty();
        let mut bytes = self.begin(code, mine.len() as u16, u16::from(is_empty && code != 2));
        for address in mine {
            put_record(&mut bytes, &self.name, self.kind, ttl, &address);
        }
        if is_empty && code != 2 {
            let mut soa = vec![0, 0];
            for _ in 0..5 {
                soa.extend_from_slice(&ttl.to_be_bytes());
            }
            put_record(&mut bytes, "test", 6, ttl, &soa);
        }
        bytes
    }

    /// The name is an alias of `first`; that has the addresses, or is an alias of `last`.
    fn alias(&self, first: &str, last: &str, all: &[IpAddr]) -> Vec<u8> {
        let mine = self.of_kind(all);
        let loops = first != last;
        let mut bytes = self.begin(0, 1 + mine.len() as u16 + u16::from(loops), 0);
        let mut target = Vec::new();
        put_name(&mut target, first);
        put_record(&mut bytes, &self.name, 5, 30, &target);
        if loops {
            target.clear();
            put_name(&mut target, last);
            put_record(&mut bytes, first, 5, 30, &target);
        }
        for address in mine {
            put_record(&mut bytes, last, self.kind, 30, &address);
        }
        bytes
    }

    fn of_kind(&self, all: &[IpAddr]) -> Vec<Vec<u8>> {
        let mine = all.iter().filter_map(|ip| match (ip, self.kind) {
            (IpAddr::V4(ip), 1) => Some(ip.octets().to_vec()),
            (IpAddr::V6(ip), 28) => Some(ip.octets().to_vec()),
            _ => None,
        });
        mine.collect()
    }
}

fn put_name(bytes: &mut Vec<u8>, name: &str) {
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
}

fn put_record(bytes: &mut Vec<u8>, name: &str, kind: u16, ttl: u32, data: &[u8]) {
    put_name(bytes, name);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes.extend_from_slice(&ttl.to_be_bytes());
    bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
    bytes.extend_from_slice(data);
}

/// An IPv4 address of an origin.
pub(crate) fn ipv4(origin: usize, nth: u64) -> IpAddr {
    Ipv4Addr::new(10, 0, origin as u8, nth as u8 + 1).into()
}
