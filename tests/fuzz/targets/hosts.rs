//! A hosts file: addresses are those of lines that hold the name, and `localhost` never leaves the
//! machine.
//!
//! The input is a host name, LF, and the file.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use whippet::fuzzing::hosts;
use whippet_fuzz::input::Tape;

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape::new(bytes);
    let host = String::from_utf8_lossy(tape.until(b'\n')).to_ascii_lowercase();
    let file = tape.rest();
    let (found, loopback) = hosts(file, &host);
    assert_eq!(found.clone().unwrap_or_default(), wanted(file, &host));
    assert_ne!(found, Some(Vec::new()));
    let is_local = host == "localhost" || host.ends_with(".localhost");
    assert_eq!(loopback.is_some(), is_local);
    if let Some(loopback) = &loopback {
        assert!(!loopback.is_empty() && loopback.iter().all(IpAddr::is_loopback));
    }
    // What follows in lines of its own changes nothing for the name.
    let longer = [file, b"\r\n# 192.0.2.9 a\n192.0.2.9\nnonsense a\n\xff\xff a\n"].concat();
    assert_eq!(hosts(&longer, &host), (found, loopback));
});

/// The first 32 different addresses of lines with the name, the families alternating from IPv6.
fn wanted(file: &[u8], host: &str) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for line in file.split(|byte| *byte == b'\n') {
        let line = line.split(|byte| *byte == b'#').next().unwrap();
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut words = line.split_ascii_whitespace();
        let address = words.next().and_then(|word| word.split('%').next()?.parse().ok());
        if let Some(address) = address
            && words.any(|word| word.eq_ignore_ascii_case(host))
            && !all.contains(&address)
            && all.len() < 32
        {
            all.push(address);
        }
    }
    let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = all.iter().partition(|a| a.is_ipv6());
    let longest = six.len().max(four.len());
    let pair = |nth: usize| [six.get(nth).copied(), four.get(nth).copied()];
    (0..longest).flat_map(pair).flatten().collect()
}
