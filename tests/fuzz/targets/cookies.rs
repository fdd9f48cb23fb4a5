//! The cookie jar: whatever servers set and files say, no cookie reaches a host that is not its
//! own, what is sent is one line of pairs that were set, the file comes round, and the jar stays
//! within its bounds.
//!
//! The input is steps, each a byte of choices and a line ended by LF: a host sets the line as a
//! cookie, or the line is read as one of a file, or time passes.
#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use whippet::CookieJar;
use whippet::url::Url;
use whippet_fuzz::input::Tape;

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape::new(bytes);
    let mut jar = CookieJar::new();
    let mut now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    while !tape.is_empty() {
        let choice = tape.byte();
        let line = tape.until(b'\n');
        match choice >> 5 {
            0 => drop(jar.read_netscape(line, now)),
            1 => now += Duration::from_secs(u64::from(choice & 31) * 1_000),
            _ => {
                let before = jar.len();
                let stored = jar.store(&url(usize::from(choice)), line, now);
                assert!(stored.is_ok() || jar.len() <= before);
            }
        }
    }
    assert!(jar.len() <= COOKIES_MAX && jar.iter().count() == jar.len());
    for at in 0..HOSTS.len() * 2 {
        check(&mut jar, at, now);
    }
    let text = jar.to_netscape(now);
    let mut again = CookieJar::new();
    assert_eq!(again.read_netscape(&text, now), 0);
    assert_eq!(again.to_netscape(now), text);
    for at in 0..HOSTS.len() * 2 {
        let had_tab = jar.iter().any(|cookie| {
            [cookie.name(), cookie.value(), cookie.path()].iter().any(|part| part.contains(&b'\t'))
        });
        assert!(had_tab || again.header(&url(at), now) == jar.header(&url(at), now));
    }
});

/// What a host is sent is its own.
fn check(jar: &mut CookieJar, at: usize, now: SystemTime) {
    let url = url(at);
    let host = url.host_str().unwrap().trim_matches(['[', ']']).to_owned();
    let Some(value) = jar.header(&url, now) else { return };
    assert!(value.len() <= SENT_BYTES_MAX);
    assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    let mut mine = jar.iter().filter(|cookie| {
        let domain = cookie.domain();
        let is_below = !cookie.is_host_only()
            && host.strip_suffix(domain).is_some_and(|before| before.ends_with('.'));
        (host == domain || is_below) && (url.scheme() == "https" || !cookie.is_secure())
    });
    assert!(mine.next().is_some(), "{host} is sent what is not its own");
    for cookie in jar.iter() {
        let domain = cookie.domain();
        assert!(cookie.expires().is_none_or(|expires| expires <= now + AGE_MAX));
        assert!(cookie.is_host_only() || domain.contains('.') && domain != "co.uk", "{domain}");
        let prefix = cookie.name().to_ascii_lowercase();
        assert!(!prefix.starts_with(b"__secure-") || cookie.is_secure());
        assert!(
            !prefix.starts_with(b"__host-")
                || cookie.is_secure() && cookie.is_host_only() && cookie.path() == b"/"
        );
    }
}

fn url(choice: usize) -> Url {
    let scheme = if choice & 1 == 0 { "http" } else { "https" };
    let host = HOSTS[(choice >> 1) % HOSTS.len()];
    Url::parse(&format!("{scheme}://{host}/a/b")).unwrap()
}

const HOSTS: [&str; 7] =
    ["a.example", "b.a.example", "b.example", "x.co.uk", "co.uk", "10.0.0.1", "[::1]"];
const COOKIES_MAX: usize = 3_000;
const SENT_BYTES_MAX: usize = 8_190;
const AGE_MAX: Duration = Duration::from_secs(400 * 86_400);
