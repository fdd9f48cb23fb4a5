//! Floor 1. DNS messages: a query into bytes, bytes into the answer to one query.
//!
//! The only file that names `simple_dns`. Nothing is believed that does not carry the query's id
//! and its question; of what does, only the addresses at the end of the name's own chain of
//! aliases count. Any bytes give a value, never a panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

use crate::kit::work;

/// The type of record asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

impl Kind {
    fn code(self) -> TYPE {
        match self {
            Self::A => TYPE::A,
            Self::Aaaa => TYPE::AAAA,
        }
    }
}

/// Whether a query announces EDNS(0), and with it room for longer answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Extension {
    /// With an OPT record.
    Edns,
    /// Without: for servers that refuse it (RFC 6891 §7).
    Plain,
}

/// What a server says to one query. Times to live are in seconds and already bounded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// At least one address of the kind asked for.
    Addresses { addresses: Vec<IpAddr>, ttl: u32 },
    /// NXDOMAIN: the name exists with no type.
    NameError { ttl: u32 },
    /// The name exists, but not with this type.
    NoData { ttl: u32 },
    /// The rest did not fit: to be asked again over TCP.
    Truncated,
    /// This server is of no use for this question.
    Failed(Fault),
}

/// How a server failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// It said so, with this response code.
    Code(u16),
    /// It answered our question with records that make no sense.
    Malformed,
}

impl Fault {
    /// Whether a server that does not know EDNS answers like this (RFC 6891 §7).
    pub(crate) fn is_of_edns(self) -> bool {
        matches!(self, Self::Code(FORMAT_ERROR | NOT_IMPLEMENTED))
    }
}

/// Why a message is not an answer to the query: it may be forged, or an answer to an older one.
/// The wait goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rejected {
    /// Shorter than a header, or its question is unreadable.
    Unreadable,
    /// Another id.
    Id,
    /// A query, or an answer to something that is not a query for records.
    NotAnAnswer,
    /// Not exactly our question.
    Question,
}

/// Appends a recursive query for `name` to `out`. `false`, and nothing is appended, if the name
/// cannot be written.
pub(crate) fn query(
    out: &mut Vec<u8>,
    id: u16,
    name: &str,
    kind: Kind,
    extension: Extension,
) -> bool {
    let Ok(name) = Name::new(name) else { return false };
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(name, kind.code().into(), CLASS::IN.into(), false));
    if extension == Extension::Edns {
        *packet.opt_mut() =
            Some(OPT { opt_codes: Vec::new(), udp_packet_size: DATAGRAM_BYTES_MAX, version: 0 });
    }
    let before = out.len();
    let written = packet.write_to(out).is_ok();
    if !written {
        out.truncate(before);
    }
    written
}

/// Reads what came back for the query with this `id`, `name` and `kind`.
pub(crate) fn parse(bytes: &[u8], id: u16, name: &str, kind: Kind) -> Result<Answer, Rejected> {
    let header = Header::read(bytes).ok_or(Rejected::Unreadable)?;
    if header.id != id {
        return Err(Rejected::Id);
    }
    if header.flags & (RESPONSE | OPCODE) != RESPONSE {
        return Err(Rejected::NotAnAnswer);
    }
    let name = Name::new(name).map_err(|_| Rejected::Question)?;
    let code = header.flags & CODE;
    // A server that cannot read the OPT record may send its bare header back (RFC 6891 §7).
    let is_bare = header.questions == 0 && code == FORMAT_ERROR && bytes.len() == HEADER_BYTES;
    if is_bare {
        return Ok(Answer::Failed(Fault::Code(code)));
    }
    if header.questions != 1 {
        return Err(Rejected::Question);
    }
    work::count(bytes.len());
    let mut copy = bytes.to_vec();
    // The question alone, so that a truncated message is known wherever it was cut.
    check_question(&with_records(&mut copy, &header, 0)?, &name, kind)?;
    if header.flags & TRUNCATED != 0 {
        return Ok(Answer::Truncated);
    }
    // The parser reserves room for as many records as the header claims.
    if header.records() > bytes.len() / RECORD_BYTES_MIN {
        return Ok(Answer::Failed(Fault::Malformed));
    }
    // The parser refuses a message for one record; only those of the answer are needed.
    let packet = match with_records(&mut copy, &header, 3) {
        Ok(packet) => packet,
        Err(_) => match with_records(&mut copy, &header, 1) {
            Ok(packet) => packet,
            Err(_) => return Ok(Answer::Failed(Fault::Malformed)),
        },
    };
    Ok(match packet.rcode() {
        RCODE::NoError => chain_end(&packet, &name, kind),
        RCODE::NameError => Answer::NameError { ttl: negative_ttl(&packet) },
        RCODE::BADVERS => Answer::Failed(Fault::Code(BAD_VERSION)),
        _ => Answer::Failed(Fault::Code(code)),
    })
}

/// The header's fields that decide before anything else is read (RFC 1035 §4.1.1).
struct Header {
    id: u16,
    flags: u16,
    questions: u16,
    others: [u16; 3],
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (words, _) = bytes.get(..HEADER_BYTES)?.as_chunks::<2>();
        let [id, flags, questions, a, b, c] = *words else { return None };
        Some(Self {
            id: u16::from_be_bytes(id),
            flags: u16::from_be_bytes(flags),
            questions: u16::from_be_bytes(questions),
            others: [a, b, c].map(u16::from_be_bytes),
        })
    }

    fn records(&self) -> usize {
        self.others.iter().map(|count| usize::from(*count)).sum()
    }
}

/// Reads the message with only the first `sections` of its three sections of records.
fn with_records<'a>(
    copy: &'a mut [u8],
    header: &Header,
    sections: usize,
) -> Result<Packet<'a>, Rejected> {
    let Some((head, _)) = copy.split_first_chunk_mut::<HEADER_BYTES>() else {
        return Err(Rejected::Unreadable);
    };
    // What the reserved bit means is not for us, and the parser refuses a message that has it.
    head[3] &= !RESERVED;
    for (nth, count) in header.others.iter().enumerate() {
        let count = if nth < sections { *count } else { 0 };
        head[6 + 2 * nth..8 + 2 * nth].copy_from_slice(&count.to_be_bytes());
    }
    work::count(copy.len());
    Packet::parse(copy).map_err(|_| Rejected::Unreadable)
}

fn check_question(packet: &Packet<'_>, name: &Name<'_>, kind: Kind) -> Result<(), Rejected> {
    match packet.questions.as_slice() {
        [question]
            if question.qname == *name
                && question.qtype == QTYPE::TYPE(kind.code())
                && question.qclass == QCLASS::CLASS(CLASS::IN)
                && !question.unicast_response =>
        {
            Ok(())
        }
        _ => Err(Rejected::Question),
    }
}

/// Follows the aliases from `name` inside the answer section, in whatever order its records are.
fn chain_end(packet: &Packet<'_>, name: &Name<'_>, kind: Kind) -> Answer {
    let mut owner = name;
    let mut ttl = u32::MAX;
    // A loop is a chain without an end: the bound on links refuses it.
    for _ in 0..=CHAIN_LINKS_MAX {
        work::count(packet.answers.len());
        let mut addresses = Vec::new();
        let mut alias = None;
        let own = packet.answers.iter().filter(|record| {
            record.class == CLASS::IN && !record.cache_flush && record.name == *owner
        });
        for record in own {
            match (&record.rdata, kind) {
                (RData::A(a), Kind::A) => addresses.push(Ipv4Addr::from(a.address).into()),
                (RData::AAAA(aaaa), Kind::Aaaa) => {
                    addresses.push(Ipv6Addr::from(aaaa.address).into());
                }
                (RData::CNAME(cname), _) => alias = Some(&cname.0),
                _ => continue,
            }
            ttl = ttl.min(sane(record.ttl));
        }
        if !addresses.is_empty() {
            addresses.truncate(ADDRESSES_MAX);
            let ttl = ttl.clamp(TTL_SECONDS_MIN, TTL_SECONDS_MAX);
            return Answer::Addresses { addresses, ttl };
        }
        match alias {
            Some(next) => owner = next,
            None => return Answer::NoData { ttl: negative_ttl(packet) },
        }
    }
    Answer::Failed(Fault::Malformed)
}

/// How long "there is none" holds: the lesser of the SOA record's own time and its minimum field
/// (RFC 2308 §5). Without one it should not be kept; the floor only spares the server a flood.
fn negative_ttl(packet: &Packet<'_>) -> u32 {
    let soa = packet.name_servers.iter().find_map(|record| match &record.rdata {
        RData::SOA(soa) if record.class == CLASS::IN => {
            Some(sane(record.ttl).min(sane(soa.minimum)))
        }
        _ => None,
    });
    soa.unwrap_or(0).clamp(TTL_SECONDS_MIN, NEGATIVE_TTL_SECONDS_MAX)
}

/// A time with its highest bit set is to be read as zero (RFC 2181 §8).
fn sane(ttl: u32) -> u32 {
    if ttl > TTL_SECONDS_SANE_MAX { 0 } else { ttl }
}

/// What crosses today's networks without fragments (DNS flag day 2020).
pub(crate) const DATAGRAM_BYTES_MAX: u16 = 1232;
/// Longest chain of aliases that is followed.
const CHAIN_LINKS_MAX: usize = 8;
/// Addresses kept of one answer.
const ADDRESSES_MAX: usize = 32;
/// Zero would mean a lookup for each connection.
const TTL_SECONDS_MIN: u32 = 1;
/// One day.
const TTL_SECONDS_MAX: u32 = 86_400;
/// One hour (RFC 2308 §5 finds one to three hours to work well).
const NEGATIVE_TTL_SECONDS_MAX: u32 = 3_600;
/// RFC 2181 §8.
const TTL_SECONDS_SANE_MAX: u32 = 0x7fff_ffff;
/// RFC 1035 §4.1.1.
const HEADER_BYTES: usize = 12;
/// A record of the root with empty data: name 1, type 2, class 2, TTL 4, length 2.
const RECORD_BYTES_MIN: usize = 11;
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const CODE: u16 = 0x000f;
/// In the header's fourth byte (RFC 1035 §4.1.1, Z).
const RESERVED: u8 = 0x40;
const FORMAT_ERROR: u16 = 1;
const NOT_IMPLEMENTED: u16 = 4;
const BAD_VERSION: u16 = 16;

/// Answers as a server would write them, for this file's tests and its neighbours'.
#[cfg(test)]
pub(crate) mod server {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA, CNAME, SOA};

    /// An answer under construction.
    pub(crate) struct Reply {
        id: u16,
        name: String,
        kind: Kind,
        records: Vec<(String, u32, Data)>,
        soa: Option<(u32, u32)>,
        rcode: u16,
        flags: u16,
        pub(crate) unicast: bool,
        class: CLASS,
    }

    enum Data {
        Ip(IpAddr),
        Alias(String),
    }

    impl Reply {
        pub(crate) fn new(id: u16, name: &str, kind: Kind) -> Self {
            Self {
                id,
                name: name.to_owned(),
                kind,
                records: Vec::new(),
                soa: None,
                rcode: 0,
                flags: 0,
                unicast: false,
                class: CLASS::IN,
            }
        }

        /// An answer to the query `bytes`.
        pub(crate) fn to(bytes: &[u8]) -> Self {
            let packet = Packet::parse(bytes).unwrap();
            let question = &packet.questions[0];
            let kind = match question.qtype {
                QTYPE::TYPE(TYPE::A) => Kind::A,
                QTYPE::TYPE(TYPE::AAAA) => Kind::Aaaa,
                other => unreachable!("asked for {other:?}"),
            };
            Self::new(packet.id(), &question.qname.to_string(), kind)
        }

        pub(crate) fn name(&self) -> &str {
            &self.name
        }

        pub(crate) fn kind(&self) -> Kind {
            self.kind
        }

        pub(crate) fn id(mut self, id: u16) -> Self {
            self.id = id;
            self
        }

        pub(crate) fn ip(self, ttl: u32, ip: &str) -> Self {
            let owner = self.name.clone();
            self.ip_of(&owner, ttl, ip)
        }

        pub(crate) fn ip_of(mut self, owner: &str, ttl: u32, ip: &str) -> Self {
            self.records.push((owner.to_owned(), ttl, Data::Ip(ip.parse().unwrap())));
            self
        }

        pub(crate) fn alias(mut self, owner: &str, ttl: u32, target: &str) -> Self {
            self.records.push((owner.to_owned(), ttl, Data::Alias(target.to_owned())));
            self
        }

        pub(crate) fn soa(mut self, ttl: u32, minimum: u32) -> Self {
            self.soa = Some((ttl, minimum));
            self
        }

        pub(crate) fn code(mut self, rcode: u16) -> Self {
            self.rcode = rcode;
            self
        }

        pub(crate) fn truncated(mut self) -> Self {
            self.flags |= TRUNCATED;
            self
        }

        pub(crate) fn chaos(mut self) -> Self {
            self.class = CLASS::CH;
            self
        }

        pub(crate) fn bytes(&self) -> Vec<u8> {
            let name = |text: &str| Name::new(text).unwrap().into_owned();
            let mut packet = Packet::new_reply(self.id);
            packet.questions.push(Question::new(
                name(&self.name),
                self.kind.code().into(),
                CLASS::IN.into(),
                self.unicast,
            ));
            for (owner, ttl, data) in &self.records {
                let data = match data {
                    Data::Ip(IpAddr::V4(ip)) => RData::A(A::from(*ip)),
                    Data::Ip(IpAddr::V6(ip)) => RData::AAAA(AAAA::from(*ip)),
                    Data::Alias(target) => RData::CNAME(CNAME(name(target))),
                };
                packet.answers.push(ResourceRecord::new(name(owner), self.class, *ttl, data));
            }
            if let Some((ttl, minimum)) = self.soa {
                let soa = SOA {
                    mname: name("ns.example"),
                    rname: name("root.example"),
                    serial: 1,
                    refresh: 2,
                    retry: 3,
                    expire: 4,
                    minimum,
                };
                let owner = name("example");
                packet.name_servers.push(ResourceRecord::new(
                    owner,
                    CLASS::IN,
                    ttl,
                    RData::SOA(soa),
                ));
            }
            let mut bytes = packet.build_bytes_vec_compressed().unwrap();
            let flags = u16::from_be_bytes([bytes[2], bytes[3]]) | self.flags | self.rcode;
            bytes[2..4].copy_from_slice(&flags.to_be_bytes());
            bytes
        }
    }
}

#[cfg(test)]
mod tests;
