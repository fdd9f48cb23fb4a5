//! Floor 2. From a fetch that was admitted to a connection over a socket of the file system: one
//! place, so no lookup and no race.
//!
//! In goes a fetch that holds a slot and whose route has a path; out comes a connection that
//! connects as any other, or the failure of the attempt, which names the path.

use std::io;
use std::sync::Arc;

use super::Reactor;
use super::attempt::Sent;
use super::connection::Connection;
use super::dial::are_descriptors_short;
use super::fetch::FetchKey;
use crate::error::{Error, Kind, Phase as ErrorPhase};
use crate::net::{Net, Token};
use crate::origin::Route;
use crate::socket::{Peer, SocketSettings};

impl<N: Net> Reactor<N> {
    /// How a route's sockets are made.
    pub(super) fn sockets_of<'a>(&'a self, route: &'a Route) -> &'a SocketSettings {
        route.sockets_or(&self.settings.sockets)
    }

    pub(super) fn dial_path(&mut self, key: FetchKey, route: &Route) {
        if self.denies_private(route) {
            let what = "a socket of the file system is not of the public internet";
            return self.cannot_dial(key, Error::new(Kind::Denied, ErrorPhase::Connect, what));
        }
        self.begin_race(key, Arc::new([]), None);
        let Some(fetch) = self.fetches.get(key) else { return };
        let route = &fetch.request.parts.route;
        let sockets = route.sockets_or(&self.settings.sockets);
        let Some(path) = sockets.unix_socket() else { return };
        let net = &mut self.net;
        let dialled = self.connections.insert_with(|connection| {
            let token = Token(connection.to_bits());
            let stream = net.connect_by(Peer::Unix(path), sockets, token)?;
            Ok::<_, io::Error>(Connection::new(stream, Arc::clone(route), None, key))
        });
        match dialled {
            Some(Ok(connection)) => {
                self.trace_dialled(key, connection);
                self.join_race(key, connection);
            }
            Some(Err(error)) if !are_descriptors_short(&error) => self.path_failed(key, error),
            _ => self.descriptors_short(key),
        }
    }

    /// Nobody takes connections there.
    pub(super) fn path_failed(&mut self, key: FetchKey, error: io::Error) {
        let Some(fetch) = self.fetches.get(key) else { return };
        let path = self.sockets_of(&fetch.request.parts.route).unix_socket().unwrap_or("".as_ref());
        let what = format!("could not connect to {}", path.display().to_string().escape_debug());
        let failed = Error::new(Kind::Connect, ErrorPhase::Connect, what);
        self.attempt_failed(key, failed.caused_by(Arc::new(error)), Sent::Maybe);
    }
}
