//! Floor 2, where debug assertions are on, and nowhere else. The pool's own books.
//!
//! In goes the pool between two steps; out come sums to be held against what the fetches say of
//! themselves, or a panic that names the law.

use super::super::audit::Tally;
use super::{IdleKey, Owner, Pool, RoomKey, Turn};
use crate::kit::arena::Arena;
use crate::kit::list::List;
use crate::origin::Route;
use crate::reactor::connection::ConnectionKey;
use crate::reactor::fetch::{Fetch, Stage};

/// What the rooms say is in them.
#[derive(Default)]
pub(in crate::reactor) struct Books {
    pub(in crate::reactor) waiting: Tally,
    pub(in crate::reactor) dialling: Tally,
    pub(in crate::reactor) slots: Tally,
}

impl Pool {
    pub(in crate::reactor) fn audit(&mut self, fetches: &mut Arena<Fetch>, is_due: bool) -> Books {
        let mut books = Books::default();
        let (mut busy, mut in_ring, mut parked) = (0, 0, 0);
        for (key, room) in self.rooms.iter() {
            let own = match &room.owner {
                Owner::Origin(origin) => self.by_origin.get(origin),
                Owner::Proxy(proxy) => {
                    let is_idle = room.waiting.is_empty() && room.active == 0;
                    assert!(is_idle, "caps and turns are the origins'");
                    self.by_proxy.get(proxy)
                }
            };
            assert!(own == Some(&key), "a room is its owner's");
            let waiting = walk(&room.waiting, fetches, |it| {
                it.room == key && matches!(it.stage, Stage::Waiting)
            });
            let dialling = walk(&room.dialling, fetches, |it| {
                let dials = matches!(it.stage, Stage::Resolving(..) | Stage::Dialling(_));
                dials && it.home == key && self.is_home(key, &it.request.parts.route)
            });
            books.waiting.add(key, waiting);
            books.dialling.add(key, dialling);
            books.slots.add(key, room.active);
            let is_busy = room.active > 0 || (waiting > 0 && !room.is_paced());
            busy += usize::from(is_busy);
            assert!(
                is_busy || waiting > 0 || dialling > 0 || room.kept > 0,
                "a room has something in it"
            );
            let is_fair = self.per_origin.is_none_or(|most| room.active <= most);
            assert!(is_fair, "an origin has more in flight than may be");
            in_ring += usize::from(room.turn == Turn::Next);
            parked += usize::from(room.turn == Turn::Parked);
            assert!(waiting == 0 || room.turn != Turn::None, "where something waits is in line");
        }
        let owners = self.by_origin.len() + self.by_proxy.len();
        assert_eq!(owners, self.rooms.len(), "each owner has one room");
        assert_eq!(
            (self.ring.len(), self.parked.len()),
            (in_ring, parked),
            "a room is once in line"
        );
        let slots: usize = self.rooms.iter().map(|(_, room)| room.active).sum();
        let waiting: usize = self.rooms.iter().map(|(_, room)| room.waiting.len()).sum();
        let counted = (self.in_flight, self.waiting, self.busy_rooms);
        assert_eq!((slots, waiting, busy), counted, "what is counted is there");
        if let Some(paces) = &self.paces {
            let has_slot = |it: &Fetch| {
                matches!(it.stage, Stage::Resolving(..) | Stage::Dialling(_) | Stage::Running(..))
            };
            paces.audit(&self.rooms, is_due, |key| fetches.get(key).is_some_and(has_slot));
        }
        self.audit_idle();
        books
    }

    fn audit_idle(&mut self) {
        let (mut by_age, mut next) = (0, self.idle_by_age.first());
        while let Some(key) = next {
            by_age += 1;
            assert!(by_age <= self.idle.len(), "a list has an end");
            assert!(self.idle.get(key).is_some_and(|entry| entry.is_listed), "what is idle is so");
            next = self.idle_by_age.after(&mut self.idle, key);
        }
        let (mut by_room, mut kept) = (0, Tally::default());
        for (room_key, room) in self.rooms.iter() {
            kept.add(room_key, room.kept);
            let mut next = room.idle.first();
            while let Some(key) = next {
                by_room += 1;
                assert!(by_room <= self.idle.len(), "a list has an end");
                let is_here =
                    self.idle.get(key).is_some_and(|it| it.is_listed && it.room == room_key);
                assert!(is_here, "what is idle is in its home's list");
                next = room.idle.after(&mut self.idle, key);
            }
        }
        let mut entries = Tally::default();
        for (_, entry) in self.idle.iter() {
            assert!(self.is_home(entry.room, &entry.route), "what is kept is its home's");
            entries.add(entry.room, 1);
        }
        assert_eq!(kept, entries, "what is kept is counted");
        let (listed, _) = self.idle_entries();
        assert_eq!((by_age, by_room), (listed, listed), "what is idle is once in each list");
        assert_eq!(self.idle_by_age.len(), listed, "what is idle is counted");
    }

    fn is_home(&self, room: RoomKey, route: &Route) -> bool {
        let home = match route.forwarder() {
            None => self.by_origin.get(&route.origin),
            Some(proxy) => self.by_proxy.get(proxy),
        };
        home == Some(&room)
    }

    /// Connections that are idle, and those that are or were.
    pub(in crate::reactor) fn idle_entries(&self) -> (usize, usize) {
        let listed = self.idle.iter().filter(|(_, entry)| entry.is_listed).count();
        (listed, self.idle.len())
    }

    /// Whether the entry says that its connection is idle; none where it is not of that one.
    pub(in crate::reactor) fn is_listed(&self, key: IdleKey, of: ConnectionKey) -> Option<bool> {
        let entry = self.idle.get(key).filter(|entry| entry.connection == of)?;
        Some(entry.is_listed)
    }
}

/// Counts a list of fetches, each of which must be of its room and in such a stage.
fn walk(
    list: &List<Fetch, super::Queued>,
    fetches: &mut Arena<Fetch>,
    is_right: impl Fn(&Fetch) -> bool,
) -> usize {
    let (mut count, mut next) = (0, list.first());
    while let Some(key) = next {
        count += 1;
        assert!(count <= fetches.len(), "a list has an end");
        let is_here = fetches.get(key).is_some_and(&is_right);
        assert!(is_here, "who is in a list is where it says");
        next = list.after(fetches, key);
    }
    assert_eq!(count, list.len(), "a list knows its length");
    count
}
