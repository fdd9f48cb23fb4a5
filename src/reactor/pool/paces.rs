//! Floor 2. The origins whose pace is kept: one entry each, for as long as it has something to say.
//!
//! In go an origin's next fetch, and what became of attempts; out come verdicts, and origins that
//! wait for the wheel. There is nothing of this where nothing was asked for.

use std::collections::HashMap;

use super::RoomKey;
#[cfg(debug_assertions)]
use super::{Owner, Room};
use crate::error::Error;
use crate::kit::arena::{Arena, Key};
use crate::kit::moment::Moment;
use crate::kit::wheel::TimerId;
use crate::origin::{Origin, Prehashed};
use crate::pace::Pace;
use crate::policy::pace::{Pacer, Verdict};
use crate::reactor::fetch::FetchKey;

pub(crate) type PaceKey = Key<Paced>;

/// What belongs to one origin whose pace is kept. It outlives the origin's room.
pub(crate) struct Paced {
    #[cfg(debug_assertions)]
    origin: Origin,
    pacer: Pacer<Error>,
    /// The fetch whose attempt tries the origin again.
    probe: Option<FetchKey>,
    /// The room that waits for the timer.
    room: Option<RoomKey>,
    /// The wheel's entry, until it has fired.
    pub(in crate::reactor) timer: Option<TimerId>,
}

pub(crate) struct Paces {
    pub(in crate::reactor) rules: Pace,
    entries: Arena<Paced>,
    by_origin: HashMap<Origin, PaceKey, Prehashed>,
    /// Origins that must wait, and until when: the wheel does not know it yet.
    unarmed: Vec<(PaceKey, Moment)>,
    /// Whom an open circuit lets through only to fail.
    refused: Option<FetchKey>,
    /// How many entries there may be before those are looked for that can go.
    swept_at: usize,
}

impl Paces {
    pub(crate) fn new(rules: Pace) -> Self {
        Self {
            rules,
            entries: Arena::with_capacity(0),
            by_origin: HashMap::with_hasher(Prehashed::default()),
            unarmed: Vec::new(),
            refused: None,
            swept_at: ENTRIES_SWEPT_MIN,
        }
    }

    /// Whether a room's next fetch may go now, be it to fail; if not, the wheel will say when.
    pub(super) fn lets_go(
        &mut self,
        origin: &Origin,
        room: RoomKey,
        fetch: Option<FetchKey>,
        now: Moment,
    ) -> bool {
        let Some(key) = self.entry(origin, now) else { return true };
        let Some(paced) = self.entries.get_mut(key) else { return true };
        match paced.pacer.judge(&self.rules, now) {
            Verdict::Go => {}
            Verdict::Probe => paced.probe = fetch,
            Verdict::Refuse => self.refused = fetch,
            Verdict::Wait(until) => {
                paced.room = Some(room);
                self.unarmed.push((key, until));
                return false;
            }
        }
        true
    }

    /// Whether the origin may be asked for something that can be done without.
    pub(super) fn spares_one(&mut self, origin: &Origin, now: Moment) -> bool {
        let Some(key) = self.entry(origin, now) else { return false };
        self.entries.get_mut(key).is_some_and(|paced| {
            paced.pacer.refusal().is_none() && paced.pacer.judge(&self.rules, now) == Verdict::Go
        })
    }

    /// The entry of an origin, made where there is none. `None` where keys have run out.
    fn entry(&mut self, origin: &Origin, now: Moment) -> Option<PaceKey> {
        if let Some(key) = self.by_origin.get(origin) {
            return Some(*key);
        }
        if self.entries.len() >= self.swept_at {
            self.sweep(now);
        }
        let pacer = Pacer::new();
        let paced = Paced {
            #[cfg(debug_assertions)]
            origin: origin.clone(),
            pacer,
            probe: None,
            room: None,
            timer: None,
        };
        let key = self.entries.insert(paced).ok()?;
        self.by_origin.insert(origin.clone(), key);
        Some(key)
    }

    /// Forgets origins of which nothing is known that matters any more. O(entries), each time that
    /// they have doubled.
    fn sweep(&mut self, now: Moment) {
        let Self { entries, by_origin, .. } = self;
        by_origin.retain(|_, key| {
            let goes = entries
                .get(*key)
                .is_none_or(|paced| paced.timer.is_none() && paced.pacer.is_forgotten(now));
            if goes {
                entries.remove(*key);
            }
            !goes
        });
        self.swept_at = ENTRIES_SWEPT_MIN.max(2 * self.entries.len());
    }

    pub(in crate::reactor) fn next_unarmed(&mut self) -> Option<(PaceKey, Moment)> {
        self.unarmed.pop()
    }

    pub(in crate::reactor) fn get_mut(&mut self, key: PaceKey) -> Option<&mut Paced> {
        self.entries.get_mut(key)
    }

    /// Whether this fetch was let through only to fail, which is told once.
    pub(in crate::reactor) fn take_refused(&mut self, fetch: FetchKey) -> bool {
        self.refused.take_if(|refused| *refused == fetch).is_some()
    }

    /// The circuit's word to those that it lets not through.
    pub(in crate::reactor) fn refusal(
        &self,
        origin: &Origin,
    ) -> Option<(u32, &Error, Option<Moment>)> {
        self.entries.get(*self.by_origin.get(origin)?)?.pacer.refusal()
    }

    /// The origin asks to be left alone.
    pub(in crate::reactor) fn pause(&mut self, origin: &Origin, until: Moment, now: Moment) {
        let Some(key) = self.entry(origin, now) else { return };
        if let Some(paced) = self.entries.get_mut(key) {
            paced.pacer.pause(until);
        }
    }

    /// A head that is no failure has come.
    pub(in crate::reactor) fn succeeded(&mut self, origin: &Origin) {
        let Some(key) = self.by_origin.get(origin) else { return };
        if let Some(paced) = self.entries.get_mut(*key) {
            paced.probe = None;
            paced.pacer.succeeded();
        }
    }

    /// An attempt has failed. The room whose fetches need not wait for the wheel any more, now
    /// that they fail.
    pub(in crate::reactor) fn failed(
        &mut self,
        origin: &Origin,
        fetch: FetchKey,
        now: Moment,
        cause: impl FnOnce() -> Error,
    ) -> Option<RoomKey> {
        let key = self.entry(origin, now)?;
        let paced = self.entries.get_mut(key)?;
        let is_probe = paced.probe.take_if(|probe| *probe == fetch).is_some();
        let opens = paced.pacer.failed(&self.rules, now, is_probe, cause);
        if opens { paced.room.take() } else { None }
    }

    /// A fetch gives its slot back, if it has one, whatever became of it.
    pub(in crate::reactor) fn attempt_over(
        &mut self,
        origin: &Origin,
        fetch: FetchKey,
        now: Moment,
    ) {
        let Some(key) = self.by_origin.get(origin) else { return };
        if let Some(paced) = self.entries.get_mut(*key)
            && paced.probe.take_if(|probe| *probe == fetch).is_some()
        {
            paced.pacer.probe_lost(now);
        }
    }
}

impl Paced {
    /// Its timer has fired: the room that waited for it.
    pub(in crate::reactor) fn fired(&mut self) -> Option<RoomKey> {
        self.timer = None;
        self.room.take()
    }
}

#[cfg(debug_assertions)]
impl Paces {
    /// Each entry is its origin's, who waits has a timer, and who tries again holds a slot.
    pub(super) fn audit(
        &self,
        rooms: &Arena<Room>,
        is_due: bool,
        holds_slot: impl Fn(FetchKey) -> bool,
    ) {
        assert_eq!(self.by_origin.len(), self.entries.len(), "each origin has one pace");
        assert!(self.unarmed.is_empty(), "the wheel knows who waits");
        for (key, paced) in self.entries.iter() {
            assert!(self.by_origin.get(&paced.origin) == Some(&key), "a pace is its origin's");
            assert_eq!(paced.pacer.is_probing(), paced.probe.is_some(), "a probe is somebody's");
            assert!(paced.probe.is_none_or(&holds_slot), "a probe is under way");
        }
        for (key, room) in rooms.iter().filter(|(_, room)| room.is_paced()) {
            let Owner::Origin(origin) = &room.owner else { unreachable!("a proxy is not paced") };
            let paced = self.by_origin.get(origin).and_then(|key| self.entries.get(*key));
            let has_timer = paced.is_some_and(|it| it.room == Some(key) && it.timer.is_some());
            assert!(has_timer || is_due, "an origin that waits has a timer");
        }
    }
}

/// Below this, nothing is swept.
const ENTRIES_SWEPT_MIN: usize = 1_024;
