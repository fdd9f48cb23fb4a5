//! Whatever a `Location` says, what is followed can be sent, and is where it says.

use proptest::prelude::*;

use super::*;

const LOCATIONS: [&str; 24] = [
    "other",
    "/root?q=1#f",
    "../../up",
    "?r=2",
    "#there",
    "//b.example/y",
    "\\\\b.example\\y",
    "https://B.example:443/z",
    "http://user:secret@a.example:8080/y",
    "/caf\u{e9}",
    "//b\u{fc}cher.example/",
    "http://[2001:db8::1]:81/x",
    "http://192.0.2.1/",
    "http://0x7f.1/",
    "http:/one/slash",
    "http:no-slash",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "data:text/html,x",
    "//a:99999/",
    "/a b\tc",
    "/%0d%0aSet-Cookie:x",
    "/one   Set-Cookie: x",
    "http://a.example\\@b.example/",
];

/// What is followed can be written into a request line, carries nobody's credentials, does not
/// leave https, and named in full it leads to the same place.
fn check(base: &Url, location: &[u8]) {
    let rules = Rules { follow: true, hops_max: 10, allow_downgrade: false };
    let hop = |location| Hop {
        method: &Method::GET,
        url: base,
        status: 302,
        location: Some(location),
        hops: 0,
    };
    let Verdict::Follow(next) = decide(&hop(location), &rules, []) else { return };
    let shown = location.escape_ascii();
    let url = &next.url;
    assert!(matches!(url.scheme(), "http" | "https"), "{shown}");
    assert!(base.scheme() == "http" || url.scheme() == "https", "{shown}");
    assert!(url.username().is_empty() && url.password().is_none(), "{shown}");
    assert!(url.host_str().is_some_and(|host| !host.is_empty()), "{shown}");
    let target = &url[Position::BeforePath..Position::AfterQuery];
    assert!(target.starts_with('/') && target.bytes().all(|b| b.is_ascii_graphic()), "{shown}");
    assert_eq!(next.keep_credentials, is_same_origin(base, url), "{shown}");
    match decide(&hop(url.as_str().as_bytes()), &rules, []) {
        Verdict::Follow(again) => assert_eq!(again.url, *url, "{shown}"),
        verdict => unreachable!("{shown}: {verdict:?}"),
    }
}

fn bases() -> [Url; 2] {
    ["http://me:mine@a.example/dir/page?q=1#top", "https://a.example:8443/"]
        .map(|base| Url::parse(base).unwrap())
}

#[test]
fn every_location_is_judged_at_every_cut_and_with_every_wrong_byte() {
    for base in &bases() {
        for location in LOCATIONS.map(str::as_bytes) {
            for cut in 0..=location.len() {
                check(base, &location[..cut]);
                check(base, &location[cut..]);
                for byte in *b"\0\t\n\r /\\?#@:[]%\x7f\xff" {
                    check(base, &[&location[..cut], &[byte], &location[cut..]].concat());
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged(
        start in prop::sample::select(&LOCATIONS[..]),
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        text in "[ -~\u{80}-\u{2fff}]{0,40}",
    ) {
        for base in &bases() {
            check(base, &bytes);
            check(base, text.as_bytes());
            check(base, &[start.as_bytes(), &bytes].concat());
            check(base, &[start.as_bytes(), text.as_bytes()].concat());
        }
    }
}
