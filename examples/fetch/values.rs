//! What the values of options and job fields may be: text in, checked values out, or one line
//! that says what is wrong.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use whippet::url::Url;
use whippet::{ConnectTo, Hedge, Proxy, Rate, Request, Resolve};

/// A header's name and value.
pub(crate) type Header = (String, String);

/// A span of time; [`Duration::MAX`] is "no limit".
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Seconds(pub(crate) Duration);

/// A SHA-256.
pub(crate) type Checksum = [u8; 32];

/// A user name and a password.
#[derive(Clone, PartialEq)]
pub(crate) struct Userinfo {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// It is never printed.
impl fmt::Debug for Userinfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Userinfo(..)")
    }
}

/// A proxy, or none whatever the environment says.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ProxyChoice(pub(crate) Option<Proxy>);

/// A proxy's URL; an empty one is none.
pub(crate) fn proxy(text: &str) -> Result<ProxyChoice, String> {
    let proxy = (!text.is_empty()).then(|| Proxy::new(text)).transpose();
    proxy.map(ProxyChoice).map_err(|error| error.to_string())
}

/// What `-b` gives.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Cookie {
    /// The value of a Cookie header.
    Given(Secret),
    /// A file with kept ones.
    File(PathBuf),
}

/// Something that is never printed.
#[derive(Clone, PartialEq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Name servers.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Servers(pub(crate) Vec<SocketAddr>);

/// Seconds, with a fraction or without; 0 is "no limit", as in curl.
pub(crate) fn seconds(text: &str) -> Result<Seconds, String> {
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    span(number)
}

/// The same for a number.
pub(crate) fn span(number: f64) -> Result<Seconds, String> {
    if number == 0.0 {
        return Ok(Seconds(Duration::MAX));
    }
    let span = Duration::try_from_secs_f64(number).map_err(|_| "not a span of time".to_owned())?;
    if span.is_zero() {
        return Err("too short a time".to_owned());
    }
    Ok(Seconds(span))
}

/// How late is late.
pub(crate) fn hedge(text: &str) -> Result<Hedge, String> {
    if text == "p95" {
        return Ok(Hedge::after_p95());
    }
    pause(text).map(Hedge::after)
}

/// Seconds that end.
pub(crate) fn pause(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Seconds(Duration::MAX) => Err("not a span of time".to_owned()),
        Seconds(span) => Ok(span),
    }
}

/// Attempts a second.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    let attempts: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Rate::per_second(attempts).ok_or_else(|| "not a number of attempts a second".to_owned())
}

/// A protocol that can be asked for.
pub(crate) fn protocol(text: &str) -> Result<String, String> {
    let probe = Request::get(PROBE).and_then(|request| request.upgrade(text));
    probe.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// A method that a request takes.
pub(crate) fn method(text: &str) -> Result<String, String> {
    Request::new(text, PROBE).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// `Name: value`.
pub(crate) fn header(text: &str) -> Result<Header, String> {
    let Some((name, value)) = text.split_once(':') else {
        return Err("no colon behind the name".to_owned());
    };
    checked(name, value.trim_matches([' ', '\t']))
}

/// The User-Agent of this value.
pub(crate) fn user_agent(text: &str) -> Result<Header, String> {
    checked("User-Agent", text)
}

/// `name=value`, several with `; ` between them; or else a file.
pub(crate) fn cookie(text: &str) -> Result<Cookie, String> {
    if !text.contains('=') {
        return Ok(Cookie::File(text.into()));
    }
    checked("Cookie", text).map(|(_, value)| Cookie::Given(Secret(value)))
}

/// `user:password`.
pub(crate) fn userinfo(text: &str) -> Result<Userinfo, String> {
    let Some((user, password)) = text.split_once(':') else {
        return Err("no colon between user name and password".to_owned());
    };
    Ok(Userinfo { user: user.to_owned(), password: password.to_owned() })
}

/// A token that can stand in a header.
pub(crate) fn bearer(text: &str) -> Result<String, String> {
    let probe = Request::get(PROBE).and_then(|request| request.bearer_auth(text));
    probe.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// `sha256:`, and the digits of a SHA-256.
pub(crate) fn checksum(text: &str) -> Result<Checksum, String> {
    let wanted = || "not sha256: and 64 hexadecimal digits".to_owned();
    let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64);
    let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let digits = digits.ok_or_else(wanted)?;
    let mut checksum = Checksum::default();
    for (nth, byte) in checksum.iter_mut().enumerate() {
        let pair = &digits[2 * nth..2 * nth + 2];
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wanted())?;
    }
    Ok(checksum)
}

/// As a checksum is written.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `HOST:PORT:ADDR`.
pub(crate) fn resolve(text: &str) -> Result<Resolve, String> {
    let wanted = || "not HOST:PORT:ADDR".to_owned();
    // An IPv6 literal's colons are inside its brackets.
    let host_end = if text.starts_with('[') { text.find(']').map_or(0, |end| end + 1) } else { 0 };
    let (after_host, rest) = text.split_at(host_end);
    let (more_host, rest) = rest.split_once(':').ok_or_else(wanted)?;
    let (port, address) = rest.split_once(':').ok_or_else(wanted)?;
    resolve_to(&format!("{after_host}{more_host}:{port}"), address)
}

/// `HOST1:PORT1:HOST2:PORT2`.
pub(crate) fn connect_to(text: &str) -> Result<ConnectTo, String> {
    ConnectTo::new(text).map_err(|error| error.to_string())
}

/// `HOST:PORT`, and the address to connect to.
pub(crate) fn resolve_to(host_and_port: &str, address: &str) -> Result<Resolve, String> {
    let Some((host, port)) = host_and_port.rsplit_once(':') else {
        return Err(format!("{host_and_port:?} is not HOST:PORT"));
    };
    let port = port.parse().map_err(|_| format!("{port:?} is not a port"))?;
    let host = unbracketed(host);
    if host.is_empty() {
        return Err(format!("{host_and_port:?} has no host"));
    }
    let address: IpAddr =
        unbracketed(address).parse().map_err(|_| format!("{address:?} is not an IP address"))?;
    Ok(Resolve { host: host.to_owned(), port, address })
}

/// `ADDR[:PORT],…`; the port of DNS is 53.
pub(crate) fn servers(text: &str) -> Result<Servers, String> {
    text.split(',').map(|server| server_of(server.trim())).collect::<Result<_, _>>().map(Servers)
}

fn server_of(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = unbracketed(text).parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, 53));
    }
    text.parse().map_err(|_| format!("{text:?} is not ADDR or ADDR:PORT"))
}

fn checked(name: &str, value: &str) -> Result<Header, String> {
    let probe = Request::get(PROBE).and_then(|request| request.header(name, value));
    probe.map(|_| (name.to_owned(), value.to_owned())).map_err(|error| error.to_string())
}

fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

/// A URL as it was given, for people: without user name and password.
pub(crate) fn shown(url: &str) -> Cow<'_, str> {
    let Some((_, behind)) = url.rsplit_once('@') else { return Cow::Borrowed(url) };
    match Url::parse(url) {
        Ok(mut parsed) if parsed.has_host() => {
            // Both fail only for URLs without a host.
            let _ = parsed.set_username("");
            let _ = parsed.set_password(None);
            Cow::Owned(parsed.into())
        }
        _ => Cow::Owned(format!("...@{behind}")),
    }
}

/// A URL that is never contacted, for a request that tells whether a part is allowed.
const PROBE: &str = "http://localhost/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_is_a_time_or_the_hosts_own() {
        assert_eq!(hedge("p95"), Ok(Hedge::after_p95()));
        assert_eq!(hedge("0.3"), Ok(Hedge::after(Duration::from_millis(300))));
        for text in ["0", "-1", "p99", ""] {
            assert!(hedge(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_is_a_number_above_zero() {
        assert!(rate("0.25").is_ok() && rate("1000").is_ok());
        for text in ["0", "-1", "inf", "nan", "often", ""] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_have_fractions_and_zero_is_no_limit() {
        assert_eq!(seconds("0.25"), Ok(Seconds(Duration::from_millis(250))));
        assert_eq!(seconds("0"), Ok(Seconds(Duration::MAX)));
        for bad in ["", "x", "-1", "nan", "inf", "1e300", "1e-300", "1s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, expected) in [
            ("http://a.example", "http://a.example"),
            ("http://me:pass@a.example/@", "http://a.example/@"),
            ("http://me:pass@[bad/", "...@[bad/"),
            ("me:pass@a.example", "...@a.example"),
        ] {
            assert_eq!(shown(url), expected);
        }
        let secret = userinfo("me:canary").unwrap();
        assert!(!format!("{secret:?}").contains("canary"));
    }

    #[test]
    fn overrides_and_servers_take_both_families() {
        let v4 = resolve("a.example:443:127.0.0.1").unwrap();
        assert_eq!((&*v4.host, v4.port, v4.address.is_ipv4()), ("a.example", 443, true));
        for text in ["a.example:80:::1", "a.example:80:[::1]"] {
            assert!(resolve(text).unwrap().address.is_ipv6(), "{text}");
        }
        assert_eq!(resolve("[::2]:80:127.0.0.1").unwrap().host, "::2");
        for bad in ["", "a", "a:80", "a:x:127.0.0.1", "a:80:b", ":80:::1", "a:99999:::1", "[::1"] {
            assert!(resolve(bad).is_err(), "{bad}");
        }
        let Servers(list) = servers("127.0.0.1,127.0.0.2:5353,::1,[::1]:54").unwrap();
        assert_eq!(list.iter().map(SocketAddr::port).collect::<Vec<_>>(), [53, 5353, 53, 54]);
        assert!(servers("a.example").is_err() && servers("").is_err());
    }

    #[test]
    fn a_header_needs_a_colon_and_may_be_empty() {
        assert_eq!(header("A: b: c "), Ok(("A".into(), "b: c".into())));
        assert_eq!(header("A:"), Ok(("A".into(), String::new())));
        assert!(header("A").is_err());
    }
}
