//! Challenges of servers, and what must hold of what answers them: it comes from requests with a
//! login, at the origin that they were made for; its nonce is one that this origin gave, and no
//! count of a nonce comes twice. Where a nonce is stale, or forgotten without a word of that, the
//! request is answered all the same.

use std::collections::{BTreeMap, BTreeSet};

use super::asked::Asked;
use super::plan::Plan;
use super::random::{Random, mix};
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
    /// What has come of each nonce.
    counts: BTreeMap<String, Counts>,
    /// Answers after which a nonce is forgotten.
    answers_max: Option<u32>,
    /// Requests whose last answer will not do.
    refused: BTreeMap<u64, Refusal>,
    /// How often a count came late.
    pub(crate) stales: u64,
    /// How often a nonce was forgotten.
    pub(crate) forgotten: u64,
}

#[derive(Debug, Default)]
struct Counts {
    highest: u32,
    answers: u32,
}

/// Why an answer will not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    /// Higher counts have come, which is called stale.
    Late,
    /// Which is not called anything.
    Forgotten,
}

impl Logins {
    /// Drawn apart from all else.
    pub(crate) fn of(seed: u64, plan: &Plan) -> Self {
        let mut random = Random::new(mix(seed ^ SALT));
        let forgets = random.chance(300);
        Self { answers_max: forgets.then(|| answers_max(&mut random, plan)), ..Self::default() }
    }

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

/// How many answers a nonce has before it is forgotten. Where heads go byte by byte, one more for
/// each takes too long.
pub(crate) fn answers_max(random: &mut Random, plan: &Plan) -> u32 {
    let most = random.magnitude(12) as u32;
    if plan.is_narrow { most.max(6) } else { most }
}

/// Whether an answer is due first. Only what can be answered is asked: whoever brings none, whose
/// count comes late, which squid calls stale, or whose nonce is forgotten by now.
pub(crate) fn asks(asked: &Asked, origin: usize, env: &mut Env) -> bool {
    (asked.authorization.is_none() || env.logins.refused.contains_key(&asked.id))
        && env.logins.able.contains(&asked.id)
        && env.ledger.asking(asked.id).is_some_and(|asking| asking.origin == origin)
        && !env.logins.moved.contains(&asked.id)
}

/// The line of a 401's head.
pub(crate) fn line(asked: &Asked, origin: usize, env: &mut Env) -> String {
    let refused = asked.authorization.as_ref().and_then(|_| env.logins.refused.get(&asked.id));
    let stale = match refused {
        Some(Refusal::Late) => ", stale=true",
        Some(Refusal::Forgotten) | None => "",
    };
    env.logins.stales += u64::from(refused == Some(&Refusal::Late));
    env.logins.forgotten += u64::from(refused == Some(&Refusal::Forgotten));
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
    let Counts { highest, answers } = env.logins.counts.entry(nonce).or_default();
    *answers += 1;
    // Not for whoever was asked with it, whose count is the first.
    let is_forgotten = count > 1 && env.logins.answers_max.is_some_and(|max| *answers > max);
    let is_late = count < *highest;
    *highest = count.max(*highest);
    env.logins.refused.remove(&id);
    if is_forgotten || is_late {
        let why = if is_forgotten { Refusal::Forgotten } else { Refusal::Late };
        env.logins.refused.insert(id, why);
    }
}

const SALT: u64 = 0x6c_6f_67_69_6e_73;
