//! What the origins ask for, and what may come to them: no more than the rate has given since the
//! beginning, and nothing that begins in a pause. Who watches knows what failures were before a refusal.

use std::collections::BTreeMap;
use std::error::Error as _;

use whippet::{Error, Kind, Pace, Phase};

use super::random::Random;

pub(crate) struct Paces {
    rules: Pace,
    began: u64,
    /// Requests that have begun, by origin.
    begun: BTreeMap<usize, u64>,
    pauses: BTreeMap<usize, Pause>,
}

/// An origin has asked to be left alone, and was heard.
struct Pause {
    until: u64,
    /// Requests that may come all the same: their attempts had begun.
    on_the_way: usize,
}

impl Paces {
    pub(crate) fn new(rules: &Pace, began: u64) -> Self {
        let (begun, pauses) = (BTreeMap::new(), BTreeMap::new());
        Self { rules: rules.clone(), began, begun, pauses }
    }

    /// A request begins; the law that it breaks.
    pub(crate) fn request_begins(&mut self, origin: usize, now: u64) -> Option<String> {
        if let Some(law) = self.request_comes(origin, now) {
            return Some(law);
        }
        let pause = self.pauses.get_mut(&origin).filter(|pause| now < pause.until)?;
        match pause.on_the_way.checked_sub(1) {
            Some(left) => pause.on_the_way = left,
            None => return Some("a request begins at an origin that asked for none".to_owned()),
        }
        None
    }

    /// A request has come, which may have begun long ago: only the rate is known to hold.
    pub(crate) fn request_comes(&mut self, origin: usize, now: u64) -> Option<String> {
        let burst = self.burst();
        let begun = self.begun.entry(origin).or_default();
        *begun += 1;
        if let Some(rate) = self.rules.rate {
            let interval = rate.interval().as_micros() as u64;
            let saved_up = (interval * u64::from(burst - 1)).max(10_000);
            let most = 1 + (now - self.began + saved_up) / interval;
            if *begun > most {
                return Some(format!(
                    "{begun} requests begun at one origin, of {most} by its rate"
                ));
            }
        }
        None
    }

    fn burst(&self) -> u32 {
        self.rules.rate.map_or(1, |rate| {
            // The rate with a burst of its own is the same as one with that burst again.
            (1..8).find(|burst| rate.burst(*burst) == rate).unwrap_or(1)
        })
    }

    /// The reactor has heard a head which asks for a pause of so many seconds, while the requests
    /// of so many attempts at its origin were not sent yet.
    pub(crate) fn heard(&mut self, origin: usize, seconds: u64, now: u64, on_the_way: usize) {
        if self.rules.heeds_limits {
            let most = self.rules.pause_max.as_micros() as u64;
            let until = now + (seconds * 1_000_000).min(most);
            let pause = Pause { until, on_the_way };
            let longer = self.pauses.get(&origin).is_none_or(|known| known.until < until);
            if longer {
                self.pauses.insert(origin, pause);
            }
        }
    }

    /// Whether a fetch ended because its origin is left alone, and says so as it should.
    pub(crate) fn is_refusal(&self, error: &Error) -> bool {
        (error.kind(), error.phase()) == (Kind::Connect, Phase::Queue)
            && self.rules.circuit.is_some()
            && error.is_transient()
            && error.source().is_some_and(|source| source.is::<Error>())
    }
}

/// Fields that say when to come back and how much may be asked for, perhaps, and, for the
/// simulation itself, the pause that they ask for.
pub(crate) fn fields(status: u16, quota_pm: u32, random: &mut Random) -> String {
    let (mut fields, mut pause) = (String::new(), None);
    if status == 503 && random.chance(500) {
        let seconds = random.below(3);
        fields.push_str(&format!("Retry-After: {seconds}\r\n"));
        pause = Some(seconds);
    }
    if random.chance(quota_pm) {
        let (quota, asked) = quota(random);
        fields.push_str(&quota);
        pause = pause.max(asked);
    }
    if let Some(seconds) = pause {
        fields.push_str(&format!("X-Pause: {seconds}\r\n"));
    }
    fields
}

/// What is left of a quota, and the pause that this asks for.
fn quota(random: &mut Random) -> (String, Option<u64>) {
    let (seconds, left) = (random.magnitude(9), random.below(2));
    let fields = match random.below(3) {
        0 => format!("RateLimit: \"sim\";r={left};t={seconds}\r\n"),
        1 => format!("RateLimit: limit=5, remaining={left}, reset={seconds}\r\n"),
        _ => format!("X-RateLimit-Remaining: {left}\r\nX-RateLimit-Reset: {seconds}\r\n"),
    };
    (fields, (left == 0).then_some(seconds))
}
