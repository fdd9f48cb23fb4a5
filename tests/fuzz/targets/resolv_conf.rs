//! resolv.conf and nsswitch.conf: whatever they say, there is a server, the numbers stay within
//! libc's bounds, and every name that is tried can be asked for.
//!
//! The input is a host name, LF, then resolv.conf, and nsswitch.conf behind 0x1e.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use whippet::fuzzing::{ResolverConfig, is_askable};
use whippet_fuzz::input::Tape;

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape::new(bytes);
    let host = String::from_utf8_lossy(tape.until(b'\n')).to_ascii_lowercase();
    let resolv_conf = tape.until(0x1e);
    let nsswitch = (!tape.is_empty()).then(|| tape.rest());
    let config = ResolverConfig::parse(Some(resolv_conf), nsswitch);
    assert!((1..=3).contains(&config.servers().len()));
    assert!(config.servers().iter().all(|server| server.port() == 53));
    assert!(config.search().len() <= 32 && config.search().iter().all(|name| is_askable(name)));
    assert!(config.ndots() <= 15 && (1..=5).contains(&config.attempts()));
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(30));
    assert!((least..=most).contains(&config.timeout()));
    // A line end or a comment behind it changes nothing.
    for ending in ["\n", "\n\n", "\n# comment\n"] {
        let longer = [resolv_conf, ending.as_bytes()].concat();
        assert_eq!(ResolverConfig::parse(Some(&longer), nsswitch), config);
    }
    if !is_askable(host.strip_suffix('.').unwrap_or(&host)) {
        return;
    }
    let _ = config.needs_system(&host);
    let names = config.candidates(&host);
    assert!((1..=33).contains(&names.len()));
    let plain = host.strip_suffix('.').unwrap_or(&host);
    assert!(names.iter().all(|name| is_askable(name) && name.starts_with(plain)));
    if host.ends_with('.') {
        assert_eq!(names, [plain.into()]);
    }
});
