//! Challenges, and files of logins: what answers a challenge is one line that names the user and
//! not the password, for the origin that asked and for no other; no server is answered for ever;
//! and whatever a `.netrc` is, it is read or refused.
//!
//! The input is steps, each a byte of choices and a line ended by LF: the line is a
//! WWW-Authenticate field, an Authentication-Info field, or the target of a request. All lines
//! together are a `.netrc`, too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use whippet::fuzzing::{Dialogue, Logins};
use whippet::{Netrc, Request};
use whippet_fuzz::input::Tape;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Err(error) = Netrc::parse(text)
    {
        assert!(error.to_string().starts_with("line "));
    }
    let mut tape = Tape::new(bytes);
    let mut logins = Logins::default();
    let (mut refused, mut dialogues) = ([0; 2], <[Dialogue; 2]>::default());
    // What was sent last answered what the request was asked itself.
    let mut is_own = [false; 2];
    let mut has_asked = [false; 2];
    while !tape.is_empty() {
        let choice = tape.byte();
        let line = tape.until(b'\n');
        // A head with other bytes in it is no head.
        if line.iter().any(|byte| *byte < b' ' && *byte != b'\t' || *byte == 0x7f) {
            continue;
        }
        let at = usize::from(choice & 1);
        let mut another = Dialogue::default();
        if choice & 2 != 0 {
            // Another request.
            (refused[at], is_own[at], dialogues[at]) = (0, false, Dialogue::default());
        }
        let dialogue = &mut dialogues[at];
        match choice >> 6 {
            0 => logins.note_info(ORIGINS[at], USER, PASSWORD, line),
            1 => {
                if logins.judge(line, dialogue) {
                    refused[at] += u32::from(is_own[at]);
                    (is_own[at], has_asked[at]) = (true, true);
                    assert!(refused[at] <= REFUSALS_MAX);
                    let value = logins.authorization(ORIGINS[at], USER, PASSWORD, dialogue, "/");
                    assert!(value.is_some());
                }
            }
            _ => {
                let target = format!("/{}", String::from_utf8_lossy(line).escape_default());
                let value = logins.authorization(ORIGINS[at], USER, PASSWORD, dialogue, &target);
                is_own[at] = false;
                assert!(value.is_none() || has_asked[at], "nobody had asked");
                assert_eq!(value.is_some(), dialogue.shows_login());
                check(value);
            }
        }
        assert_eq!(logins.authorization(ORIGINS[2], USER, PASSWORD, &mut another, "/"), None);
        assert_eq!(logins.authorization(ORIGINS[at], "other", PASSWORD, &mut another, "/"), None);
    }
});

fn check(value: Option<Vec<u8>>) {
    let Some(value) = value else { return };
    assert!(value.starts_with(b"Digest username"), "{}", value.escape_ascii());
    assert!(!value.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes()));
    let request = Request::get(ORIGINS[0]).unwrap().header("Authorization", &value);
    let request = request.expect("it can stand in a head");
    assert_eq!(request.header_value("authorization"), Some(value.trim_ascii()));
}

const ORIGINS: [&str; 3] = ["http://a.example/", "https://a.example/", "http://b.a.example/"];
const USER: &str = "m\u{e9} \"\\";
/// With what no challenge is likely to have.
const PASSWORD: &str = "canary\u{1}7Q";
const REFUSALS_MAX: u32 = 3;
