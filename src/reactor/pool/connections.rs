//! Floor 2. The half of the pool that is about connections: the fetches that dial for one, and those
//! that are idle.
//!
//! In goes "this dials", "this is idle", "this has closed"; out come the idle connection that a
//! route's request may take, and the fetches that may take one in place of their own dial.

use std::sync::Arc;

use super::{Pool, RoomKey};
use crate::kit::arena::{Arena, Key};
use crate::kit::list::{Linked, Links};
use crate::origin::Route;
use crate::reactor::connection::ConnectionKey;
use crate::reactor::fetch::{Fetch, FetchKey};

/// Marks the list of its origin's idle connections.
pub(super) struct IdleHere;
/// Marks the list of all idle connections.
pub(super) struct IdleAnywhere;

pub(crate) type IdleKey = Key<Idle>;

/// Stands in for a connection in the lists of idle ones. Made when it is first idle, it lives
/// as long as the connection.
pub(crate) struct Idle {
    pub(super) connection: ConnectionKey,
    route: Arc<Route>,
    pub(super) room: RoomKey,
    pub(super) is_listed: bool,
    here: Links<Self>,
    anywhere: Links<Self>,
}

/// Fetches that resolve or dial.
impl Pool {
    pub(crate) fn begin_dialling(
        &mut self,
        fetches: &mut Arena<Fetch>,
        room: RoomKey,
        fetch: FetchKey,
    ) {
        if let Some(room) = self.rooms.get_mut(room) {
            room.dialling.push_back(fetches, fetch);
        }
    }

    pub(crate) fn end_dialling(
        &mut self,
        fetches: &mut Arena<Fetch>,
        room: RoomKey,
        fetch: FetchKey,
    ) {
        if let Some(room) = self.rooms.get_mut(room) {
            room.dialling.remove(fetches, fetch);
        }
    }

    /// The sockets of this origin that opened, or will, for nobody.
    pub(crate) fn orphans(&mut self, room: RoomKey) -> Option<&mut Vec<ConnectionKey>> {
        Some(&mut self.rooms.get_mut(room)?.orphans)
    }

    /// The fetch that has dialled longest for this origin.
    pub(crate) fn longest_dialling(&self, room: RoomKey) -> Option<FetchKey> {
        self.rooms.get(room)?.dialling.first()
    }

    /// The one that began to dial next after `fetch`, which must dial for the same origin.
    pub(crate) fn dialling_after(
        &self,
        fetches: &mut Arena<Fetch>,
        room: RoomKey,
        fetch: FetchKey,
    ) -> Option<FetchKey> {
        self.rooms.get(room)?.dialling.after(fetches, fetch)
    }
}

/// Idle connections.
impl Pool {
    /// Puts a connection among the idle ones, as the one used last. `entry` is its own from
    /// before. Gives its entry and its origin's room; `None` where it cannot be kept.
    pub(crate) fn check_in(
        &mut self,
        entry: Option<IdleKey>,
        connection: ConnectionKey,
        route: &Arc<Route>,
    ) -> Option<(IdleKey, RoomKey)> {
        let key = match entry {
            Some(key) => key,
            None => {
                let entry = Idle {
                    connection,
                    route: Arc::clone(route),
                    room: self.room(&route.origin)?,
                    is_listed: false,
                    here: Links::default(),
                    anywhere: Links::default(),
                };
                self.idle.insert(entry).ok()?
            }
        };
        let mut room_key = self.idle.get(key)?.room;
        if !self.rooms.contains(room_key) {
            // It went while nothing of the origin was known to it; it comes again.
            room_key = self.room(&route.origin)?;
        }
        let entry = self.idle.get_mut(key)?;
        entry.room = room_key;
        entry.is_listed = true;
        self.rooms.get_mut(room_key)?.idle.push_back(&mut self.idle, key);
        self.idle_by_age.push_back(&mut self.idle, key);
        Some((key, room_key))
    }

    /// Takes the idle connection of this route that was used last.
    pub(crate) fn check_out(&mut self, room: RoomKey, route: &Arc<Route>) -> Option<ConnectionKey> {
        let list = &self.rooms.get(room)?.idle;
        // One step in nearly every case: routes that differ share an origin rarely.
        let mut candidate = list.last();
        while let Some(key) = candidate {
            let entry = self.idle.get(key)?;
            if entry.route.shares_with(route) {
                let connection = entry.connection;
                self.unlist(key);
                return Some(connection);
            }
            candidate = list.before(&mut self.idle, key);
        }
        None
    }

    pub(crate) fn has_idle(&self, room: RoomKey) -> bool {
        self.rooms.get(room).is_some_and(|room| !room.idle.is_empty())
    }

    /// The idle connection that was used longest ago.
    pub(crate) fn oldest_idle(&self) -> Option<ConnectionKey> {
        Some(self.idle.get(self.idle_by_age.first()?)?.connection)
    }

    pub(crate) fn idle_connections(&self) -> usize {
        self.idle_by_age.len()
    }

    /// A connection has closed.
    pub(crate) fn forget(&mut self, key: IdleKey) {
        if let Some(room) = self.unlist(key) {
            self.vacate(room);
        }
        self.idle.remove(key);
    }

    fn unlist(&mut self, key: IdleKey) -> Option<RoomKey> {
        let entry = self.idle.get_mut(key)?;
        if !std::mem::replace(&mut entry.is_listed, false) {
            return None;
        }
        let room = entry.room;
        self.idle_by_age.remove(&mut self.idle, key);
        self.rooms.get_mut(room)?.idle.remove(&mut self.idle, key);
        Some(room)
    }
}

impl Linked<IdleHere> for Idle {
    fn links(&mut self) -> &mut Links<Self> {
        &mut self.here
    }
}

impl Linked<IdleAnywhere> for Idle {
    fn links(&mut self) -> &mut Links<Self> {
        &mut self.anywhere
    }
}
