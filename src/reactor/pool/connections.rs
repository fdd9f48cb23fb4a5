//! Floor 2. The half of the pool that is about connections: the fetches that dial for one, and
//! those that are idle.
//!
//! Both are in the *home* of their route: the room of its origin or, where requests are handed to a
//! proxy, a room of the proxy's, so that one connection carries requests for any origin. Caps and
//! turns know nothing of that. In goes "this dials", "this is idle", "this has closed"; out come
//! the idle connection that a route's request may take, and the fetches that may take one in place
//! of their own dial.

use std::sync::Arc;

use super::{Owner, Pool, Room, RoomKey};
use crate::kit::arena::{Arena, Key};
use crate::kit::list::{Linked, Links};
use crate::origin::Route;
use crate::proxy::Proxy;
use crate::reactor::connection::ConnectionKey;
use crate::reactor::fetch::{Fetch, FetchKey};

/// Marks the list of the idle connections of a room.
pub(super) struct IdleHere;
/// Marks the list of all idle connections.
pub(super) struct IdleAnywhere;

pub(crate) type IdleKey = Key<Idle>;

/// Stands in for a connection in the lists of idle ones. Made when it is first idle, it lives
/// as long as the connection.
pub(crate) struct Idle {
    pub(super) connection: ConnectionKey,
    pub(super) route: Arc<Route>,
    pub(super) room: RoomKey,
    pub(super) is_listed: bool,
    here: Links<Self>,
    anywhere: Links<Self>,
}

/// Homes.
impl Pool {
    /// The room of a proxy that requests are handed to, where somebody dials to it or something is
    /// kept.
    pub(crate) fn room_at(&self, proxy: &Proxy) -> Option<RoomKey> {
        self.by_proxy.get(proxy).copied()
    }

    /// The home of a route, made where there is none. `None` where keys have run out.
    pub(crate) fn home(&mut self, route: &Route) -> Option<RoomKey> {
        let Some(proxy) = route.forwarder() else { return self.room(&route.origin) };
        if let Some(key) = self.room_at(proxy) {
            return Some(key);
        }
        let key = self.rooms.insert(Room::of(Owner::Proxy(proxy.clone()))).ok()?;
        self.by_proxy.insert(proxy.clone(), key);
        Some(key)
    }
}

/// Fetches that resolve or dial.
impl Pool {
    pub(crate) fn begin_dialling(
        &mut self,
        fetches: &mut Arena<Fetch>,
        home: RoomKey,
        fetch: FetchKey,
    ) {
        if let Some(room) = self.rooms.get_mut(home) {
            room.dialling.push_back(fetches, fetch);
        }
    }

    pub(crate) fn end_dialling(
        &mut self,
        fetches: &mut Arena<Fetch>,
        home: RoomKey,
        fetch: FetchKey,
    ) {
        let Some(room) = self.rooms.get_mut(home) else { return };
        room.dialling.remove(fetches, fetch);
        // In the room of its origin it holds a slot.
        if room.active == 0 {
            self.vacate(home);
        }
    }

    /// The sockets of this room that opened, or will, for nobody.
    pub(crate) fn orphans(&mut self, room: RoomKey) -> Option<&mut Vec<ConnectionKey>> {
        Some(&mut self.rooms.get_mut(room)?.orphans)
    }

    /// The fetch that has dialled longest for this room.
    pub(crate) fn longest_dialling(&self, room: RoomKey) -> Option<FetchKey> {
        self.rooms.get(room)?.dialling.first()
    }

    /// The one that began to dial next after `fetch`, which must dial for the same room.
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
    /// before. Gives its entry and its room; `None` where it cannot be kept.
    pub(crate) fn check_in(
        &mut self,
        entry: Option<IdleKey>,
        connection: ConnectionKey,
        route: &Arc<Route>,
    ) -> Option<(IdleKey, RoomKey)> {
        let key = match entry {
            Some(key) => key,
            None => {
                let room = self.home(route)?;
                let entry = Idle {
                    connection,
                    route: Arc::clone(route),
                    room,
                    is_listed: false,
                    here: Links::default(),
                    anywhere: Links::default(),
                };
                let key = self.idle.insert(entry).ok()?;
                self.rooms.get_mut(room)?.kept += 1;
                key
            }
        };
        let entry = self.idle.get_mut(key)?;
        let room = entry.room;
        entry.is_listed = true;
        self.rooms.get_mut(room)?.idle.push_back(&mut self.idle, key);
        self.idle_by_age.push_back(&mut self.idle, key);
        Some((key, room))
    }

    /// Takes the idle connection of this route that was used last.
    pub(crate) fn check_out(&mut self, room: RoomKey, route: &Arc<Route>) -> Option<ConnectionKey> {
        let list = &self.rooms.get(room)?.idle;
        // One step in nearly every case: routes that share nothing share a home rarely.
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
        self.unlist(key);
        let Some(Idle { room, .. }) = self.idle.remove(key) else { return };
        if let Some(room) = self.rooms.get_mut(room) {
            room.kept -= 1;
        }
        self.vacate(room);
    }

    fn unlist(&mut self, key: IdleKey) {
        let Some(entry) = self.idle.get_mut(key) else { return };
        if !std::mem::replace(&mut entry.is_listed, false) {
            return;
        }
        let room = entry.room;
        self.idle_by_age.remove(&mut self.idle, key);
        if let Some(room) = self.rooms.get_mut(room) {
            room.idle.remove(&mut self.idle, key);
        }
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
