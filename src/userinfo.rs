//! Plain data. The user name and password in a URL (RFC 3986 §3.2.1): read, said as Basic
//! credentials, and left out.
//!
//! In goes a URL, or text that may be no URL at all, as it is for errors about it; out comes who
//! asks, or the same text without whatever may be a password. Text cannot be parsed to find that
//! out, so all that stands before the last `@` is taken for it, but for the scheme.

pub(crate) mod netrc;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use url::Url;

/// Who asks, percent-decoded.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Userinfo {
    pub(crate) user: Box<[u8]>,
    pub(crate) password: Box<[u8]>,
}

impl Userinfo {
    /// What a URL has of it.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        if url.username().is_empty() && url.password().is_none() {
            return None;
        }
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<_>>();
        let password = decoded(url.password().unwrap_or_default());
        Some(Self { user: decoded(url.username()).into(), password: password.into() })
    }

    /// The credentials of scheme Basic (RFC 7617) that say the same.
    pub(crate) fn basic(&self) -> String {
        basic(&self.user, &self.password)
    }
}

/// The credentials of scheme Basic (RFC 7617).
pub(crate) fn basic(user: &[u8], password: &[u8]) -> String {
    format!("Basic {}", base64_encoded(&[user, b":", password].concat()))
}

/// RFC 4648 §4, with padding.
pub(crate) fn base64_encoded(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// The bytes of such a text.
pub(crate) fn base64_decoded(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// The text without what may be user information, which a `@` ends.
pub(crate) fn without_userinfo(url: &str) -> Cow<'_, str> {
    let Some((before, after)) = url.rsplit_once('@') else { return Cow::Borrowed(url) };
    Cow::Owned(format!("{}{after}", before.get(..scheme_length(before)).unwrap_or_default()))
}

/// How much of it is a scheme and the slashes behind it. Of schemes that are not ours, only those
/// with two slashes count: `user:password@host` has none.
fn scheme_length(text: &str) -> usize {
    let Some((scheme, rest)) = text.split_once(':') else { return 0 };
    let is_ours = ["http", "https"].iter().any(|ours| scheme.eq_ignore_ascii_case(ours));
    let is_scheme = is_ours || (scheme.bytes().all(is_of_schemes) && rest.starts_with("//"));
    let slashes = rest.len() - rest.trim_start_matches(['/', '\\']).len();
    if is_scheme { scheme.len() + 1 + slashes } else { 0 }
}

/// RFC 3986 §3.1.
fn is_of_schemes(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_the_last_at_is_left_out() {
        for (url, shown) in [
            ("http://a.example/x", "http://a.example/x"),
            ("http://me:pass@a.example/x", "http://a.example/x"),
            ("http://me:p@ss@a.example/x", "http://a.example/x"),
            ("http://me:pa/ss@[bad/", "http://[bad/"),
            ("HTTPS:\\me:pass@[bad/", "HTTPS:\\[bad/"),
            ("http:me:pass@[bad/", "http:[bad/"),
            ("ftp://me:pass@a.example/", "ftp://a.example/"),
            ("me:pass@a.example", "a.example"),
            ("//me:pass@[bad/", "[bad/"),
            (" http://me:pass@[bad/", "[bad/"),
            ("@", ""),
            ("é:@é", "é"),
        ] {
            assert_eq!(without_userinfo(url), shown, "{url}");
        }
    }
}
