//! Another protocol on a connection: requests that ask for one, and servers that change to it, echo
//! what they hear and speak on their own, refuse, or break it off.
//!
//! In that protocol the client says as many bytes as it means to, and a server that has heard them
//! ends when it has said all of its own. What must hold: each side hears what the other has said,
//! from its first byte on and in order; a fetch that ends well has heard all of it; the connection
//! carries nothing else afterwards.

use super::asked::Asked;
use super::ledger::Answer;
use super::plan::Fault;
use super::random::{Random, body_bytes, mix};
use super::wire::{Http, Step};
use super::world::Env;

/// A server's end of a connection that has changed its protocol.
#[derive(Debug)]
pub(crate) struct Switch {
    /// The request that asked for it.
    pub(crate) id: u64,
    /// Names what is said to it.
    pub(crate) nonce: u64,
    /// How much the client means to say.
    says: u64,
    heard: u64,
    echoes: bool,
    /// What breaks it off when so much was heard.
    broken_at: Option<(u64, Step)>,
    has_ended: bool,
}

/// How much a request means to say in the protocol that it asks for, chosen by its number alone.
/// None: it asks for none.
pub(crate) fn says(id: u64, salt: u64, per_mille: u32, most: u64) -> Option<u64> {
    let mut random = Random::new(mix(salt ^ id ^ 0x75_67));
    let says = random.magnitude((most / 2).max(50));
    random.chance(per_mille).then_some(says)
}

/// The name of what a client says in another protocol.
pub(crate) fn speech(id: u64) -> u64 {
    id ^ (1 << 59)
}

/// What must hold of a request that has come: it asks for a protocol where the program did.
pub(crate) fn check(asked: &Asked, env: &mut Env) {
    let Some(asking) = env.ledger.asking(asked.id) else { return };
    if asked.upgrades != asking.says.is_some() {
        let law = format!("request {} asks for another protocol: {}", asked.id, asked.upgrades);
        env.ledger.break_law_unless_crossed(law);
    }
}

/// Whether the protocol is changed: where that was asked for, mostly; where not, as a fault.
pub(crate) fn changes(asked: &Asked, fault: Option<Fault>, http: &Http, env: &mut Env) -> bool {
    if http.was_early {
        // The rest of the request would be taken for the protocol.
        return false;
    }
    if fault == Some(Fault::Switch) {
        return true;
    }
    let Some(asking) = env.ledger.asking(asked.id) else { return false };
    let may = asking.says.is_some();
    let is_usable = !asking.is_collected;
    if may && !is_usable && !env.plan.scenario.is_calm() && env.random.chance(100) {
        env.ledger.excuse(asked.id);
        return true;
    }
    may && is_usable && env.random.chance(700)
}

/// A 101 and what follows it.
pub(crate) fn answer(
    asked: &Asked,
    fault: Option<Fault>,
    http: &mut Http,
    env: &mut Env,
) -> Vec<Step> {
    let nonce = env.ledger.answer(Answer { id: asked.id, whole: None });
    env.ledger.begin_speech(nonce);
    let asking = env.ledger.asking(asked.id);
    let says = asking.and_then(|asking| asking.says).unwrap_or_default();
    let broken_by = fault.map(|fault| match fault {
        Fault::CutByFin => Step::Fin,
        Fault::CutByReset => Step::Reset,
        Fault::CutBySilence => Step::Mute,
        _ => env.random.pick(&[Step::Fin, Step::Reset, Step::Mute]).clone(),
    });
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: sim\r\n\
         X-Nonce: {nonce}\r\n\r\n"
    );
    let mut steps = vec![Step::Bytes(head.into_bytes())];
    steps.extend(own_speech(nonce, http, env));
    let (mut broken_at, mut has_ended) = (None, false);
    match broken_by {
        Some(end) if env.random.chance(500) => {
            // In the middle of what it says, the head included.
            let kept = env.random.index(steps.len() + 1);
            steps.truncate(kept);
            if let Some(Step::Bytes(last) | Step::Speech(last)) = steps.last_mut()
                && env.random.chance(500)
            {
                last.truncate(env.random.index(last.len() + 1));
            }
            steps.push(end);
            has_ended = true;
        }
        Some(end) => broken_at = Some((env.random.below(says + 1), end)),
        None => {}
    }
    let echoes = env.random.chance(600);
    let (id, heard) = (asked.id, 0);
    let mut switch = Switch { id, nonce, says, heard, echoes, broken_at, has_ended };
    steps.extend(switch.end());
    http.switch = Some(switch);
    steps
}

/// What a server says without being spoken to, in pieces.
fn own_speech(nonce: u64, http: &Http, env: &mut Env) -> Vec<Step> {
    let length = env.random.magnitude(env.plan.body_bytes / 2);
    let piece = 1 + env.random.magnitude(length).max(length / 8);
    let mut steps = Vec::new();
    let mut at = 0;
    while at < length {
        let count = piece.min(length - at);
        if env.random.chance(300) {
            steps.push(Step::Wait(env.random.magnitude(300_000)));
        }
        if http.tls.is_some() && env.random.chance(env.plan.rekey_pm) {
            steps.push(Step::Keys);
        }
        steps.push(Step::Speech(body_bytes(nonce, at, count as usize)));
        at += count;
    }
    steps
}

impl Switch {
    /// The client has said something in the protocol: what the server does then.
    pub(crate) fn hear(&mut self, bytes: &[u8], env: &mut Env) -> Vec<Step> {
        let Self { id, heard, says, .. } = *self;
        let is_said = body_bytes(speech(id), heard, bytes.len()) == bytes;
        if !env.ledger.is_poisonable(id) && (!is_said || heard + bytes.len() as u64 > says) {
            env.ledger.break_law_unless_crossed(format!(
                "in its protocol, request {id} says something else from byte {heard} on"
            ));
        }
        self.heard += bytes.len() as u64;
        let mut steps = Vec::new();
        if self.has_ended || bytes.is_empty() {
            return steps;
        }
        if self.echoes {
            if env.random.chance(200) {
                steps.push(Step::Wait(env.random.magnitude(100_000)));
            }
            steps.push(Step::Speech(bytes.to_vec()));
        }
        steps.extend(self.end());
        steps
    }

    /// How it ends, if that is due.
    fn end(&mut self) -> Option<Step> {
        if self.has_ended {
            return None;
        }
        let is_broken = self.broken_at.take_if(|(at, _)| *at <= self.heard);
        let end = match is_broken {
            Some((_, step)) => step,
            None if self.heard >= self.says => Step::Fin,
            None => return None,
        };
        self.has_ended = true;
        Some(end)
    }
}
