//! An answer to one DNS query, and messages out of a TCP stream: nothing is believed without the
//! query's id and question, every address is in the bytes, and times to live are bounded.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use whippet::fuzzing::{Frames, dns_answer, dns_query, is_askable};
use whippet_fuzz::input::{Tape, pieces};

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape::new(bytes);
    let (choice, seed) = (tape.byte(), tape.word());
    let (is_aaaa, is_edns) = (choice & 1 != 0, choice & 2 != 0);
    if choice & 4 != 0 {
        return frames(tape.rest(), seed);
    }
    let mut name = "a.test".to_owned();
    if choice & 8 != 0 {
        name = String::from_utf8_lossy(tape.until(b'\n')).into_owned();
    }
    let Some(query) = dns_query(ID, &name, is_aaaa, is_edns) else { return };
    if !is_askable(&name) {
        return;
    }
    check_query(&query, &name);
    // A query is no answer to itself, and an answer without records says that there are none.
    assert!(dns_answer(&query, ID, &name, is_aaaa).is_err());
    let mut bare = query.clone();
    bare[2] |= 0x80;
    let (_, ttl, said) = dns_answer(&bare, ID, &name, is_aaaa).unwrap();
    assert_eq!((ttl, &said[..]), (1, "no data"));

    // The fuzzer's bytes as they are, or behind the query's own id and question.
    let message = if choice & 16 == 0 { tape.rest().to_vec() } else { answer(&query, tape) };
    let Ok((addresses, ttl, said)) = dns_answer(&message, ID, &name, is_aaaa) else { return };
    assert_eq!(message[..2], ID.to_be_bytes());
    assert!(message[2] & 0x80 != 0);
    assert!((1..=86_400).contains(&ttl) && addresses.len() <= 32);
    assert_eq!(!addresses.is_empty(), said == "addresses");
    assert!(addresses.iter().all(|address| address.is_ipv6() == is_aaaa));
    assert!(addresses.iter().all(|address| is_in(&message, address)));
    // The same for a name in another case, and not for another question.
    assert!(dns_answer(&message, !ID, &name, is_aaaa).is_err());
    let is_bare = message.len() == 12;
    assert!(is_bare || dns_answer(&message, ID, &name, !is_aaaa).is_err());
    assert!(is_bare || dns_answer(&message, ID, "other.test", is_aaaa).is_err());
});

/// Flags and counts from the tape, the query's id and question, and the rest as records.
fn answer(query: &[u8], mut tape: Tape<'_>) -> Vec<u8> {
    let mut message = query[..query.len() - opt_bytes(query)].to_vec();
    message[2] = tape.byte() | 0x80;
    message[3] = tape.byte();
    for at in [7, 9, 11] {
        message[at] = tape.byte() % 64;
    }
    message.extend_from_slice(tape.rest());
    message
}

fn opt_bytes(query: &[u8]) -> usize {
    11 * usize::from(query[11])
}

/// Reads the question as RFC 1035 §4.1 writes it.
fn check_query(query: &[u8], name: &str) {
    assert!(query.len() <= 12 + 255 + 4 + 11);
    assert_eq!(query[..2], ID.to_be_bytes());
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(&query[at + 1..at + 1 + length]);
        at += 1 + length;
    }
    assert_eq!(labels.join(&b'.'), name.as_bytes());
    assert_eq!(at + 5 + opt_bytes(query), query.len());
}

fn is_in(message: &[u8], address: &IpAddr) -> bool {
    let has = |octets: &[u8]| message.windows(octets.len()).any(|window| window == octets);
    match address {
        IpAddr::V4(address) => has(&address.octets()),
        IpAddr::V6(address) => has(&address.octets()),
    }
}

fn frames(stream: &[u8], seed: u16) {
    let whole = Frames::default().receive(stream);
    let mut frames = Frames::default();
    let cut: Vec<Vec<u8>> =
        pieces(stream, seed).into_iter().flat_map(|piece| frames.receive(piece)).collect();
    assert_eq!(cut, whole);
    let mut rest = stream;
    for message in &whole {
        let (prefix, more) = rest.split_at(2);
        assert_eq!(usize::from(u16::from_be_bytes([prefix[0], prefix[1]])), message.len());
        rest = more.strip_prefix(&message[..]).unwrap();
    }
}

const ID: u16 = 0x1234;
