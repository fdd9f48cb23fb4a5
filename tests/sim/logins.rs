//! Challenges of servers, and what must hold of what answers them: it comes from requests with a
//! login, at the origin that they were made for; its nonce is one that this origin gave, and no
//! count of a nonce comes twice.

use std::collections::{BTreeMap, BTreeSet};

use super::asked::Asked;
use super::world::Env;

#[derive(Debug, Default)]
pub(crate) struct Logins {
    /// Requests that can answer.
    able: BTreeSet<u64>,
    /// Those that were redirected: a login stays behind where they left its origin.
    moved: BTreeSet<u64>,
    /// What each origin has asked with.
    nonces: BTreeSet<(usize, String)>,
    /// Nonces and counts that have come.
    used: BTreeSet<(String, String)>,
    /// The highest count of each.
    highest: BTreeMap<String, u32>,
    /// Requests that came with a lower one.
    late: BTreeSet<u64>,
    /// How often that was taken for stale.
    pub(crate) stales: u64,
}

impl Logins {
    pub(crate) fn enable(&mut self, id: u64) {
        self.able.insert(id);
    }

    /// Whether a request answers challenges where it begins.
    pub(crate) fn answers(&self, id: u64) -> bool {
        self.able.contains(&id)
    }

    pub(crate) fn move_on(&mut self, id: u64) {
        self.moved.insert(id);
    }
}

/// Whether an answer is due first. Only what can be answered is asked: whoever brings none, and at
/// every other origin those whose count comes late, as squid does.
pub(crate) fn asks(asked: &Asked, origin: usize, env: &mut Env) -> bool {
    let is_stale = origin.is_multiple_of(2) && env.logins.late.contains(&asked.id);
    (asked.authorization.is_none() || is_stale)
        && env.logins.able.contains(&asked.id)
        && env.ledger.asking(asked.id).is_some_and(|asking| asking.origin == origin)
        && !env.logins.moved.contains(&asked.id)
}

/// The line of a 401's head.
pub(crate) fn line(asked: &Asked, origin: usize, env: &mut Env) -> String {
    let stale = if asked.authorization.is_some() { ", stale=true" } else { "" };
    env.logins.stales += u64::from(!stale.is_empty());
    let nonce = format!("{origin}-{}", env.logins.nonces.len());
    env.logins.nonces.insert((origin, nonce.clone()));
    let algorithm = *env.random.pick(&["", ", algorithm=SHA-256", ", algorithm=MD5-sess"]);
    format!(
        "WWW-Authenticate: Digest realm=\"r\", qop=\"auth\", nonce=\"{nonce}\"{algorithm}{stale}\r\n"
    )
}

/// What must hold of a request that has come.
pub(crate) fn check(asked: &Asked, origin: usize, env: &mut Env) {
    let Some(value) = &asked.authorization else { return };
    let id = asked.id;
    let is_own = env.ledger.asking(id).is_some_and(|asking| asking.origin == origin);
    if !env.logins.able.contains(&id) || !is_own {
        return env
            .ledger
            .break_law_unless_crossed(format!("request {id} answers where it was not asked"));
    }
    let part = |name: &str| {
        let mut parts = value.split(", ").filter_map(|part| part.split_once('='));
        let found = parts.find(|(given, _)| *given == name);
        found.map(|(_, value)| value.trim_matches('"').to_owned()).unwrap_or_default()
    };
    let (nonce, count) = (part("nonce"), part("nc"));
    if !env.logins.nonces.contains(&(origin, nonce.clone())) {
        env.ledger.break_law_unless_crossed(format!(
            "request {id} answers {nonce}, which nobody gave here"
        ));
    } else if !env.logins.used.insert((nonce.clone(), count.clone())) {
        env.ledger.break_law_unless_crossed(format!(
            "request {id} answers {nonce} as {count}, as one did before"
        ));
    }
    let count = u32::from_str_radix(&count, 16).unwrap_or(0);
    let highest = env.logins.highest.entry(nonce).or_default();
    if count < *highest {
        env.logins.late.insert(id);
    } else {
        *highest = count;
        env.logins.late.remove(&id);
    }
}
