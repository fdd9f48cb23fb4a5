//! Cookies as servers set them, and what must hold of those that come back: they are their own
//! server's, in one field, and the one that a redirect set comes with the request that follows.

use std::collections::{BTreeMap, BTreeSet};

use super::asked::Asked;
use super::world::Env;

/// What servers have set, by the number of their origin: each has a host of its own.
#[derive(Debug, Default)]
pub(crate) struct Cookies {
    set: BTreeSet<(usize, String)>,
    /// The name that a request must bring: it was set by the redirect that led to it.
    due: BTreeMap<(u64, u64), (usize, String)>,
    /// Requests that take no part.
    without: BTreeSet<u64>,
}

impl Cookies {
    pub(crate) fn leave_out(&mut self, id: u64) {
        self.without.insert(id);
    }
}

/// Lines for the head of an answer; mostly none.
pub(crate) fn lines(origin: usize, env: &mut Env) -> String {
    let mut lines = String::new();
    while env.random.chance(env.plan.cookie_pm) {
        let pair = new_pair(&format!("c{}", env.random.below(4)), env);
        let attributes = match env.random.below(6) {
            0 => "; Path=/; Max-Age=0".to_owned(),
            1 => format!("; path=/; max-age={}", 1 + env.random.below(5)),
            2 => "; Path=/elsewhere".to_owned(),
            3 => "; Path=/; Secure".to_owned(),
            // What is not its own to set: it must not come back, from here or elsewhere.
            4 => {
                lines.push_str("Set-Cookie: stray=1; Path=/; Domain=h9.test\r\n");
                "; Path=/; Domain=test".to_owned()
            }
            _ => "; Path=/".to_owned(),
        };
        if !attributes.contains("Domain=") && !attributes.contains("elsewhere") {
            env.cookies.set.insert((origin, pair.clone()));
        }
        lines.push_str(&format!("Set-Cookie: {pair}{attributes}\r\n"));
    }
    lines
}

/// The line of a redirect's head, which the request that follows must know of.
pub(crate) fn line_of_redirect(asked: &Asked, origin: usize, to: usize, env: &mut Env) -> String {
    if env.plan.cookie_pm == 0 {
        return String::new();
    }
    let name = format!("hop{}", asked.id % 4);
    let pair = new_pair(&name, env);
    env.cookies.set.insert((origin, pair.clone()));
    if to == origin && !env.cookies.without.contains(&asked.id) {
        env.cookies.due.insert((asked.id, asked.hop + 1), (origin, name));
    }
    format!("Set-Cookie: {pair}; Path=/\r\n")
}

/// What must hold of a request that has come.
pub(crate) fn check(asked: &Asked, origin: usize, env: &mut Env) {
    let is_left_out = env.cookies.without.contains(&asked.id);
    if asked.cookies.len() > usize::from(!is_left_out) {
        let (id, count) = (asked.id, asked.cookies.len());
        env.ledger.break_law_unless_crossed(format!("request {id} has {count} Cookie fields"));
    }
    let pairs: Vec<&str> = asked.cookies.iter().flat_map(|field| field.split("; ")).collect();
    for pair in &pairs {
        if !env.cookies.set.contains(&(origin, (*pair).to_owned())) {
            let id = asked.id;
            env.ledger.break_law_unless_crossed(format!(
                "request {id} brings {pair}, which its server never set"
            ));
        }
    }
    let names: BTreeSet<_> = pairs.iter().filter_map(|pair| pair.split('=').next()).collect();
    if names.len() < pairs.len() {
        env.ledger.break_law_unless_crossed(format!(
            "request {} brings a cookie twice: {pairs:?}",
            asked.id
        ));
    }
    if let Some((by, name)) = env.cookies.due.get(&(asked.id, asked.hop))
        && *by == origin
        && !names.contains(&**name)
    {
        env.ledger
            .break_law_unless_crossed(format!("request {} lacks {name}, set on its way", asked.id));
    }
}

/// No two servers set the same.
fn new_pair(name: &str, env: &mut Env) -> String {
    let number = env.cookies.set.len();
    format!("{name}={number}")
}
