//! Plain data. Where a connection leads in place of its origin, as curl's `--connect-to` has it.
//!
//! In goes text as curl reads it; out comes, for an origin, another host and port, or none.

use std::fmt;

use url::Host;

use crate::error::{Error, Kind, Phase};
use crate::origin::Origin;

/// Connect elsewhere: where a URL says one host and port, to another.
///
/// The Host field, the certificate's name, cookies and all else stay the URL's. The other host is
/// looked up; a [`Resolve`](crate::Resolve) for it counts. Through an HTTP proxy a tunnel leads
/// there, for http URLs too.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectTo {
    host: Option<Host<String>>,
    port: Option<u16>,
    to_host: Option<Host<String>>,
    to_port: Option<u16>,
}

impl ConnectTo {
    /// Reads `HOST1:PORT1:HOST2:PORT2`: what goes to the first is connected to the second. Each of
    /// the four may be empty: any host or port, and the host or port that the URL has. IPv6
    /// addresses stand in brackets.
    ///
    /// ```
    /// use whippet::{ConnectTo, Request};
    ///
    /// let canary = ConnectTo::new("www.example.com:443:canary-3.example.com:8443")?;
    /// let request = Request::get("https://www.example.com/")?.connect_to(canary);
    /// # Ok::<(), whippet::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Kind::InvalidRequest`], with the text.
    pub fn new(text: &str) -> Result<Self, Error> {
        Self::read(text).ok_or_else(|| {
            let shown: String = text.chars().take(TEXT_CHARS_MAX).collect();
            let shown = shown.escape_debug();
            let what = format!("\"{shown}\" is not HOST1:PORT1:HOST2:PORT2");
            Error::new(Kind::InvalidRequest, Phase::Request, what)
        })
    }

    fn read(text: &str) -> Option<Self> {
        let (host, rest) = host_of(text)?;
        let (port, rest) = rest.split_once(':')?;
        let (to_host, to_port) = host_of(rest)?;
        let (port, to_port) = (port_of(port)?, port_of(to_port)?);
        Some(Self { host, port, to_host, to_port })
    }

    /// Where it leads what would go to `origin`; `None`: this is not about it.
    pub(crate) fn of(&self, origin: &Origin) -> Option<Origin> {
        let is_host = self.host.as_ref().is_none_or(|host| origin.is_host(host));
        let is_port = self.port.is_none_or(|port| port == origin.port);
        (is_host && is_port).then(|| origin.elsewhere(self.to_host.as_ref(), self.to_port))
    }

    /// Where the first of `list` leads that is about `origin`; `None`: none is, or to itself.
    pub(crate) fn first_of(list: &[Self], origin: &Origin) -> Option<Origin> {
        list.iter().find_map(|entry| entry.of(origin)).filter(|target| target != origin)
    }
}

impl fmt::Display for ConnectTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |host: &Option<Host<String>>, port: Option<u16>| {
            let host = host.as_ref().map_or_else(String::new, Host::to_string);
            format!("{host}:{}", port.map_or_else(String::new, |port| port.to_string()))
        };
        let from = text(&self.host, self.port);
        write!(f, "{from}:{}", text(&self.to_host, self.to_port))
    }
}

impl fmt::Debug for ConnectTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectTo({self})")
    }
}

/// The host before a colon, and what is behind that.
fn host_of(text: &str) -> Option<(Option<Host<String>>, &str)> {
    // An IPv6 literal's colons are inside its brackets.
    let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':')? };
    let (host, rest) = text.split_at_checked(end)?;
    let rest = rest.strip_prefix(':')?;
    let host = (!host.is_empty()).then(|| Host::parse(host)).transpose().ok()?;
    Some((host, rest))
}

fn port_of(text: &str) -> Option<Option<u16>> {
    if text.is_empty() {
        return Some(None);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| is_number && *port != 0)?;
    Some(Some(port))
}

/// Of text that cannot be read, an error shows so much.
const TEXT_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn led(text: &str, url: &str) -> Option<String> {
        let origin = Origin::of(&url.parse().unwrap()).unwrap();
        ConnectTo::new(text).unwrap().of(&origin).map(|target| target.to_string())
    }

    #[test]
    fn each_of_the_four_may_be_empty() {
        for (text, url, target) in [
            ("a.test:80:b.test:81", "http://a.test/", Some("b.test:81")),
            ("A.test:80:b.test:81", "http://a.TEST/", Some("b.test:81")),
            ("a.test:80:b.test:81", "http://a.test:82/", None),
            ("a.test:80:b.test:81", "http://c.test/", None),
            ("::b.test:81", "https://c.test/", Some("b.test:81")),
            (":443:b.test:", "https://c.test/", Some("b.test:443")),
            (":443:b.test:", "http://c.test/", None),
            ("c.test:::81", "http://c.test/", Some("c.test:81")),
            (":::", "http://c.test/", Some("c.test:80")),
            ("[::1]:80:[::2]:81", "http://[::1]/", Some("[::2]:81")),
            ("127.1:80:127.0.0.2:", "http://127.0.0.1/", Some("127.0.0.2:80")),
            ("bücher.test:80:b.test:", "http://xn--bcher-kva.test/", Some("b.test:80")),
        ] {
            assert_eq!(led(text, url).as_deref(), target, "{text} {url}");
        }
    }

    #[test]
    fn what_is_none_is_refused_in_one_line() {
        for text in [
            "",
            "a",
            "a:80",
            "a:80:b",
            "a:x:b:1",
            "a:0:b:1",
            "a:+1:b:1",
            "a:80:b:99999",
            "[::1",
            "[::1]80:b:1",
            "a b:80:c:1",
            "a:80:b:1:2",
            "a\n:80:b:c",
        ] {
            let error = ConnectTo::new(text).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidRequest, "{text}");
            assert!(!error.to_string().contains('\n'), "{text}");
        }
        let read = ConnectTo::new("[::1]:80::8080").unwrap();
        assert_eq!(ConnectTo::new(&read.to_string()).unwrap(), read);
    }

    #[test]
    fn the_first_that_is_about_an_origin_counts() {
        let list =
            ["a.test:80:b.test:", ":::9", "a.test::c.test:"].map(|it| ConnectTo::new(it).unwrap());
        let target = |url: &str| {
            let origin = Origin::of(&url.parse().unwrap()).unwrap();
            ConnectTo::first_of(&list, &origin).map(|target| target.to_string())
        };
        assert_eq!(target("http://a.test/").unwrap(), "b.test:80");
        assert_eq!(target("https://a.test/").unwrap(), "a.test:9");
        assert_eq!(target("http://a.test:9/"), None);
    }
}
