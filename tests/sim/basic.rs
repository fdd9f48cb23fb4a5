//! Logins that are shown unasked, of scheme Basic: in the URL, by the request, and listed by host
//! as `.netrc` has them.
//!
//! What must hold: a request's own login comes with it to the origin that it is for, as long as no
//! redirect has led to another, and to nobody else, nor afterwards; that of a listed host comes to
//! this host with whatever shows no other; that of all other hosts stays with the origin that the
//! user named. Which redirects have led away is in the targets themselves.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use whippet::{Netrc, Request, Settings};

use super::asked::Asked;
use super::random::{Random, mix};
use super::world::{Env, Origin};

/// Those of a seed; mostly none.
#[derive(Debug, Default)]
pub(crate) struct Basics {
    salt: u64,
    per_mille: u32,
    /// By the number of an origin: its host is listed.
    listed: BTreeSet<usize>,
    lists_all_others: bool,
    /// Requests with a login of their own.
    own: BTreeSet<u64>,
    /// How often one came, and how often none was due any more.
    pub(crate) shown: u64,
    pub(crate) withheld: u64,
}

/// Where a redirect leads that has left an origin, or comes after one that has.
pub(crate) const AWAY: &str = "away";

impl Basics {
    /// Drawn apart from all else: a seed without logins is the same as if there were none for
    /// anybody.
    pub(crate) fn of(salt: u64, origins: &[Origin]) -> Self {
        let mut random = Random::new(mix(salt ^ SALT));
        let mut basics = Self { salt, ..Self::default() };
        if random.chance(300) {
            basics.per_mille = 100 + random.below(700) as u32;
        }
        if random.chance(150) {
            let all = 0..origins.len();
            basics.listed = all.filter(|_| random.chance(400)).collect();
            basics.lists_all_others = random.chance(500);
        }
        basics
    }

    pub(crate) fn set(&self, settings: &mut Settings, origins: &[Origin]) {
        let machines = self.listed.iter().map(|at| {
            let host = &origins[*at].host;
            format!("machine {host} login m{at} password n{at}\n")
        });
        let mut text: String = machines.collect();
        if self.lists_all_others {
            text.push_str("default login all password others\n");
        }
        if !text.is_empty() {
            settings.netrc = Some(Netrc::parse(&text).unwrap().into());
        }
    }

    /// Whether redirects say that they have led away.
    pub(crate) fn are_shown(&self) -> bool {
        self.per_mille > 0 || self.lists_all_others || !self.listed.is_empty()
    }

    /// A request that shows who asks, perhaps, by its number alone: by its URL, or by itself.
    pub(crate) fn choose(&mut self, request: Request, id: u64) -> Request {
        let mut random = Random::new(mix(self.salt ^ SALT ^ id));
        if !random.chance(self.per_mille) {
            return request;
        }
        self.own.insert(id);
        let (user, password) = (format!("u{id}"), format!("{SECRET}{id}"));
        if random.chance(500) {
            return request.basic_auth(&user, &password);
        }
        let mut url = request.url().clone();
        url.set_username(&user).unwrap();
        url.set_password(Some(&password)).unwrap();
        Request::for_url(request.method().as_str(), url).unwrap()
    }

    /// Whether a request shows a login of its own.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.own.contains(&id)
    }

    /// The login that is due with a request that comes to an origin.
    fn due(&self, asked: &Asked, origin: usize, answers_challenges: bool) -> Option<String> {
        let id = asked.id;
        if !asked.is_away && self.own.contains(&id) {
            return Some(format!("u{id}:{SECRET}{id}"));
        }
        if !asked.is_away && answers_challenges {
            return None;
        }
        if self.listed.contains(&origin) {
            return Some(format!("m{origin}:n{origin}"));
        }
        (self.lists_all_others && !asked.is_away).then(|| "all:others".to_owned())
    }
}

/// What must hold of a request that has come.
pub(crate) fn check(asked: &Asked, origin: usize, env: &mut Env) {
    if !env.basics.are_shown() && asked.basic.is_none() {
        return;
    }
    let due = env.basics.due(asked, origin, env.logins.answers(asked.id));
    let expected = due.as_ref().map(|due| BASE64.encode(due));
    if asked.basic != expected {
        let said = asked.basic.as_deref().map(|said| BASE64.decode(said).unwrap_or_default());
        let said = said.map(|said| said.escape_ascii().to_string());
        let (id, base) = (asked.id, &env.origins[origin].base);
        let law = format!("request {id} shows the login {said:?} to {base}, where {due:?} is due");
        return env.ledger.break_law_unless_crossed(law);
    }
    env.basics.shown += u64::from(due.is_some());
    env.basics.withheld += u64::from(asked.is_away && env.basics.own.contains(&asked.id));
}

/// What nobody may read in an error. It has to be encoded in a URL.
pub(crate) const SECRET: &str = "p@ss:/";
const SALT: u64 = 0x6261_7369;
