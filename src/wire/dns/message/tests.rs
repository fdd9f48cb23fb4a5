//! Messages good, forged, cut and mutated.

use proptest::collection::vec;
use proptest::prelude::*;

use super::server::Reply;
use super::*;

const ID: u16 = 0xbeef;

fn read(reply: &Reply) -> Result<Answer, Rejected> {
    parse(&reply.bytes(), ID, "www.Example.org", Kind::A)
}

fn reply() -> Reply {
    Reply::new(ID, "WWW.example.ORG", Kind::A)
}

fn addresses(ttl: u32, texts: &[&str]) -> Result<Answer, Rejected> {
    let addresses = texts.iter().map(|text| text.parse().unwrap()).collect();
    Ok(Answer::Addresses { addresses, ttl })
}

#[test]
fn a_query_has_one_question_recursion_and_room() {
    let mut bytes = Vec::new();
    assert!(query(&mut bytes, ID, "example.org", Kind::Aaaa, Extension::Edns));
    let expected = b"\xbe\xef\x01\0\0\x01\0\0\0\0\0\x01\x07example\x03org\0\0\x1c\0\x01\
        \0\0\x29\x04\xd0\0\0\0\0\0\0";
    assert_eq!(bytes, expected);
    bytes.clear();
    assert!(query(&mut bytes, ID, "example.org", Kind::A, Extension::Plain));
    assert_eq!(bytes.len(), 12 + 13 + 4);
    assert!(!query(&mut bytes, ID, &"a".repeat(64), Kind::A, Extension::Plain));
    assert_eq!(bytes.len(), 12 + 13 + 4);
}

#[test]
fn addresses_come_with_the_least_time_in_the_chain() {
    assert_eq!(
        read(&reply().ip(300, "192.0.2.1").ip(200, "192.0.2.2")),
        addresses(200, &["192.0.2.1", "192.0.2.2"])
    );
    // Out of order, with an address that is not at the end and one of another name.
    let chain = reply()
        .ip_of("end.example", 300, "192.0.2.9")
        .alias("mid.example", 60, "end.example")
        .ip_of("other.example", 1, "192.0.2.66")
        .alias("www.example.org", 120, "MID.example");
    assert_eq!(read(&chain), addresses(60, &["192.0.2.9"]));
}

#[test]
fn times_are_bounded() {
    assert_eq!(read(&reply().ip(0, "192.0.2.1")), addresses(1, &["192.0.2.1"]));
    assert_eq!(read(&reply().ip(90_000, "192.0.2.1")), addresses(86_400, &["192.0.2.1"]));
    assert_eq!(read(&reply().ip(1 << 31, "192.0.2.1")), addresses(1, &["192.0.2.1"]));
}

#[test]
fn chains_have_an_end() {
    let of_links = |links: usize| {
        let mut reply = reply().alias("www.example.org", 9, "n1.example");
        for n in 1..links {
            reply = reply.alias(&format!("n{n}.example"), 9, &format!("n{}.example", n + 1));
        }
        reply.ip_of(&format!("n{links}.example"), 9, "192.0.2.1")
    };
    assert_eq!(read(&of_links(8)), addresses(9, &["192.0.2.1"]));
    assert_eq!(read(&of_links(9)), Ok(Answer::Failed(Fault::Malformed)));
    let ring =
        reply().alias("www.example.org", 9, "b.example").alias("b.example", 9, "www.example.org");
    assert_eq!(read(&ring), Ok(Answer::Failed(Fault::Malformed)));
}

#[test]
fn other_classes_and_types_do_not_count() {
    assert_eq!(read(&reply().ip(9, "192.0.2.1").chaos()), Ok(Answer::NoData { ttl: 1 }));
    assert_eq!(read(&reply().ip(9, "2001:db8::1")), Ok(Answer::NoData { ttl: 1 }));
}

#[test]
fn absence_lasts_as_the_soa_says() {
    assert_eq!(read(&reply().code(3).soa(300, 60)), Ok(Answer::NameError { ttl: 60 }));
    assert_eq!(read(&reply().code(3).soa(30, 60)), Ok(Answer::NameError { ttl: 30 }));
    assert_eq!(read(&reply().code(3)), Ok(Answer::NameError { ttl: 1 }));
    assert_eq!(read(&reply().soa(90_000, 90_000)), Ok(Answer::NoData { ttl: 3_600 }));
    let dangling = reply().alias("www.example.org", 9, "gone.example").soa(20, 20);
    assert_eq!(read(&dangling), Ok(Answer::NoData { ttl: 20 }));
}

#[test]
fn failures_keep_their_code() {
    for code in [1, 2, 4, 5, 9, 15] {
        assert_eq!(read(&reply().code(code)), Ok(Answer::Failed(Fault::Code(code))));
    }
    let mut bare = reply().code(1).bytes();
    bare.truncate(12);
    bare[5] = 0;
    let answer = parse(&bare, ID, "www.example.org", Kind::A);
    assert_eq!(answer, Ok(Answer::Failed(Fault::Code(1))));
}

#[test]
fn what_is_not_ours_is_rejected() {
    let good = reply().ip(9, "192.0.2.1");
    let bytes = good.bytes();
    let with = |id, name, kind| parse(&bytes, id, name, kind);
    assert_eq!(with(ID ^ 1, "www.example.org", Kind::A), Err(Rejected::Id));
    assert_eq!(with(ID, "ww.example.org", Kind::A), Err(Rejected::Question));
    assert_eq!(with(ID, "www.example.org", Kind::Aaaa), Err(Rejected::Question));
    let mut asked = Vec::new();
    query(&mut asked, ID, "www.example.org", Kind::A, Extension::Edns);
    assert_eq!(parse(&asked, ID, "www.example.org", Kind::A), Err(Rejected::NotAnAnswer));
    let mut notify = bytes.clone();
    notify[2] |= 0x20;
    assert_eq!(parse(&notify, ID, "www.example.org", Kind::A), Err(Rejected::NotAnAnswer));
    let mut multicast = reply();
    multicast.unicast = true;
    assert_eq!(read(&multicast), Err(Rejected::Question));
    assert_eq!(parse(&[], ID, "www.example.org", Kind::A), Err(Rejected::Unreadable));
}

#[test]
fn a_truncated_answer_is_known_wherever_it_was_cut() {
    let bytes = reply().ip(9, "192.0.2.1").truncated().bytes();
    for end in 0..=bytes.len() {
        let answer = parse(&bytes[..end], ID, "www.example.org", Kind::A);
        if end < 12 + 17 + 4 {
            assert_eq!(answer, Err(Rejected::Unreadable), "cut at {end}");
        } else {
            assert_eq!(answer, Ok(Answer::Truncated), "cut at {end}");
        }
    }
}

#[test]
fn any_bytes_give_a_value() {
    let chain =
        || reply().alias("www.example.org", 9, "b.example").ip_of("b.example", 9, "192.0.2.1");
    let answer_end = chain().bytes().len();
    let bytes = chain().soa(1, 2).bytes();
    for end in 0..answer_end {
        let answer = parse(&bytes[..end], ID, "www.example.org", Kind::A);
        assert!(!matches!(answer, Ok(Answer::Addresses { .. })), "cut at {end}");
    }
    // Every value at every place, and two places at once from a fixed sequence.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in 0..bytes.len() {
        for value in 0..=255 {
            let mut changed = bytes.clone();
            changed[at] = value;
            let _ = parse(&changed, ID, "www.example.org", Kind::A);
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let other = usize::try_from(state % bytes.len() as u64).unwrap();
            changed[other] = state.to_le_bytes()[7];
            let _ = parse(&changed, ID, "www.example.org", Kind::A);
        }
    }
}

#[test]
fn claimed_records_that_cannot_be_there_cost_nothing() {
    let mut bytes = reply().bytes();
    bytes[6..12].fill(0xff);
    let answer = parse(&bytes, ID, "www.example.org", Kind::A);
    assert_eq!(answer, Ok(Answer::Failed(Fault::Malformed)));
}

#[test]
fn what_is_odd_beside_the_answer_does_not_spoil_it() {
    let mut bytes = reply().ip(9, "192.0.2.1").bytes();
    bytes[3] |= 0x40;
    // An additional record of a class that the parser does not know.
    bytes[11] = 1;
    bytes.extend_from_slice(b"\0\0\x10\0\xff\0\0\0\0\0\0");
    let answer = parse(&bytes, ID, "www.example.org", Kind::A);
    assert_eq!(answer, addresses(9, &["192.0.2.1"]));
}

fn name() -> impl Strategy<Value = String> {
    vec("[a-z0-9_]([a-z0-9-]{0,10}[a-z0-9])?", 1..5).prop_map(|labels| labels.join("."))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// What a server says of a chain of aliases and its addresses is read, in whatever order the
    /// records are; and nothing of it where a byte is missing.
    #[test]
    fn an_answer_that_was_written_is_read_whole_or_not_at_all(
        asked in name(),
        links in 0..=CHAIN_LINKS_MAX,
        hosts in vec((any::<u16>(), 0_u32..200_000), 1..40),
        is_v6 in any::<bool>(),
        alias_ttl in 0_u32..200_000,
        turn in any::<prop::sample::Index>(),
        junk in vec(any::<u8>(), 0..40),
    ) {
        let kind = if is_v6 { Kind::Aaaa } else { Kind::A };
        let owner = |nth: usize| if nth == 0 { asked.clone() } else { format!("n{nth}.example") };
        let ip = |n: u16| if is_v6 {
            format!("2001:db8::{n:x}")
        } else {
            format!("198.51.{}.{}", n >> 8, n & 0xff)
        };
        let mut records: Vec<_> = (0..links).map(|nth| (owner(nth), alias_ttl, None)).collect();
        records.extend(hosts.iter().map(|(n, ttl)| (owner(links), *ttl, Some(ip(*n)))));
        let middle = turn.index(records.len());
        records.rotate_left(middle);
        let mut reply = Reply::new(ID, &asked, kind);
        let (mut expected, mut ttl) = (Vec::new(), u32::MAX);
        for (of, time, address) in &records {
            ttl = ttl.min(*time);
            reply = match address {
                Some(address) => {
                    expected.push(address.parse::<IpAddr>().unwrap());
                    reply.ip_of(of, *time, address)
                }
                None => {
                    let nth = (0..links).find(|nth| owner(*nth) == *of).unwrap();
                    reply.alias(of, *time, &owner(nth + 1))
                }
            };
        }
        expected.truncate(ADDRESSES_MAX);
        let bytes = reply.bytes();
        let whole = Answer::Addresses { addresses: expected, ttl: ttl.clamp(1, TTL_SECONDS_MAX) };
        prop_assert_eq!(parse(&bytes, ID, &asked, kind), Ok(whole));
        for end in 0..bytes.len() {
            let answer = parse(&bytes[..end], ID, &asked, kind);
            prop_assert!(!matches!(answer, Ok(Answer::Addresses { .. })), "cut at {end}");
            let _ = parse(&[&bytes[..end], &junk].concat(), ID, &asked, kind);
        }
    }

    #[test]
    fn a_query_asks_what_it_was_written_for(
        asked in name(),
        id in any::<u16>(),
        v6 in any::<bool>(),
    ) {
        let kind = if v6 { Kind::Aaaa } else { Kind::A };
        for extension in [Extension::Edns, Extension::Plain] {
            let mut bytes = b"before".to_vec();
            prop_assert!(query(&mut bytes, id, &asked, kind, extension));
            let reply = Reply::to(&bytes["before".len()..]);
            prop_assert_eq!((reply.name(), reply.kind()), (&asked[..], kind));
            // What a server makes of it is an answer to it, and to no other.
            let empty = Ok(Answer::NoData { ttl: 1 });
            prop_assert_eq!(parse(&reply.bytes(), id, &asked, kind), empty);
            let other = parse(&reply.bytes(), id.wrapping_add(1), &asked, kind);
            prop_assert_eq!(other, Err(Rejected::Id));
        }
    }
}
