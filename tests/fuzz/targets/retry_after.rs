//! Retry-After, and the delay that is made of it: what is no number and no date counts for
//! nothing, and no server can have us wait for longer than the limits.
#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use whippet::fuzzing::{retry_after, retry_delay};
use whippet_fuzz::input::Tape;

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape::new(bytes);
    let (retries_done, since) = (u32::from(tape.byte()), tape.word());
    let remaining = match tape.word() {
        0 => None,
        millis => Some(Duration::from_millis(millis.into())),
    };
    let jitter = u64::from(tape.word()) * 0x0001_0001_0001_0001;
    // The calendar goes from 1970 to 2100.
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(since) * 63_000);
    let value = tape.rest();
    let asked = retry_after(value, wall);
    let trimmed = value.trim_ascii();
    if !trimmed.is_empty() && trimmed.iter().all(u8::is_ascii_digit) {
        let number = std::str::from_utf8(trimmed).unwrap().parse().ok();
        assert_eq!(asked, Some(number.map_or(Duration::MAX, Duration::from_secs)));
    }
    assert_eq!(asked, retry_after(trimmed, wall));
    // Later, a date asks for less; a number for the same.
    let later = retry_after(value, wall + Duration::from_secs(60));
    assert_eq!(asked.is_some(), later.is_some());
    assert!(later <= asked);
    let delay = retry_delay(value, retries_done, remaining, wall, jitter);
    match delay {
        Some(delay) => {
            assert!(delay >= asked.unwrap_or_default() && delay <= Duration::from_secs(60));
            assert!(remaining.is_none_or(|remaining| delay < remaining));
        }
        None => assert!(asked.is_some_and(|asked| asked > LONGEST) || remaining.is_some()),
    }
});

const LONGEST: Duration = Duration::from_secs(60);
