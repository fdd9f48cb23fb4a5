//! Floor 2. What one exchange leaves for the next: cookies.
//!
//! In go heads, before anyone else sees them, and requests that are about to be sent; out come
//! requests with what was learned. Where nothing was, nothing is done and nothing allocated.

use super::Reactor;
use super::exchange::encode;
use super::fetch::FetchKey;
use super::reading::Focus;
use crate::net::Net;
use crate::policy::cookies::Place;
use crate::request::{Encoded, Request};
use crate::wire::http1::head::Head;

impl<N: Net> Reactor<N> {
    /// Keeps what a head says for the exchanges after it. A redirect's and a failure's count as
    /// much as an answer's (RFC 6265bis §5.6).
    pub(super) fn learn(&mut self, key: FetchKey, head: &Head, whole: Focus) {
        if !head.hints.sets_cookies {
            return;
        }
        let Some(fetch) = self.fetches.get(key) else { return };
        let Some(connection) = self.connections.get(whole.connection) else { return };
        let request = &fetch.request;
        if !request.parts.choices.cookies.unwrap_or(self.settings.cookies) {
            return;
        }
        let now = self.net.wall();
        let bytes = whole.bytes(&self.read_buffer, connection);
        for field in self.heads.fields() {
            if field.name.of(bytes).eq_ignore_ascii_case(b"set-cookie") {
                // What is refused was its server's fault, and is no failure of the fetch.
                let _ = self.cookies.keep(place_of(request), field.value.of(bytes), now);
            }
        }
    }

    /// What this exchange of a fetch sends, where it is not what every clone of its request does.
    pub(super) fn with_session(&mut self, key: FetchKey) -> Option<Box<Encoded>> {
        if self.cookies.is_empty() {
            return None;
        }
        let fetch = self.fetches.get(key)?;
        let (request, decodes) = (&fetch.request, fetch.decodes(&self.settings));
        if !request.parts.choices.cookies.unwrap_or(self.settings.cookies) {
            return None;
        }
        let given = || request.parts.headers.iter().map(|(name, value)| (&**name, &**value));
        let own: Vec<&[u8]> =
            given().filter(|(name, _)| is_cookie(name)).map(|(_, value)| value).collect();
        let value = self.cookies.value_for(place_of(request), &own, self.net.wall())?;
        // One field has them all (RFC 6265bis §5.8.1).
        let headers = given().filter(|(name, _)| !is_cookie(name));
        let cookies = std::iter::once((&b"Cookie"[..], &*value));
        Some(Box::new(encode(request, &headers.chain(cookies), decodes)))
    }
}

fn place_of(request: &Request) -> Place<'_> {
    Place::of(&request.parts.route.origin, request.url())
}

fn is_cookie(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"cookie")
}
