//! Floor 1. The cookies of one session (RFC 6265bis): which are kept, which are sent where.
//!
//! In go Set-Cookie fields with the place they came from, and the time; out come the values of
//! Cookie fields. A cookie is found by its site, the registered name that it can be for at most, so
//! what one site says can neither reach another nor push out what others keep.

mod cookie;
mod date;
mod file;
mod set_cookie;
mod site;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use url::Url;

pub(crate) use self::cookie::Place;
pub use self::cookie::{Cookie, SameSite};
use self::set_cookie::SetCookie;
use crate::origin::Origin;

/// The cookies of one session, as RFC 6265bis has them.
///
/// A [`Client`](crate::Client) and a [`Reactor`](crate::Reactor) have one each, and use it unless
/// [`Settings::cookies`](crate::Settings::cookies) or
/// [`Request::cookies`](crate::Request::cookies) says no. It can be filled before, looked at
/// meanwhile, and written as the file that curl and wget read.
///
/// At most 180 cookies are kept of a site, which is a registered name with all hosts below it, and
/// 3,000 in all; a name and its value have 4,096 bytes at most, an attribute 1,024. Where there
/// would be more, those go first that have expired, then those without Secure of a site that has
/// too many, then those not used for longest. None lasts longer than 400 days.
///
/// Without the feature `public-suffixes` nothing tells `example.com` from `co.uk`: then every
/// cookie is for the one host that set it.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use whippet::{CookieJar, url::Url};
///
/// let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
/// let mut jar = CookieJar::new();
/// let url = Url::parse("https://a.example/login")?;
/// jar.store(&url, b"id=17; Path=/; Secure", now)?;
/// assert_eq!(jar.header(&url, now).as_deref(), Some(&b"id=17"[..]));
/// assert_eq!(jar.header(&Url::parse("http://a.example/")?, now), None);
///
/// let mut other = CookieJar::new();
/// assert_eq!(other.read_netscape(&jar.to_netscape(now), now), 0);
/// assert_eq!(other.header(&url, now).as_deref(), Some(&b"id=17"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct CookieJar {
    /// By site, each in the order in which they came.
    sites: BTreeMap<Box<str>, Vec<Cookie>>,
    len: usize,
    /// Counts what happens: cookies are told apart by who came and was used before whom.
    moments: u64,
}

/// Why a cookie is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CookieRefusal {
    /// The URL is neither http nor https, or has no host.
    NoHost,
    /// It has neither name nor value.
    Empty,
    /// Name and value have more than 4,096 bytes.
    TooLong,
    /// It has a control byte.
    ControlByte,
    /// Its Domain is no name.
    InvalidDomain,
    /// Its Domain is not that of its host, nor one above it.
    OtherDomain,
    /// Its Domain is one below which anybody can have names, such as `co.uk`.
    PublicSuffix,
    /// It says Secure and came without TLS.
    InsecureOrigin,
    /// It came without TLS and would hide a cookie that says Secure.
    HidesSecure,
    /// Its name begins with `__Secure-` or `__Host-`, and it is not what that promises.
    Prefix,
}

impl fmt::Display for CookieRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHost => "the URL has no host that could set a cookie",
            Self::Empty => "the cookie has neither name nor value",
            Self::TooLong => "the cookie is longer than 4096 bytes",
            Self::ControlByte => "the cookie has a control byte",
            Self::InvalidDomain => "the cookie's Domain is no name",
            Self::OtherDomain => "the cookie's Domain is not its host's",
            Self::PublicSuffix => "the cookie's Domain is a public suffix",
            Self::InsecureOrigin => "the cookie says Secure and came without TLS",
            Self::HidesSecure => "the cookie came without TLS and would hide a secure one",
            Self::Prefix => "the cookie is not what the prefix of its name promises",
        })
    }
}

impl std::error::Error for CookieRefusal {}

/// What a caller does with one.
impl CookieJar {
    /// An empty jar.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the cookie of one Set-Cookie field that came from `url`; or, where it has expired
    /// already, takes away the one it replaces.
    ///
    /// # Errors
    /// Why it is not kept; nothing has changed then.
    pub fn store(
        &mut self,
        url: &Url,
        set_cookie: &[u8],
        now: SystemTime,
    ) -> Result<(), CookieRefusal> {
        let origin = Origin::of(url).ok_or(CookieRefusal::NoHost)?;
        self.keep(Place::of(&origin, url), set_cookie, now)
    }

    /// The value of the Cookie field of a request to `url`; `None`: there is no cookie for it.
    pub fn header(&mut self, url: &Url, now: SystemTime) -> Option<Vec<u8>> {
        let origin = Origin::of(url)?;
        self.value_for(Place::of(&origin, url), &[], now)
    }

    /// How many there are, those included that have expired and were not looked at since.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes all of them away.
    pub fn clear(&mut self) {
        self.sites.clear();
        self.len = 0;
    }

    /// Each of them: by site, and there in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &Cookie> {
        self.sites.values().flatten()
    }
}

/// What the reactor asks.
impl CookieJar {
    /// RFC 6265bis §5.7.
    pub(crate) fn keep(
        &mut self,
        place: Place<'_>,
        field: &[u8],
        now: SystemTime,
    ) -> Result<(), CookieRefusal> {
        let set = set_cookie::parse(field)?;
        let (domain, is_host_only) = domain_of(&set, place)?;
        if set.secure && !place.is_secure {
            return Err(CookieRefusal::InsecureOrigin);
        }
        let moment = self.tick();
        let cookie = Cookie {
            name: set.name.into(),
            value: set.value.into(),
            domain: domain.into(),
            is_host_only,
            path: set.path.unwrap_or(place.default_path().as_bytes()).into(),
            expires: expires(&set, now),
            is_secure: set.secure,
            is_http_only: set.http_only,
            same_site: set.same_site,
            created: moment,
            used: moment,
        };
        check_prefix(&cookie, set.path.is_some())?;
        if !place.is_secure && self.hides_secure(&cookie, place.site()) {
            return Err(CookieRefusal::HidesSecure);
        }
        self.insert(place.site(), cookie, seconds(now));
        Ok(())
    }

    /// The value of the Cookie field of a request to `place` that gives `own` cookies already:
    /// those, and behind them what is kept under other names, longer paths first, then older ones.
    /// `None`: there is nothing to add.
    pub(crate) fn value_for(
        &mut self,
        place: Place<'_>,
        own: &[&[u8]],
        now: SystemTime,
    ) -> Option<Vec<u8>> {
        let moment = self.tick();
        let cookies = self.of_site(place.site(), seconds(now))?;
        let mut sent: Vec<&mut Cookie> = cookies
            .iter_mut()
            .filter(|cookie| cookie.is_for(place) && !gives(own, &cookie.name))
            .collect();
        sent.sort_by_key(|cookie| (usize::MAX - cookie.path.len(), cookie.created));
        let mut value = own.join(&b"; "[..]);
        let own_length = value.len();
        for cookie in sent {
            let length = cookie.name.len() + cookie.value.len() + "; =".len();
            if value.len() - own_length + length > SENT_BYTES_MAX {
                break;
            }
            cookie.used = moment;
            if !value.is_empty() {
                value.extend_from_slice(b"; ");
            }
            value.extend_from_slice(&cookie.name);
            if !cookie.name.is_empty() {
                value.push(b'=');
            }
            value.extend_from_slice(&cookie.value);
        }
        (value.len() > own_length).then_some(value)
    }

    fn tick(&mut self) -> u64 {
        self.moments += 1;
        self.moments
    }

    /// A site's cookies, those that have expired taken away.
    fn of_site(&mut self, site: &str, now: u64) -> Option<&mut Vec<Cookie>> {
        let cookies = self.sites.get_mut(site)?;
        let before = cookies.len();
        cookies.retain(|cookie| !cookie.is_over(now));
        self.len -= before - cookies.len();
        if cookies.is_empty() {
            self.sites.remove(site);
            return None;
        }
        self.sites.get_mut(site)
    }

    /// RFC 6265bis §5.7 item 16: who listens in must not be able to put a cookie over one that
    /// was set over TLS.
    fn hides_secure(&self, new: &Cookie, site: &str) -> bool {
        // Of an address's site, all domains are that address.
        let matches = |one: &str, other: &str| cookie::domain_matches(one, other, false);
        self.sites.get(site).into_iter().flatten().any(|old| {
            old.is_secure
                && old.name == new.name
                && (matches(&old.domain, &new.domain) || matches(&new.domain, &old.domain))
                && cookie::path_matches(&new.path, &old.path)
        })
    }

    fn insert(&mut self, site: &str, mut new: Cookie, now: u64) {
        self.of_site(site, now);
        if let Some(cookies) = self.sites.get_mut(site)
            && let Some(at) = cookies.iter().position(|old| old.is_same_as(&new))
        {
            // It keeps its place among those sent.
            new.created = cookies[at].created;
            if new.is_over(now) {
                cookies.remove(at);
                self.len -= 1;
            } else {
                cookies[at] = new;
            }
            return;
        }
        if new.is_over(now) {
            return;
        }
        self.sites.entry(site.into()).or_default().push(new);
        self.len += 1;
        self.evict(site, now);
    }

    /// RFC 6265bis §5.7, its last part: who goes where there are too many.
    fn evict(&mut self, site: &str, now: u64) {
        let Some(cookies) = self.sites.get_mut(site) else { return };
        if cookies.len() > COOKIES_A_SITE_MAX {
            let least =
                (0..cookies.len()).min_by_key(|&at| (cookies[at].is_secure, cookies[at].used));
            cookies.remove(least.unwrap_or_default());
            self.len -= 1;
        }
        if self.len <= COOKIES_MAX {
            return;
        }
        let sites: Vec<Box<str>> = self.sites.keys().cloned().collect();
        for site in sites {
            self.of_site(&site, now);
        }
        if self.len <= COOKIES_MAX {
            return;
        }
        let age = |cookie: &Cookie| (cookie.used, cookie.created);
        let least = self.iter().map(age).min();
        self.sites.retain(|_, cookies| {
            cookies.retain(|cookie| Some(age(cookie)) != least);
            !cookies.is_empty()
        });
        self.len -= 1;
    }
}

/// Counts only.
impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJar")
            .field("sites", &self.sites.len())
            .field("cookies", &self.len)
            .finish_non_exhaustive()
    }
}

/// Whom it is for (RFC 6265bis §5.7 items 7 to 10), and whether for nobody below.
fn domain_of<'a>(set: &SetCookie<'a>, place: Place<'a>) -> Result<(String, bool), CookieRefusal> {
    let own = || Ok((place.host.to_owned(), true));
    let domain = std::str::from_utf8(set.domain).ok().filter(|domain| domain.is_ascii());
    let domain = domain.ok_or(CookieRefusal::InvalidDomain)?.to_ascii_lowercase();
    if domain.is_empty() {
        return own();
    }
    if place.is_ip || site::is_public_suffix(&domain) {
        return match domain == place.host {
            true => own(),
            false if place.is_ip => Err(CookieRefusal::OtherDomain),
            false => Err(CookieRefusal::PublicSuffix),
        };
    }
    if !cookie::domain_matches(place.host, &domain, false) {
        return Err(CookieRefusal::OtherDomain);
    }
    Ok((domain, false))
}

/// RFC 6265bis §4.1.3. Without a name, a value could be taken for one.
fn check_prefix(cookie: &Cookie, has_path: bool) -> Result<(), CookieRefusal> {
    let begins = |text: &[u8], prefix: &str| {
        text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    let is_host = cookie.is_host_only && has_path && *cookie.path == *b"/";
    let kept = match (begins(&cookie.name, "__Secure-"), begins(&cookie.name, "__Host-")) {
        (true, _) => cookie.is_secure,
        (_, true) => cookie.is_secure && is_host,
        _ if cookie.name.is_empty() => {
            !begins(&cookie.value, "__Secure-") && !begins(&cookie.value, "__Host-")
        }
        _ => true,
    };
    if kept { Ok(()) } else { Err(CookieRefusal::Prefix) }
}

/// Max-Age counts before Expires, and neither for longer than may be.
fn expires(set: &SetCookie<'_>, now: SystemTime) -> Option<u64> {
    let most = seconds(now).saturating_add(AGE_SECONDS_MAX);
    let expires = match (set.max_age, set.expires) {
        // From the end of this second on: never early.
        (Some(age @ 1..), _) => seconds(now).saturating_add(age.unsigned_abs()).saturating_add(1),
        (Some(_), _) => 0,
        (None, Some(at)) => u64::try_from(at).unwrap_or(0),
        (None, None) => return None,
    };
    Some(expires.min(most))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether one of the values of Cookie fields has a cookie of this name.
fn gives(own: &[&[u8]], name: &[u8]) -> bool {
    let pairs = own.iter().flat_map(|value| value.split(|&byte| byte == b';'));
    let mut names = pairs.map(|pair| match pair.iter().position(|&byte| byte == b'=') {
        Some(at) => pair.get(..at).unwrap_or_default().trim_ascii(),
        None => b"",
    });
    names.any(|given| given == name)
}

/// Of one site: as many as browsers keep.
const COOKIES_A_SITE_MAX: usize = 180;
/// In all: what RFC 6265bis §6.1 wants at least.
const COOKIES_MAX: usize = 3_000;
/// Of kept cookies in one request: as many as curl sends, for servers take heads of 8 KiB.
const SENT_BYTES_MAX: usize = 8_190;
/// 400 days (RFC 6265bis §5.5).
const AGE_SECONDS_MAX: u64 = 400 * 86_400;
