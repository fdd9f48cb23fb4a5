//! Tests of the jar: the rules of RFC 6265bis as tables of what is set where and sent where.

use std::time::{Duration, SystemTime};

use url::Url;

use super::*;

const NOW: u64 = 1_700_000_000;

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

fn store(jar: &mut CookieJar, url: &str, field: &str) -> Result<(), CookieRefusal> {
    jar.store(&Url::parse(url).unwrap(), field.as_bytes(), at(NOW))
}

fn sent_at(jar: &mut CookieJar, url: &str, second: u64) -> String {
    let value = jar.header(&Url::parse(url).unwrap(), at(second)).unwrap_or_default();
    String::from_utf8(value).unwrap()
}

fn sent(jar: &mut CookieJar, url: &str) -> String {
    sent_at(jar, url, NOW)
}

/// A jar with what `url` sets.
fn jar_of(url: &str, fields: &[&str]) -> CookieJar {
    let mut jar = CookieJar::new();
    for field in fields {
        store(&mut jar, url, field).unwrap();
    }
    jar
}

#[test]
#[cfg(feature = "public-suffixes")]
fn where_a_cookie_is_sent() {
    for (set_at, field, asked, is_sent) in [
        // Host-only, where there is no Domain or an empty one.
        ("http://a.example/", "n=v", "http://a.example/", true),
        ("http://a.example/", "n=v", "http://A.EXAMPLE/x?y", true),
        ("http://a.example/", "n=v", "http://a.example:8080/", true),
        ("http://a.example/", "n=v", "https://a.example/", true),
        ("http://a.example/", "n=v", "http://b.a.example/", false),
        ("http://a.example/", "n=v", "http://b.example/", false),
        ("http://a.example/", "n=v; Domain=", "http://b.a.example/", false),
        ("http://a.example/", "n=v; Domain=.", "http://b.a.example/", false),
        // Domain: its host, and all below.
        ("http://a.example/", "n=v; Domain=a.example", "http://b.a.example/", true),
        ("http://a.example/", "n=v; Domain=.A.example", "http://b.a.example/", true),
        ("http://b.a.example/", "n=v; Domain=a.example", "http://a.example/", true),
        ("http://b.a.example/", "n=v; Domain=a.example", "http://c.a.example/", true),
        ("http://b.a.example/", "n=v; Domain=a.example", "http://xa.example/", false),
        ("http://b.a.example/", "n=v; Domain=b.a.example", "http://a.example/", false),
        // A public suffix is no domain, but a host may be one.
        ("http://localhost/", "n=v; Domain=localhost", "http://localhost/", true),
        ("http://github.io/", "n=v; Domain=github.io", "http://me.github.io/", false),
        ("http://github.io/", "n=v; Domain=github.io", "http://github.io/", true),
        // Addresses have nothing below or above.
        ("http://127.0.0.1/", "n=v", "http://127.0.0.1:99/", true),
        ("http://127.0.0.1/", "n=v; Domain=127.0.0.1", "http://127.0.0.1/", true),
        ("http://127.0.0.1/", "n=v", "http://127.0.0.2/", false),
        ("http://[::1]/", "n=v", "http://[::1]/", true),
        // Paths.
        ("http://a.example/x/y", "n=v", "http://a.example/x/", true),
        ("http://a.example/x/y", "n=v", "http://a.example/x", true),
        ("http://a.example/x/y", "n=v", "http://a.example/xy", false),
        ("http://a.example/x/y", "n=v", "http://a.example/", false),
        ("http://a.example/x/y", "n=v; Path=/", "http://a.example/", true),
        ("http://a.example/x/y", "n=v; Path=z", "http://a.example/x/z", true),
        ("http://a.example/", "n=v; Path=/z", "http://a.example/", false),
        ("http://a.example/", "n=v; Path=/z; Path=", "http://a.example/", true),
        // Secure.
        ("https://a.example/", "n=v; Secure", "https://a.example/", true),
        ("https://a.example/", "n=v; Secure", "http://a.example/", false),
        ("https://a.example/", "n=v", "http://a.example/", true),
        // What else there is makes no difference to a fetch.
        ("http://a.example/", "n=v; HttpOnly; SameSite=Strict", "http://a.example/", true),
    ] {
        let mut jar = jar_of(set_at, &[field]);
        let expected = if is_sent { "n=v" } else { "" };
        assert_eq!(sent(&mut jar, asked), expected, "{set_at} {field} {asked}");
    }
}

#[test]
#[cfg(feature = "public-suffixes")]
fn what_is_not_kept_and_why() {
    use CookieRefusal::*;
    for (url, field, refusal) in [
        ("data:text/plain,x", "n=v", NoHost),
        ("http://a.example/", "", Empty),
        ("http://a.example/", "n=v\x01", ControlByte),
        ("http://a.example/", "n=v; Domain=b.example", OtherDomain),
        ("http://a.example/", "n=v; Domain=b.a.example", OtherDomain),
        ("http://a.example/", "n=v; Domain=..a.example", OtherDomain),
        ("http://a.example/", "n=v; Domain=a.example:80", OtherDomain),
        ("http://a.example/", "n=v; Domain=\u{e9}.example", InvalidDomain),
        ("http://127.0.0.1/", "n=v; Domain=0.0.1", OtherDomain),
        ("http://127.0.0.1/", "n=v; Domain=.1", OtherDomain),
        ("http://a.example/", "n=v; Domain=example", PublicSuffix),
        ("http://a.co.uk/", "n=v; Domain=co.uk", PublicSuffix),
        ("http://a.co.uk/", "n=v; Domain=.uk", PublicSuffix),
        ("http://me.github.io/", "n=v; Domain=github.io", PublicSuffix),
        ("http://a.example./", "n=v; Domain=example.", PublicSuffix),
        ("http://a.example/", "n=v; Secure", InsecureOrigin),
        ("https://a.example/", "__Secure-n=v", Prefix),
        ("https://a.example/", "__SECURE-n=v", Prefix),
        ("http://a.example/", "__Secure-n=v", Prefix),
        ("https://a.example/", "__Host-n=v; Path=/", Prefix),
        ("https://a.example/", "__Host-n=v; Secure", Prefix),
        ("https://a.example/", "__Host-n=v; Secure; Path=/x", Prefix),
        ("https://a.example/", "__host-n=v; Secure; Path=/; Domain=a.example", Prefix),
        ("https://a.example/", "=__Host-n=v; Secure; Path=/", Prefix),
        ("https://a.example/", "__Secure-n", Prefix),
    ] {
        let mut jar = CookieJar::new();
        assert_eq!(store(&mut jar, url, field), Err(refusal), "{url} {field}");
        assert!(jar.is_empty());
        assert!(!refusal.to_string().is_empty());
    }
    for field in [
        "__Secure-n=v; Secure",
        "__Host-n=v; Secure; Path=/",
        "__Host-n=v; Secure; Path=/; Domain=",
        "__Hosts=v",
    ] {
        store(&mut CookieJar::new(), "https://a.example/", field).unwrap();
    }
}

#[test]
fn the_order_is_longer_paths_first_then_older_cookies() {
    let mut jar = jar_of(
        "http://a.example/x/y",
        &["root=1; Path=/", "deep=2; Path=/x/y", "second=3; Path=/", "mid=4", "=5; Path=/"],
    );
    assert_eq!(sent(&mut jar, "http://a.example/x/y"), "deep=2; mid=4; root=1; second=3; 5");
    // What is set anew keeps its place.
    store(&mut jar, "http://a.example/x/y", "root=6; Path=/").unwrap();
    assert_eq!(sent(&mut jar, "http://a.example/"), "root=6; second=3; 5");
}

#[test]
fn a_cookie_is_known_by_name_domain_and_path() {
    let mut jar = jar_of("http://a.example/x", &["n=1", "N=2", "n=3; Path=/x", "n=4"]);
    assert_eq!(sent(&mut jar, "http://a.example/x"), "n=3; n=4; N=2");
    store(&mut jar, "http://a.example/x", "n=; Max-Age=0").unwrap();
    assert_eq!(sent(&mut jar, "http://a.example/x"), "n=3; N=2");
    store(&mut jar, "http://a.example/x", "n=5; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/x")
        .unwrap();
    assert_eq!(sent(&mut jar, "http://a.example/x"), "N=2");
    assert_eq!(jar.len(), 1);
}

#[test]
fn a_cookie_lasts_as_long_as_it_says() {
    // NOW is 2023-11-14T22:13:20Z.
    let date = |second: u64| format!("Tue, 14 Nov 2023 22:13:{} GMT", second + 20 - NOW);
    for (field, lasts_until) in [
        ("n=v; Max-Age=10".to_owned(), NOW + 11),
        ("n=v; Max-Age=0".to_owned(), NOW),
        ("n=v; Max-Age=-1".to_owned(), NOW),
        (format!("n=v; Expires={}", date(NOW + 5)), NOW + 5),
        (format!("n=v; Expires={}; Max-Age=10", date(NOW + 5)), NOW + 11),
        (format!("n=v; Max-Age=10; Expires={}", date(NOW - 5)), NOW + 11),
        (format!("n=v; Expires={}", date(NOW)), NOW),
        ("n=v; Max-Age=99999999999999999999".to_owned(), NOW + 400 * 86_400),
        ("n=v; Expires=31 Dec 9999 23:59:59".to_owned(), NOW + 400 * 86_400),
        ("n=v; Expires=soon".to_owned(), u64::MAX / 4),
    ] {
        let mut jar = jar_of("http://a.example/", &[&field]);
        if lasts_until > NOW {
            assert_eq!(sent_at(&mut jar, "http://a.example/", lasts_until - 1), "n=v", "{field}");
        }
        assert_eq!(jar.len(), usize::from(lasts_until > NOW), "{field}");
        if lasts_until < u64::MAX / 4 {
            assert_eq!(sent_at(&mut jar, "http://a.example/", lasts_until), "", "{field}");
            assert_eq!((jar.len(), jar.sites.len()), (0, 0), "{field}");
        }
    }
}

#[test]
#[cfg(feature = "public-suffixes")]
fn what_came_without_tls_does_not_hide_what_came_over_it() {
    let set = "https://a.example/x";
    for (url, field, kept) in [
        ("http://a.example/x", "n=w", false),
        ("http://a.example/x", "n=w; Path=/x/y", false),
        ("http://a.example/x", "n=w; Domain=a.example; Path=/x", false),
        ("http://b.a.example/x", "n=w; Domain=a.example; Path=/x", false),
        ("http://b.a.example/x", "n=w; Path=/x", false),
        ("http://a.example/x", "n=w; Path=/", true),
        ("http://a.example/x", "m=w", true),
        ("https://a.example/x", "n=w", true),
    ] {
        let mut jar = jar_of(set, &["n=v; Secure; Path=/x; Domain=a.example"]);
        let expected = if kept { Ok(()) } else { Err(CookieRefusal::HidesSecure) };
        // Under http://a.example/x the path is "/".
        let field = if field == "n=w" { "n=w; Path=/x" } else { field };
        assert_eq!(store(&mut jar, url, field), expected, "{url} {field}");
    }
}

#[test]
fn ones_own_cookies_stand_in_front_and_win_by_name() {
    let mut jar = jar_of("http://a.example/", &["a=1", "b=2", "c=3", "=4"]);
    let url = Url::parse("http://a.example/").unwrap();
    let origin = Origin::of(&url).unwrap();
    let mut value = |own: &[&[u8]]| {
        let value = jar.value_for(Place::of(&origin, &url), own, at(NOW));
        value.map(|value| String::from_utf8(value).unwrap())
    };
    assert_eq!(value(&[b"b=9"]).as_deref(), Some("b=9; a=1; c=3; 4"));
    assert_eq!(value(&[b"b=9;c", b" a = 8"]).as_deref(), Some("b=9;c;  a = 8; c=3"));
    assert_eq!(value(&[b"a=;b=;c=;x"]), None);
}

#[test]
fn a_request_carries_no_more_than_servers_take() {
    let mut jar = CookieJar::new();
    for n in 0..180 {
        store(&mut jar, "http://a.example/", &format!("n{n}={}", "v".repeat(100))).unwrap();
    }
    let value = sent(&mut jar, "http://a.example/");
    assert!(value.len() <= SENT_BYTES_MAX && value.len() > SENT_BYTES_MAX - 110, "{}", value.len());
    assert!(value.starts_with("n0=v") && value.ends_with('v'));
}

#[test]
#[cfg(feature = "public-suffixes")]
fn a_site_keeps_so_many_and_those_in_use_stay() {
    let mut jar = jar_of("http://keep.example/", &["other=1"]);
    store(&mut jar, "https://a.b.example/", "secure=1; Secure").unwrap();
    store(&mut jar, "https://a.b.example/used", "used=1; Path=/used").unwrap();
    for n in 0..1_000 {
        assert_eq!(sent(&mut jar, "http://a.b.example/used").split("; ").next(), Some("used=1"));
        let (url, field) = (format!("http://h{n}.b.example/"), format!("n{n}=v"));
        store(&mut jar, &url, &field).unwrap();
        assert!(jar.len() <= COOKIES_A_SITE_MAX + 1);
    }
    assert_eq!(jar.len(), COOKIES_A_SITE_MAX + 1);
    assert_eq!(sent(&mut jar, "http://keep.example/"), "other=1");
    assert_eq!(sent(&mut jar, "https://a.b.example/"), "secure=1");
    assert_eq!(sent(&mut jar, "http://h999.b.example/"), "n999=v");
    assert_eq!(sent(&mut jar, "http://h1.b.example/"), "");
}

#[test]
fn those_that_have_expired_go_first() {
    let mut jar = CookieJar::new();
    for n in 0..COOKIES_A_SITE_MAX {
        let age = if n % 2 == 0 { "; Max-Age=5" } else { "" };
        store(&mut jar, "http://a.example/", &format!("n{n}=v{age}")).unwrap();
    }
    let url = Url::parse("http://a.example/").unwrap();
    jar.store(&url, b"new=v", at(NOW + 10)).unwrap();
    assert_eq!(jar.len(), COOKIES_A_SITE_MAX / 2 + 1);
    assert!(sent_at(&mut jar, "http://a.example/", NOW + 10).starts_with("n1=v"));
}

#[test]
fn all_sites_together_keep_so_many_and_those_in_use_stay() {
    let mut jar = jar_of("http://1.2.3.4/", &["used=1"]);
    for n in 0..COOKIES_MAX + 50 {
        assert_eq!(sent(&mut jar, "http://1.2.3.4/"), "used=1");
        let url = format!("http://10.0.{}.{}/", n / 250, n % 250);
        store(&mut jar, &url, "n=v").unwrap();
        assert_eq!(jar.len(), (n + 2).min(COOKIES_MAX));
    }
    assert_eq!(jar.iter().count(), COOKIES_MAX);
    assert_eq!(sent(&mut jar, "http://10.0.0.0/"), "");
    assert_eq!(sent(&mut jar, "http://10.0.12.0/"), "n=v");
    jar.clear();
    assert!(jar.is_empty() && jar.iter().next().is_none());
}

#[test]
fn what_is_printed_has_no_cookie_in_it() {
    let jar = jar_of("http://a.example/", &["canary=canary"]);
    let cookie = jar.iter().next().unwrap();
    assert!(!format!("{jar:?} {cookie:?}").contains("canary"));
    assert_eq!((cookie.name(), cookie.value()), (&b"canary"[..], &b"canary"[..]));
    assert_eq!((cookie.domain(), cookie.path(), cookie.expires()), ("a.example", &b"/"[..], None));
}

#[test]
#[cfg(not(feature = "public-suffixes"))]
fn without_a_list_every_cookie_is_for_its_host() {
    let mut jar = jar_of("http://a.example/", &["n=v; Domain=a.example"]);
    assert_eq!(sent(&mut jar, "http://a.example/"), "n=v");
    assert_eq!(sent(&mut jar, "http://b.a.example/"), "");
    let above = store(&mut jar, "http://b.a.example/", "n=v; Domain=a.example");
    assert_eq!(above, Err(CookieRefusal::PublicSuffix));
}

proptest::proptest! {
    /// Whatever is set, by whomever, nothing of it reaches another site.
    #[test]
    fn no_cookie_reaches_another_site(
        host in "(a|b)\\.(one|two)\\.example|10\\.0\\.0\\.[12]",
        field in "[a-c_]{1,3}=[a-z]{0,3}(; *(Domain|Path|Secure|Max-Age)=?[a-z0-9./]{0,12}){0,4}",
    ) {
        let mut jar = CookieJar::new();
        let _ = store(&mut jar, &format!("https://{host}/x/y"), &field);
        let own = host.split_once('.').map_or("", |(_, rest)| rest);
        for other in ["a.one.example", "b.two.example", "three.example", "example", "10.0.0.3"] {
            let is_own_site = other.split_once('.').is_some_and(|(_, rest)| rest == own);
            if !is_own_site || host.starts_with("10.") {
                proptest::prop_assert_eq!(sent(&mut jar, &format!("https://{other}/x/y")), "");
            }
        }
    }
}
