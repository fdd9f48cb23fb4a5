//! Floor 1. The jar as text: the file that Netscape had, as curl writes it.
//!
//! In go bytes that somebody read from a file, and out come bytes for one. A line has seven
//! fields between tabs: domain, whether names below it count, path, whether it is secure, the
//! second in which it ends or 0, name, value. `#HttpOnly_` before the domain says so; other lines
//! that begin with `#` are comments. SameSite has no place in it, nor has curl, wget, Python or a
//! browser's export made one.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::SystemTime;

use url::Host;

use super::cookie::{Cookie, SameSite};
use super::set_cookie::{ATTRIBUTE_BYTES_MAX, check_pair};
use super::{AGE_SECONDS_MAX, CookieJar, check_prefix, seconds, site};

impl CookieJar {
    /// Takes what such a file says, beside what is there. Cookies that have expired are left out.
    /// How many lines were passed over because they are none of this format, or say what no
    /// server may.
    pub fn read_netscape(&mut self, text: &[u8], now: SystemTime) -> usize {
        let mut passed_over = 0;
        for line in text.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let is_comment = line.starts_with(b"#") && !line.starts_with(HTTP_ONLY);
            if line.trim_ascii().is_empty() || is_comment {
                continue;
            }
            let moment = self.tick();
            match read(line, moment, now) {
                Some((site, cookie)) => self.insert(&site, cookie, seconds(now)),
                None => passed_over += 1,
            }
        }
        passed_over
    }

    /// Writes those that have not expired, as curl and wget read them. The bytes are secrets: keep
    /// the file to its owner. A cookie with a tab in it, or of a host that begins with a dot,
    /// cannot be written and is left out. What a server said of SameSite is not in the file, which
    /// has no place for it: of a cookie that is read from one,
    /// [`same_site`](super::Cookie::same_site) is [`SameSite::Default`](super::SameSite::Default).
    /// That changes nothing about which requests carry it.
    pub fn to_netscape(&self, now: SystemTime) -> Vec<u8> {
        let mut text = HEAD.to_vec();
        for cookie in self.iter().filter(|cookie| !cookie.is_over(seconds(now)) && fits(cookie)) {
            write(&mut text, cookie);
        }
        text
    }
}

/// Whether the format can say it: tabs part its fields, and who reads it drops a dot that stands
/// before a domain.
fn fits(cookie: &Cookie) -> bool {
    let parts = [&cookie.path, &cookie.name, &cookie.value];
    !parts.iter().any(|part| part.contains(&b'\t')) && !cookie.domain.starts_with('.')
}

fn write(text: &mut Vec<u8>, cookie: &Cookie) {
    if cookie.is_http_only {
        text.extend_from_slice(HTTP_ONLY);
    }
    let word = |is: bool| if is { "TRUE" } else { "FALSE" };
    let dot = if cookie.is_host_only { "" } else { "." };
    text.extend_from_slice(dot.as_bytes());
    text.extend_from_slice(cookie.domain.as_bytes());
    text.push(b'\t');
    text.extend_from_slice(word(!cookie.is_host_only).as_bytes());
    text.push(b'\t');
    text.extend_from_slice(&cookie.path);
    let mut rest = String::new();
    // Writing into a string cannot fail.
    let _ = write!(rest, "\t{}\t{}\t", word(cookie.is_secure), cookie.expires.unwrap_or(0));
    text.extend_from_slice(rest.as_bytes());
    text.extend_from_slice(&cookie.name);
    text.push(b'\t');
    text.extend_from_slice(&cookie.value);
    text.push(b'\n');
}

/// The cookie of a line and its site, if the line is one, and a server could have set it.
fn read(line: &[u8], moment: u64, now: SystemTime) -> Option<(String, Cookie)> {
    let is_http_only = line.starts_with(HTTP_ONLY);
    let line = line.strip_prefix(HTTP_ONLY).unwrap_or(line);
    let mut fields = line.split(|&byte| byte == b'\t');
    let mut next = || fields.next();
    let (domain, below, path) = (next()?, next()?, next()?);
    let (secure, expires, name) = (next()?, next()?, next()?);
    // An empty value's tab is easily lost.
    let value = next().unwrap_or_default();
    if next().is_some() || path.len() > ATTRIBUTE_BYTES_MAX || !path.starts_with(b"/") {
        return None;
    }
    check_pair(name, value).and(check_pair(b"path", path)).ok()?;
    let (domain, is_ip) = host(domain)?;
    let is_host_only = is_ip || !flag(below)?;
    if !is_host_only && site::is_public_suffix(&domain) {
        return None;
    }
    let site = site::site(&domain, is_ip).to_owned();
    let cookie = Cookie {
        name: name.into(),
        value: value.into(),
        domain: domain.into(),
        is_host_only,
        path: path.into(),
        expires: expiry(expires, seconds(now))?,
        is_secure: flag(secure)?,
        is_http_only,
        same_site: SameSite::Default,
        created: moment,
        used: moment,
    };
    check_prefix(&cookie, true).ok()?;
    Some((site, cookie))
}

/// As hosts are in URLs, without the dot that may stand before it; and whether it is an address.
fn host(domain: &[u8]) -> Option<(String, bool)> {
    let domain = std::str::from_utf8(domain).ok()?;
    let domain = domain.strip_prefix('.').unwrap_or(domain);
    if let Ok(ip) = domain.parse::<IpAddr>() {
        return Some((ip.to_string(), true));
    }
    match Host::parse(domain).ok()? {
        Host::Domain(name) if !name.is_empty() && !name.starts_with('.') => Some((name, false)),
        Host::Domain(_) => None,
        Host::Ipv4(ip) => Some((ip.to_string(), true)),
        Host::Ipv6(ip) => Some((ip.to_string(), true)),
    }
}

fn flag(word: &[u8]) -> Option<bool> {
    match word {
        b"TRUE" => Some(true),
        b"FALSE" => Some(false),
        _ => None,
    }
}

/// Zero stands for the session; with Python nothing does. No cookie lasts longer than it may,
/// whoever wrote the file.
fn expiry(digits: &[u8], now: u64) -> Option<Option<u64>> {
    let digits = if digits.is_empty() { b"0" } else { digits };
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let most = now.saturating_add(AGE_SECONDS_MAX);
    Some((number > 0).then_some(number.min(most)))
}

const HTTP_ONLY: &[u8] = b"#HttpOnly_";
const HEAD: &[u8] = b"# Netscape HTTP Cookie File\n# Written by whippet.\n\n";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use url::Url;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn jar(text: &str) -> (CookieJar, usize) {
        let mut jar = CookieJar::new();
        let passed_over = jar.read_netscape(text.as_bytes(), now());
        (jar, passed_over)
    }

    fn sent(jar: &mut CookieJar, url: &str) -> String {
        let value = jar.header(&Url::parse(url).unwrap(), now()).unwrap_or_default();
        String::from_utf8(value).unwrap()
    }

    /// As curl 7.88 wrote it.
    const FROM_CURL: &str = "# Netscape HTTP Cookie File\n\
        # https://curl.se/docs/http-cookies.html\n\
        # This file was generated by libcurl! Edit at your own risk.\n\n\
        #HttpOnly_127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tabc\n\
        .a.example\tTRUE\t/x\tTRUE\t1700000100\tid\t17\r\n\
        h.a.example\tFALSE\t/\tFALSE\t1700000000\told\tgone\n\
        a.example\tFALSE\t/\tFALSE\t0\tempty\t\n";

    #[test]
    fn what_python_wrote_is_read() {
        let (mut jar, passed_over) = jar("# Netscape HTTP Cookie File\n\
             # This is a generated file!  Do not edit.\n\n\
             a.example\tFALSE\t/\tFALSE\t\tsession\t1\n");
        assert_eq!((sent(&mut jar, "http://a.example/"), passed_over), ("session=1".to_owned(), 0));
        assert_eq!(jar.iter().next().unwrap().expires(), None);
    }

    #[test]
    #[cfg(feature = "public-suffixes")]
    fn what_curl_wrote_is_read() {
        let (mut jar, passed_over) = jar(FROM_CURL);
        assert_eq!((jar.len(), passed_over), (3, 0));
        assert_eq!(sent(&mut jar, "http://127.0.0.1/"), "session=abc");
        assert_eq!(sent(&mut jar, "https://b.a.example/x/y"), "id=17");
        assert_eq!(sent(&mut jar, "https://a.example/x"), "id=17; empty=");
        assert_eq!(sent(&mut jar, "http://a.example/x"), "empty=");
        assert!(jar.iter().any(Cookie::is_http_only));
    }

    #[test]
    fn a_line_that_says_what_no_server_may_is_passed_over() {
        for line in [
            "a.example",
            "a.example\tFALSE\t/\tFALSE\t0",
            "a.example\tFALSE\t/\tFALSE\t0\tn\tv\tmore",
            "a.example\tfalse\t/\tFALSE\t0\tn\tv",
            "a.example\tFALSE\tx\tFALSE\t0\tn\tv",
            "a.example\tFALSE\t/\tno\t0\tn\tv",
            "a.example\tFALSE\t/\tFALSE\t-1\tn\tv",
            "a.example\tFALSE\t/\tFALSE\tnever\tn\tv",
            "a.example\tFALSE\t/\tFALSE\t0\t\t",
            "a.example\tFALSE\t/\tFALSE\t0\tn\tv\x01",
            "a.example\tFALSE\t/\x01\tFALSE\t0\tn\tv",
            "a b\tFALSE\t/\tFALSE\t0\tn\tv",
            "\tFALSE\t/\tFALSE\t0\tn\tv",
            "..a.example\tFALSE\t/\tFALSE\t0\tn\tv",
            "..a.example\tTRUE\t/\tFALSE\t0\tn\tv",
            ".com\tTRUE\t/\tFALSE\t0\tn\tv",
            ".co.uk\tTRUE\t/\tFALSE\t0\tn\tv",
            "a.example\tFALSE\t/\tFALSE\t0\t__Secure-n\tv",
            "a.example\tFALSE\t/x\tTRUE\t0\t__Host-n\tv",
            "#HttpOnly_",
        ] {
            let (jar, passed_over) = jar(line);
            assert_eq!((jar.len(), passed_over), (0, 1), "{line:?}");
        }
        let (jar, passed_over) = jar("# comment\n\n  \n#\n");
        assert_eq!((jar.len(), passed_over), (0, 0));
    }

    #[test]
    fn a_file_cannot_make_a_cookie_last_longer_or_leave_its_host() {
        let (mut jar, _) = jar("A.Example\tFALSE\t/\tFALSE\t99999999999\tn\tv\n\
                            ::1\tTRUE\t/\tFALSE\t0\tsix\tv\n");
        let longest = jar.iter().filter_map(|cookie| cookie.expires).max();
        assert_eq!(longest, Some(NOW + AGE_SECONDS_MAX));
        assert_eq!(sent(&mut jar, "http://a.example/"), "n=v");
        assert_eq!(sent(&mut jar, "http://b.a.example/"), "");
        assert_eq!(sent(&mut jar, "http://[::1]/"), "six=v");
    }

    #[test]
    fn same_site_has_no_place_in_a_file() {
        let mut kept = CookieJar::new();
        let url = Url::parse("https://a.example/").unwrap();
        kept.store(&url, b"n=v; Secure; SameSite=Strict", now()).unwrap();
        let text = kept.to_netscape(now());
        let (mut read, _) = jar(std::str::from_utf8(&text).unwrap());
        let same_site = |jar: &CookieJar| jar.iter().next().unwrap().same_site();
        assert_eq!((same_site(&kept), same_site(&read)), (SameSite::Strict, SameSite::Default));
        assert_eq!(sent(&mut read, "https://a.example/"), sent(&mut kept, "https://a.example/"));
    }

    #[test]
    fn a_tab_has_no_place_in_a_file() {
        let mut jar = CookieJar::new();
        let url = Url::parse("http://a.example/").unwrap();
        jar.store(&url, b"n=a\tb", now()).unwrap();
        jar.store(&url, b"m=c", now()).unwrap();
        let text = String::from_utf8(jar.to_netscape(now())).unwrap();
        assert!(text.ends_with("\na.example\tFALSE\t/\tFALSE\t0\tm\tc\n"), "{text}");
        assert!(!text.contains("a\tb"));
    }

    #[test]
    fn a_host_that_begins_with_a_dot_has_no_place_in_a_file() {
        let mut jar = CookieJar::new();
        jar.store(&Url::parse("http://.a.example/").unwrap(), b"n=a", now()).unwrap();
        let text = String::from_utf8(jar.to_netscape(now())).unwrap();
        assert!(!text.contains("a.example"), "{text}");
    }

    proptest::proptest! {
        /// What is written is read as the same cookies, and written the same again.
        #[test]
        fn a_file_comes_round(fields in proptest::collection::vec(field(), 0..20)) {
            let mut jar = CookieJar::new();
            for (url, field) in &fields {
                let _ = jar.store(&Url::parse(url).unwrap(), field.as_bytes(), now());
            }
            let text = jar.to_netscape(now());
            let mut again = CookieJar::new();
            proptest::prop_assert_eq!(again.read_netscape(&text, now()), 0);
            proptest::prop_assert_eq!(again.to_netscape(now()), text);
            proptest::prop_assert_eq!(again.len(), jar.len());
            for (url, _) in &fields {
                let url = Url::parse(url).unwrap();
                proptest::prop_assert_eq!(again.header(&url, now()), jar.header(&url, now()));
            }
        }

        #[test]
        fn any_bytes_are_a_file(text in proptest::string::bytes_regex(BYTES).unwrap()) {
            CookieJar::new().read_netscape(&text, now());
        }
    }

    fn field() -> impl proptest::strategy::Strategy<Value = (String, String)> {
        (
            "https?://(a\\.b\\.example|b\\.example|c\\.example|10\\.0\\.0\\.1)(/[a-c]{0,2}){1,3}",
            "(__Host-|__Secure-)?[a-c]{0,2}=?[ -:<-~é]{0,6}\
             (; *(Domain=(b\\.|c\\.)?example|Path=/[a-c/]{0,3}|Max-Age=[0-9]{1,9}|Secure)){0,4}",
        )
    }

    const BYTES: &str = "(?s-u:.{0,200})|[a-z.#\\t\\n0-9A-Z/=_-]{0,200}";
}
