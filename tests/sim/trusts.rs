//! Requests that ask more of a server's TLS than others: its public key, its name, its version.
//!
//! What must hold: no request comes over TLS to a server that is not what it asks for; a fetch that
//! cannot have what it asks for fails by a certificate or by TLS, and nothing fails so that could.

use std::sync::Arc;

use whippet::{Error, Kind, MinVersion, Pin, Request, Settings, TlsSettings};

use super::random::{Random, mix};
use super::tls;
use super::world::Env;

/// What a seed has of them; mostly nothing.
#[derive(Default)]
pub(crate) struct Trusts {
    salt: u64,
    asks_pm: u32,
    /// Shared by all requests that ask the same, as a program would: they remember sessions.
    settings: Vec<(Ask, Arc<TlsSettings>)>,
    /// Requests that came over TLS to what they asked for, and fetches that found none.
    pub(crate) met: u64,
    pub(crate) unmet: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ask {
    Key,
    AnotherKey,
    AnotherName,
    Tls13,
}

impl Ask {
    fn settings(self) -> Arc<TlsSettings> {
        let trusting = tls::trusting();
        Arc::new(match self {
            Self::Key => trusting.add_pin(Pin::of_sha256(tls::server_key_sha256())),
            Self::AnotherKey => trusting.add_pin(Pin::of_sha256([7; 32])),
            Self::AnotherName => trusting.with_server_name("another.test"),
            Self::Tls13 => trusting.with_min_version(MinVersion::Tls13),
        })
    }

    /// Whether no server here is that.
    fn is_in_vain(self) -> bool {
        matches!(self, Self::AnotherKey | Self::AnotherName)
    }
}

impl Trusts {
    /// Drawn apart from all else: a seed without any is the same as if there were none for anybody.
    pub(crate) fn of(salt: u64) -> Self {
        let mut random = Random::new(mix(salt ^ SALT));
        if !random.chance(400) {
            return Self::default();
        }
        let asks_pm = 100 + random.below(600) as u32;
        let settings = ASKS.map(|ask| (ask, ask.settings())).into();
        Self { salt, asks_pm, settings, ..Self::default() }
    }

    pub(crate) fn set(&self, settings: &mut Settings, is_calm: bool) {
        if self.asks_pm > 0 && is_calm {
            // Servers that are not what is asked for are failures, and those open it for everybody.
            settings.pace.circuit = None;
        }
    }

    pub(crate) fn choose(&self, request: Request, id: u64) -> Request {
        let own = self.ask_of(id).and_then(|ask| self.settings.iter().find(|(of, _)| *of == ask));
        match own {
            Some((_, settings)) => request.tls(Arc::clone(settings)),
            None => request,
        }
    }

    /// By a request's number alone.
    fn ask_of(&self, id: u64) -> Option<Ask> {
        let mut random = Random::new(mix(self.salt ^ SALT ^ id << 8));
        random.chance(self.asks_pm).then(|| *random.pick(&ASKS))
    }
}

/// What must hold of a request that has come to a server, over this version of TLS.
pub(crate) fn check(id: u64, version: Option<rustls::ProtocolVersion>, env: &mut Env) {
    let (Some(ask), Some(version)) = (env.trusts.ask_of(id), version) else { return };
    let is_old = version == rustls::ProtocolVersion::TLSv1_2;
    if ask.is_in_vain() || (ask == Ask::Tls13 && is_old) {
        let law = format!("request {id} comes over {version:?}, and asks for {ask:?}");
        env.ledger.break_law(law);
    }
    env.trusts.met += 1;
}

/// What a fetch may fail of because of what it asks for.
pub(crate) fn excuses(id: u64, error: &Error, env: &mut Env) -> bool {
    let Some(ask) = env.trusts.ask_of(id) else { return false };
    let is_it = match error.kind() {
        Kind::Certificate => ask.is_in_vain(),
        // A server may say so itself: that it has no such name, or no such version.
        Kind::Tls => matches!(ask, Ask::AnotherName | Ask::Tls13),
        _ => false,
    };
    env.trusts.unmet += u64::from(is_it);
    is_it
}

const ASKS: [Ask; 4] = [Ask::Key, Ask::AnotherKey, Ask::AnotherName, Ask::Tls13];
const SALT: u64 = 0x74_72_75_73_06_cf;
