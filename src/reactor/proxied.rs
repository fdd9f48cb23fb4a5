//! Floor 2. Logins at proxies: challenges (407) that are answered, for requests that are handed to
//! a proxy and for tunnels through one.
//!
//! In go what a proxy asks, and requests to it that are about to be sent; out come the answers that
//! go with them, and another attempt for a fetch whose proxy asked. An answer goes to its proxy
//! alone: what is behind a tunnel sees none.

use super::Reactor;
use super::connection::{ConnectionKey, Phase};
use super::exchange::ExchangeKey;
use super::fetch::FetchKey;
use super::opening::tunnel_error;
use super::reading::Focus;
use crate::net::Net;
use crate::policy::auth::{Dialogue, Sessions, Shown, Verdict};
use crate::proxy::Proxy;
use crate::request::Request;
use crate::response::values;
use crate::wire::tunnel::{Tunnel, TunnelError};

/// Requests that a proxy hands on.
impl<N: Net> Reactor<N> {
    /// A 407 of the proxy that the request was handed to: where it can be answered, it is, by one
    /// more exchange of the same fetch; else there is no way to the origin, as without a tunnel.
    /// `false`: no such proxy has said that.
    pub(super) fn judge_proxy(
        &mut self,
        exchange: ExchangeKey,
        key: FetchKey,
        whole: Focus,
    ) -> bool {
        let Some(fetch) = self.fetches.get(key) else { return false };
        let Some(proxy) = forwarder_of(&fetch.request) else { return false };
        let was_shown = fetch.proxy_dialogue.shows_login();
        let had_credentials = was_shown || proxy.authorization().is_some();
        let is_spent = fetch.body_spent;
        let is_answered = !is_spent && self.answers_challenge(key, whole);
        self.detach(exchange);
        if is_answered {
            self.ask_again(key);
        } else {
            let error = tunnel_error(TunnelError::unauthenticated(had_credentials));
            self.fail(key, if is_spent { error.with_spent_body() } else { error });
        }
        true
    }

    /// Whether what the proxy asks can be answered by another attempt.
    fn answers_challenge(&mut self, key: FetchKey, whole: Focus) -> bool {
        let Some(fetch) = self.fetches.get_mut(key) else { return false };
        if forwarder_of(&fetch.request).and_then(Proxy::login).is_none() {
            return false;
        }
        let Some(connection) = self.connections.get(whole.connection) else { return false };
        let bytes = whole.bytes(&self.read_buffer, connection);
        let fields = values(self.heads.fields(), bytes, b"proxy-authenticate");
        let random = |into: &mut [u8]| self.net.random(into).is_ok();
        self.proxy_logins.judge(fields, &mut fetch.proxy_dialogue, random) == Verdict::Again
    }
}

/// What a request says to the proxy that it is handed to, where that has asked before.
pub(super) fn answer_to_proxy(
    request: &Request,
    logins: &mut Sessions,
    dialogue: &mut Dialogue,
) -> Option<Vec<u8>> {
    let (at, login) = forwarder_of(request)?.login()?;
    let authority = request.parts.route.origin.authority();
    let target = format!("http://{authority}{}", request.target());
    logins.authorization(at, login, dialogue, request.method().as_str(), &target)
}

/// Tunnels.
impl<N: Net> Reactor<N> {
    /// What a connection says first to the proxy that it has reached, and what that shows. The
    /// answer to a challenge is made here, not before: a socket that has lost a race has used none.
    pub(super) fn tunnel_request(&mut self, key: ConnectionKey) -> Option<(Vec<u8>, Shown)> {
        let Self { connections, fetches, proxy_logins, .. } = self;
        let connection = connections.get_mut(key)?;
        let tunnel = connection.tunnel.as_mut()?;
        let waits = connection.phase.opening().flatten().and_then(|key| fetches.get_mut(key));
        // Where nobody waits for the tunnel, nobody goes on with what is said.
        let mut nobodys = Dialogue::default();
        let dialogue = waits.map_or(&mut nobodys, |fetch| &mut fetch.proxy_dialogue);
        let answer = match (&*tunnel, connection.route.proxy.as_ref().and_then(Proxy::login)) {
            (Tunnel::Connect(connect), Some((at, login))) => {
                proxy_logins.authorization(at, login, dialogue, "CONNECT", &connect.target)
            }
            _ => None,
        };
        let mut request = Vec::new();
        tunnel.start(answer.as_deref(), &mut request);
        Some((request, dialogue.shown()))
    }

    /// There is no tunnel. Where that is because its proxy asked who wants one, and can be
    /// answered, the fetch asks for another. `true`: that is so, and the connection is closed.
    pub(super) fn answers_tunnel(&mut self, key: ConnectionKey) -> bool {
        let Some(connection) = self.connections.get(key) else { return false };
        let Some(Tunnel::Connect(connect)) = &connection.tunnel else { return false };
        let Phase::Tunnelling { dialled_for: Some(fetch_key), shown } = connection.phase else {
            return false;
        };
        let Some(fetch) = self.fetches.get_mut(fetch_key) else { return false };
        let login = connection.route.proxy.as_ref().and_then(Proxy::login);
        if login.is_none() || connect.challenges.is_empty() {
            return false;
        }
        let fields = connect.challenges.iter().map(|field| &**field);
        let random = |into: &mut [u8]| self.net.random(into).is_ok();
        let dialogue = &mut fetch.proxy_dialogue;
        // Another fetch may have begun the tunnel.
        dialogue.show(shown);
        if self.proxy_logins.judge(fields, dialogue, random) == Verdict::Answer {
            return false;
        }
        self.ask_again(fetch_key);
        true
    }
}

/// The proxy that a request is handed to, unless the request has credentials of its own for it.
fn forwarder_of(request: &Request) -> Option<&Proxy> {
    let forwarder = request.parts.route.forwarder()?;
    request.header_value("proxy-authorization").is_none().then_some(forwarder)
}
