//! Floor 2. Who may go next, and over which connection.
//!
//! Origins hold the fetches that wait for their turn, those that are being dialled for, and the
//! idle connections; but where requests are handed to a proxy, the proxy holds the last two. In
//! goes "this waits", "this ended", "this is idle"; out comes the next fetch that the caps allow:
//! round-robin over origins, first in first out inside one.

#[cfg(debug_assertions)]
mod audit;
mod connections;
mod paces;

use std::collections::HashMap;

pub(crate) use self::connections::IdleKey;
use self::connections::{Idle, IdleAnywhere, IdleHere};
pub(crate) use self::paces::{PaceKey, Paces};
use super::connection::ConnectionKey;
use super::fetch::{Fetch, FetchKey};
use crate::kit::arena::{Arena, Key};
use crate::kit::list::{Linked, Links, List};
use crate::kit::moment::Moment;
use crate::origin::{Origin, Prehashed};
use crate::pace::Pace;
use crate::proxy::Proxy;

pub(crate) type RoomKey = Key<Room>;

/// Marks the list that a fetch is in.
pub(crate) struct Queued;
/// Marks the lists of rooms: the ring, and those parked.
struct InTurn;

/// What belongs to one origin, or to one proxy. It lives while anything does.
pub(crate) struct Room {
    owner: Owner,
    /// None in a proxy's room, which holds no slots either.
    waiting: List<Fetch, Queued>,
    /// Fetches that resolve or dial: an idle connection that appears first is theirs.
    dialling: List<Fetch, Queued>,
    /// The one used last is at the end, and taken first.
    idle: List<Idle, IdleHere>,
    /// Sockets begun for fetches that then took an idle connection, the oldest first. Some are
    /// open or closed by now.
    orphans: Vec<ConnectionKey>,
    /// Connections that are or were idle here, and are open.
    kept: usize,
    /// Slots held.
    active: usize,
    turn: Turn,
    links: Links<Self>,
}

/// Whose room it is.
enum Owner {
    Origin(Origin),
    /// One that requests are handed to, whatever origin they are for.
    Proxy(Proxy),
}

/// Where a room stands for its next turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing waits in it.
    None,
    /// In the ring.
    Next,
    /// It holds its share of slots.
    Parked,
    /// It may not be asked before a timer has fired.
    Paced,
}

/// The origins, their queues, and the idle connections.
pub(crate) struct Pool {
    rooms: Arena<Room>,
    by_origin: HashMap<Origin, RoomKey, Prehashed>,
    by_proxy: HashMap<Proxy, RoomKey, Prehashed>,
    /// Rooms where something waits, in the order of their turns.
    ring: List<Room, InTurn>,
    /// Rooms where something waits that hold their share of slots.
    parked: List<Room, InTurn>,
    /// The smallest share that one of the parked was measured by.
    parked_at_share: usize,
    idle: Arena<Idle>,
    /// The one idle longest is first.
    idle_by_age: List<Idle, IdleAnywhere>,
    /// Rooms where a slot is held, or something waits that may be asked for.
    busy_rooms: usize,
    in_flight: usize,
    waiting: usize,
    /// Most fetches in flight: the settings' number, or less while descriptors are short.
    cap: usize,
    per_origin: Option<usize>,
    /// None where no pace was asked for.
    pub(super) paces: Option<Box<Paces>>,
}

/// Waiting and admission.
impl Pool {
    pub(crate) fn new(cap: usize, per_origin: Option<usize>, pace: &Pace) -> Self {
        Self {
            rooms: Arena::with_capacity(0),
            by_origin: HashMap::with_hasher(Prehashed::default()),
            by_proxy: HashMap::with_hasher(Prehashed::default()),
            ring: List::default(),
            parked: List::default(),
            parked_at_share: 0,
            idle: Arena::with_capacity(0),
            idle_by_age: List::default(),
            busy_rooms: 0,
            in_flight: 0,
            waiting: 0,
            cap: cap.max(1),
            per_origin: per_origin.map(|most| most.max(1)),
            paces: (!pace.is_off()).then(|| Box::new(Paces::new(pace.clone()))),
        }
    }

    /// The room of an origin, made where there is none. `None` where keys have run out.
    pub(crate) fn room(&mut self, origin: &Origin) -> Option<RoomKey> {
        if let Some(key) = self.by_origin.get(origin) {
            return Some(*key);
        }
        let key = self.rooms.insert(Room::of(Owner::Origin(origin.clone()))).ok()?;
        self.by_origin.insert(origin.clone(), key);
        Some(key)
    }

    /// Puts a fetch in its origin's list: at the end, or in front where it was in flight before.
    pub(crate) fn wait(
        &mut self,
        fetches: &mut Arena<Fetch>,
        room_key: RoomKey,
        fetch: FetchKey,
        in_front: bool,
    ) {
        let Some(room) = self.rooms.get_mut(room_key) else { return };
        if room.active == 0 && room.waiting.is_empty() {
            self.busy_rooms += 1;
        }
        if in_front {
            room.waiting.push_front(fetches, fetch);
        } else {
            room.waiting.push_back(fetches, fetch);
        }
        self.waiting += 1;
        if room.turn == Turn::None {
            room.turn = Turn::Next;
            self.ring.push_back(&mut self.rooms, room_key);
        }
    }

    /// Takes a fetch out of its origin's list, in which it must be.
    pub(crate) fn stop_waiting(
        &mut self,
        fetches: &mut Arena<Fetch>,
        room_key: RoomKey,
        fetch: FetchKey,
    ) {
        let Some(room) = self.rooms.get_mut(room_key) else { return };
        room.waiting.remove(fetches, fetch);
        self.waiting -= 1;
        if room.turn == Turn::Paced && room.waiting.is_empty() {
            // Nothing is left to be asked for.
            room.turn = Turn::None;
            self.busy_rooms += usize::from(room.active == 0);
        }
        self.settle(room_key);
    }

    /// The next fetch that the caps allow; it holds a slot from now on.
    pub(crate) fn next_admission(
        &mut self,
        fetches: &mut Arena<Fetch>,
        now: Moment,
    ) -> Option<FetchKey> {
        if self.in_flight >= self.cap {
            return None;
        }
        loop {
            let share = self.share();
            let Some(room_key) = self.ring.pop_front(&mut self.rooms) else {
                if self.parked.is_empty() || share <= self.parked_at_share {
                    return None;
                }
                self.unpark_all();
                continue;
            };
            let room = self.rooms.get_mut(room_key)?;
            room.turn = Turn::None;
            if room.waiting.is_empty() {
                continue;
            }
            if room.active >= share {
                room.turn = Turn::Parked;
                let is_first = self.parked.is_empty();
                let smallest = if is_first { share } else { share.min(self.parked_at_share) };
                self.parked_at_share = smallest;
                self.parked.push_back(&mut self.rooms, room_key);
                continue;
            }
            if let Some(paces) = &mut self.paces
                && let Owner::Origin(origin) = &room.owner
                && !paces.lets_go(origin, room_key, room.waiting.first(), now)
            {
                room.turn = Turn::Paced;
                self.busy_rooms -= usize::from(room.active == 0);
                continue;
            }
            let fetch = room.waiting.pop_front(fetches)?;
            room.active += 1;
            if !room.waiting.is_empty() {
                room.turn = Turn::Next;
                self.ring.push_back(&mut self.rooms, room_key);
            }
            self.in_flight += 1;
            self.waiting -= 1;
            return Some(fetch);
        }
    }

    /// One more slot for an origin that holds one, where nobody waits for it: `true`, it is held.
    pub(crate) fn admit_beside(&mut self, room_key: RoomKey, now: Moment) -> bool {
        if self.in_flight >= self.cap || self.has_turns() {
            return false;
        }
        let share = self.share();
        let Some(room) = self.rooms.get_mut(room_key) else { return false };
        if room.active >= share {
            return false;
        }
        if let Some(paces) = &mut self.paces
            && let Owner::Origin(origin) = &room.owner
            && !paces.spares_one(origin, now)
        {
            return false;
        }
        room.active += 1;
        self.in_flight += 1;
        true
    }

    /// Gives a slot back.
    pub(crate) fn release(&mut self, room_key: RoomKey) {
        let Some(room) = self.rooms.get_mut(room_key) else { return };
        room.active -= 1;
        self.in_flight -= 1;
        if room.turn == Turn::Parked {
            room.turn = Turn::Next;
            self.parked.remove(&mut self.rooms, room_key);
            self.ring.push_back(&mut self.rooms, room_key);
        } else if room.turn == Turn::Paced {
            self.busy_rooms -= usize::from(room.active == 0);
        }
        self.settle(room_key);
    }

    /// An origin may be asked again, if it still waits for that.
    pub(crate) fn unpace(&mut self, room_key: RoomKey) {
        let Some(room) = self.rooms.get_mut(room_key).filter(|room| room.is_paced()) else {
            return;
        };
        room.turn = Turn::Next;
        self.busy_rooms += usize::from(room.active == 0);
        self.ring.push_back(&mut self.rooms, room_key);
    }

    /// Whether [`Self::next_admission`] has something to look at.
    pub(crate) fn has_turns(&self) -> bool {
        self.in_flight < self.cap
            && (!self.ring.is_empty()
                || (!self.parked.is_empty() && self.share() > self.parked_at_share))
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn cap(&self) -> usize {
        self.cap
    }

    /// Lowers the cap to what is in flight, 0 included, or raises it again.
    pub(crate) fn set_cap(&mut self, cap: usize) {
        self.cap = cap;
    }

    /// Slots that one origin may hold. Rounded up: with 33 origins and 64 slots, 31 of these
    /// would stay empty otherwise.
    fn share(&self) -> usize {
        let fair = || self.cap.div_ceil(self.busy_rooms.max(1)).max(1);
        self.per_origin.unwrap_or_else(fair)
    }

    /// O(parked rooms), each of which holds a slot; only when the share has grown.
    fn unpark_all(&mut self) {
        while let Some(key) = self.parked.pop_front(&mut self.rooms) {
            if let Some(room) = self.rooms.get_mut(key) {
                room.turn = Turn::Next;
            }
            self.ring.push_back(&mut self.rooms, key);
        }
    }

    /// After something left a room: it may have no work, or be needed no longer.
    fn settle(&mut self, key: RoomKey) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        if room.active > 0 || !room.waiting.is_empty() {
            return;
        }
        self.busy_rooms -= 1;
        match std::mem::replace(&mut room.turn, Turn::None) {
            Turn::None | Turn::Paced => {}
            Turn::Next => self.ring.remove(&mut self.rooms, key),
            Turn::Parked => self.parked.remove(&mut self.rooms, key),
        }
        self.vacate(key);
    }

    /// Drops a room that nothing is in.
    fn vacate(&mut self, key: RoomKey) {
        let Some(room) = self.rooms.get(key) else { return };
        if room.active == 0
            && room.waiting.is_empty()
            && room.dialling.is_empty()
            && room.kept == 0
            && let Some(room) = self.rooms.remove(key)
        {
            match room.owner {
                Owner::Origin(origin) => self.by_origin.remove(&origin),
                Owner::Proxy(proxy) => self.by_proxy.remove(&proxy),
            };
        }
    }
}

impl Room {
    fn of(owner: Owner) -> Self {
        Self {
            owner,
            waiting: List::default(),
            dialling: List::default(),
            idle: List::default(),
            orphans: Vec::new(),
            kept: 0,
            active: 0,
            turn: Turn::None,
            links: Links::default(),
        }
    }

    fn is_paced(&self) -> bool {
        self.turn == Turn::Paced
    }
}

impl Linked<InTurn> for Room {
    fn links(&mut self) -> &mut Links<Self> {
        &mut self.links
    }
}
