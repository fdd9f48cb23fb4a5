//! Floor 2. What one exchange leaves for the next: cookies, and challenges that were answered.
//!
//! In go heads, before anyone else sees them, and requests that are about to be sent; out come
//! requests with what was learned. Where nothing was, nothing is done and nothing allocated.

use std::sync::Arc;

use super::Reactor;
use super::exchange::encode;
use super::fetch::{Fetch, FetchKey};
use super::proxied::answer_to_proxy;
use super::reading::Focus;
use crate::net::Net;
use crate::origin::Origin;
use crate::policy::auth::Verdict;
use crate::policy::cookies::Place;
use crate::proxy::Proxy;
use crate::request::{Encoded, Request};
use crate::response::values;
use crate::settings::Settings;
use crate::userinfo::Userinfo;
use crate::wire::http1::head::Head;

impl<N: Net> Reactor<N> {
    /// Keeps what a head says for the exchanges after it. A redirect's and a failure's count as
    /// much as an answer's (RFC 6265bis §5.6).
    pub(super) fn learn(&mut self, key: FetchKey, head: &Head, whole: Focus) {
        let Some(fetch) = self.fetches.get(key) else { return };
        let request = &fetch.request;
        let takes_cookies = head.hints.sets_cookies && uses_cookies(request, &self.settings);
        let login = &request.parts.choices.digest;
        let proxy = request.parts.route.forwarder();
        if !takes_cookies && login.is_none() && proxy.is_none() {
            return;
        }
        let Some(connection) = self.connections.get(whole.connection) else { return };
        let bytes = whole.bytes(&self.read_buffer, connection);
        if let Some(login) = login {
            let origin = &request.parts.route.origin;
            for value in values(self.heads.fields(), bytes, b"authentication-info") {
                self.logins.note_info(origin, login, value);
            }
        }
        if let Some((at, login)) = proxy.and_then(Proxy::login) {
            for value in values(self.heads.fields(), bytes, b"proxy-authentication-info") {
                self.proxy_logins.note_info(at, login, value);
            }
        }
        if takes_cookies {
            let now = self.net.wall();
            for value in values(self.heads.fields(), bytes, b"set-cookie") {
                // What is refused was its server's fault, and is no failure of the fetch.
                let _ = self.cookies.keep(place_of(request), value, now);
            }
        }
    }

    /// Whether the 401 of a fetch asks for what it can give.
    pub(super) fn verdict_on_challenge(&mut self, key: FetchKey, whole: Focus) -> Verdict {
        let Some(fetch) = self.fetches.get_mut(key) else { return Verdict::Answer };
        if digest_of(&fetch.request).is_none() {
            return Verdict::Answer;
        }
        let Some(connection) = self.connections.get(whole.connection) else {
            return Verdict::Answer;
        };
        let bytes = whole.bytes(&self.read_buffer, connection);
        let fields = values(self.heads.fields(), bytes, b"www-authenticate");
        let Self { net, logins, .. } = self;
        let random = |into: &mut [u8]| net.random(into).is_ok();
        logins.judge(fields, &mut fetch.dialogue, random)
    }

    /// What this exchange of a fetch sends, where it is not what every clone of its request does.
    pub(super) fn with_session(&mut self, key: FetchKey) -> Option<Box<Encoded>> {
        let Self { fetches, settings, cookies, logins, proxy_logins, net, .. } = self;
        let fetch = fetches.get_mut(key)?;
        let (decodes, listed) = (fetch.decodes(settings), listed(fetch, settings));
        let Fetch { request, dialogue, proxy_dialogue, .. } = fetch;
        let authorization = match digest_of(request) {
            Some(login) => {
                let (method, origin) = (request.method().as_str(), &request.parts.route.origin);
                logins.authorization(origin, login, dialogue, method, request.target())
            }
            None => listed.map(|login| login.basic().into_bytes()),
        };
        let answer = answer_to_proxy(request, proxy_logins, proxy_dialogue);
        let given = || request.parts.headers.iter().map(|(name, value)| (&**name, &**value));
        let cookies = if cookies.is_empty() || !uses_cookies(request, settings) {
            None
        } else {
            let own = given().filter(|(name, _)| is_cookie(name)).map(|(_, value)| value);
            cookies.value_for(place_of(request), &own.collect::<Vec<_>>(), net.wall())
        };
        if authorization.is_none() && cookies.is_none() && answer.is_none() {
            return None;
        }
        // One field has all cookies (RFC 6265bis §5.8.1).
        let headers = given().filter(|(name, _)| cookies.is_none() || !is_cookie(name));
        let headers = headers
            .chain(authorization.iter().map(|value| (&b"Authorization"[..], &**value)))
            .chain(cookies.iter().map(|value| (&b"Cookie"[..], &**value)))
            .chain(answer.iter().map(|value| (&b"Proxy-Authorization"[..], &**value)));
        Some(Box::new(encode(request, &headers, decodes)))
    }
}

/// The login that answers challenges of a request.
fn digest_of(request: &Request) -> Option<&Arc<Userinfo>> {
    let login = request.parts.choices.digest.as_ref();
    login.filter(|_| request.header_value("authorization").is_none())
}

/// The login that is listed for the host of a request without one of its own. That of all other
/// hosts stays where the user went: where to go next is a server's word.
fn listed<'a>(fetch: &Fetch, settings: &'a Settings) -> Option<&'a Userinfo> {
    let netrc = settings.netrc.as_ref()?;
    let request = &fetch.request;
    if request.parts.choices.digest.is_some() || request.header_value("authorization").is_some() {
        return None;
    }
    let origin = &request.parts.route.origin;
    let is_own = || fetch.hops.iter().all(|hop| Origin::of(&hop.url).as_ref() == Some(origin));
    netrc.of_host(&origin.host).or_else(|| netrc.of_any_other().filter(|_| is_own()))
}

fn uses_cookies(request: &Request, settings: &Settings) -> bool {
    request.parts.choices.cookies.unwrap_or(settings.cookies)
}

fn place_of(request: &Request) -> Place<'_> {
    Place::of(&request.parts.route.origin, request.url())
}

fn is_cookie(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"cookie")
}
