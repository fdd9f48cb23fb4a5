//! Floor 1. What a Set-Cookie field says (RFC 6265bis §5.6), before anybody asks whether its
//! server may say so.
//!
//! In goes the field's value; out come name, value and attributes, borrowed from it.

use super::CookieRefusal;
use super::cookie::SameSite;
use super::date;

/// A cookie as its server wants it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct SetCookie<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    /// The last Domain, without a leading dot; empty is as good as none.
    pub(super) domain: &'a [u8],
    /// The last Path, if it is absolute.
    pub(super) path: Option<&'a [u8]>,
    /// The last Expires that is a date: seconds since 1970.
    pub(super) expires: Option<i64>,
    /// The last Max-Age that is a number: seconds from now.
    pub(super) max_age: Option<i64>,
    pub(super) secure: bool,
    pub(super) http_only: bool,
    pub(super) same_site: SameSite,
}

/// Reads a field.
pub(super) fn parse(field: &[u8]) -> Result<SetCookie<'_>, CookieRefusal> {
    let mut parts = field.split(|&byte| byte == b';');
    let pair = parts.next().unwrap_or_default();
    let (name, value) = split_pair(pair).unwrap_or((b"", pair.trim_ascii()));
    check_pair(name, value)?;
    // The whole field: a control byte among the attributes spoils the cookie, too.
    check_bytes(field)?;
    let mut cookie = SetCookie { name, value, ..SetCookie::default() };
    for part in parts {
        let (name, value) = split_pair(part).unwrap_or((part.trim_ascii(), b""));
        if value.len() <= ATTRIBUTE_BYTES_MAX {
            cookie.note(name, value);
        }
    }
    Ok(cookie)
}

/// What every cookie's name and value must be, wherever they come from.
pub(super) fn check_pair(name: &[u8], value: &[u8]) -> Result<(), CookieRefusal> {
    if name.is_empty() && value.is_empty() {
        return Err(CookieRefusal::Empty);
    }
    if name.len() + value.len() > PAIR_BYTES_MAX {
        return Err(CookieRefusal::TooLong);
    }
    check_bytes(name)?;
    check_bytes(value)
}

/// No control byte but a tab: a field with one is ignored.
fn check_bytes(bytes: &[u8]) -> Result<(), CookieRefusal> {
    let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    if bytes.iter().any(is_control) { Err(CookieRefusal::ControlByte) } else { Ok(()) }
}

impl<'a> SetCookie<'a> {
    /// Where an attribute is repeated, the last one that can be read counts.
    fn note(&mut self, name: &[u8], value: &'a [u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("expires") {
            self.expires = date::parse(value).or(self.expires);
        } else if is("max-age") {
            self.max_age = seconds(value).or(self.max_age);
        } else if is("domain") {
            self.domain = value.strip_prefix(b".").unwrap_or(value);
        } else if is("path") {
            self.path = Some(value).filter(|path| path.starts_with(b"/"));
        } else if is("secure") {
            self.secure = true;
        } else if is("httponly") {
            self.http_only = true;
        } else if is("samesite") {
            self.same_site = SameSite::of(value);
        }
    }
}

/// Name and value around the first `=`, without white space around either.
fn split_pair(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == b'=')?;
    let (name, value) = text.split_at_checked(at)?;
    Some((name.trim_ascii(), value.get(1..)?.trim_ascii()))
}

/// A number of seconds, perhaps with a minus; more than fit are as many as fit.
fn seconds(value: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add =
        |number: i64, digit: &u8| number.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
    let number = digits.iter().fold(0, add);
    Some(if is_negative { -number } else { number })
}

/// Name and value together; longer ones are ignored (RFC 6265bis §5.6).
const PAIR_BYTES_MAX: usize = 4_096;
/// One attribute's value; longer ones are ignored (RFC 6265bis §5.6).
pub(super) const ATTRIBUTE_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(field: &str) -> (String, String) {
        let cookie = parse(field.as_bytes()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(cookie.name), text(cookie.value))
    }

    #[test]
    fn a_pair_is_what_stands_before_the_first_semicolon() {
        for (field, name, value) in [
            ("foo=bar", "foo", "bar"),
            ("foo", "", "foo"),
            ("=foo", "", "foo"),
            ("foo=", "foo", ""),
            ("foo=bar=baz", "foo", "bar=baz"),
            ("==foo", "", "=foo"),
            (" \tfoo \t= \tb a r\t ; Path=/", "foo", "b a r"),
            ("foo=\"b;a\"", "foo", "\"b"),
            ("foo=\"bar\"", "foo", "\"bar\""),
            ("foo=b,a", "foo", "b,a"),
            ("foo=b\ta", "foo", "b\ta"),
            ("f o=b", "f o", "b"),
            ("\u{e9}=\u{e9}", "\u{e9}", "\u{e9}"),
        ] {
            assert_eq!(pair(field), (name.to_owned(), value.to_owned()), "{field:?}");
        }
    }

    #[test]
    fn what_is_no_cookie_says_why() {
        let long =
            |name: usize, value: usize| format!("{}={}", "n".repeat(name), "v".repeat(value));
        for (field, refusal) in [
            ("", CookieRefusal::Empty),
            ("=", CookieRefusal::Empty),
            (" ; Path=/", CookieRefusal::Empty),
            (" = ;", CookieRefusal::Empty),
            ("foo=b\0r", CookieRefusal::ControlByte),
            ("foo=b\nr", CookieRefusal::ControlByte),
            ("foo=b\rr", CookieRefusal::ControlByte),
            ("f\x1fo=bar", CookieRefusal::ControlByte),
            ("foo=b\x7fr", CookieRefusal::ControlByte),
            ("foo=bar; Path=/\x01", CookieRefusal::ControlByte),
            (&long(1, 4_096), CookieRefusal::TooLong),
            (&long(4_097, 0), CookieRefusal::TooLong),
        ] {
            assert_eq!(parse(field.as_bytes()), Err(refusal), "{field:?}");
        }
        assert!(parse(long(96, 4_000).as_bytes()).is_ok());
    }

    #[test]
    fn attributes_are_read_without_case_and_the_last_counts() {
        let cookie = parse(
            b"a=b; DOMAIN=.A.example; domain = b.example ;path=/x; Path=/y; max-age=5; \
              Max-Age=7; expires=Thu, 01 Jan 1970 00:00:10 GMT; secure; httponly=no; samesite=LAX",
        );
        let expected = SetCookie {
            name: b"a",
            value: b"b",
            domain: b"b.example",
            path: Some(b"/y"),
            expires: Some(10),
            max_age: Some(7),
            secure: true,
            http_only: true,
            same_site: SameSite::Lax,
        };
        assert_eq!(cookie, Ok(expected));
    }

    #[test]
    fn attributes_that_cannot_be_read_are_passed_over() {
        let cookie = parse(
            b"a=b; max-age=3; max-age=4x; max-age=; max-age=+5; max-age=-; expires=soon; nope; ;=; \
              SameSite=odd; Path=x",
        );
        let expected =
            SetCookie { name: b"a", value: b"b", max_age: Some(3), ..SetCookie::default() };
        assert_eq!(cookie, Ok(expected));
        let long = format!("a=b; Path=/x; Path=/{0}; Domain=y{0}", "y".repeat(1_024));
        let cookie = parse(long.as_bytes()).unwrap();
        assert_eq!((cookie.path, cookie.domain), (Some(&b"/x"[..]), &b""[..]));
    }

    #[test]
    fn a_number_of_seconds_may_be_negative_and_never_overflows() {
        for (text, number) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("0012", Some(12)),
            ("-12", Some(-12)),
            ("99999999999999999999", Some(i64::MAX)),
            ("-99999999999999999999", Some(-i64::MAX)),
            ("1.5", None),
            ("--1", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), number, "{text}");
        }
    }
}
