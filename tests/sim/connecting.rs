//! What the world makes of a client that connects: whom it reaches, and how that may fail.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use whippet::net::Token;
use whippet::{Peer, SocketSettings};

use super::dns;
use super::http;
use super::net::blocked;
use super::proxies::{self, Talk};
use super::sockets;
use super::tls::Channel;
use super::ways::At;
use super::wire::{Http, Phase, Service, Step, WRITABLE, Wire};
use super::world::{Deed, World};

impl World {
    /// To an address, or to a path.
    pub(crate) fn connect(
        &mut self,
        to: Peer<'_>,
        settings: &SocketSettings,
        token: Token,
    ) -> io::Result<usize> {
        self.check_descriptors()?;
        let id = self.next_name();
        let now = self.env.now;
        self.env.story.tell(now, &[1, id as u64], || format!("w{id}  connects to {to}"));
        let (mut wire, outcome) = match to {
            Peer::Address(to) => {
                if let Some(refusal) = sockets::refusal_of(to, settings) {
                    return Err(refusal);
                }
                self.dial(id, to, token)?
            }
            Peer::Unix(path) => self.dial_path(id, path, token)?,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        wire.sockets = settings.clone();
        self.wires.insert(id, wire);
        if let Some((delay, error)) = outcome {
            self.plan(delay, Deed::ConnectEnds(id, error));
        }
        Ok(id)
    }

    fn dial(&mut self, id: usize, to: SocketAddr, token: Token) -> io::Result<(Wire, Outcome)> {
        let origin = self.env.origins.iter().position(|origin| {
            origin.port == to.port()
                && (origin.addresses.contains(&to.ip()) || origin.dead.contains(&to.ip()))
        });
        let proxy = self.env.proxies.at(to);
        let front = self.env.ways.front_at(to).map(At::Front);
        let at = front.or(origin.map(At::Origin));
        if at.is_none() && proxy.is_none() && !dns::is_server(to) {
            self.env.ledger.break_law(format!("connects to {to}, which is nobody's address"));
        }
        let latency = self.latency();
        let mut outcome = Some((latency, None));
        let mut service = Service::Silent;
        let mut outer = None;
        if let Some(nth) = proxy {
            if self.env.random.chance(self.env.plan.connect_fault_pm) {
                self.env.ledger.excuse_origin(0);
                outcome = self.connect_fault(id, latency)?;
            } else {
                service = Service::Talk(Talk::new(nth));
                outer = proxies::outer(nth, &mut self.env);
            }
        } else if let Some(at) = at {
            let fault = self.env.random.chance(self.env.plan.connect_fault_pm);
            let is_dead = origin.is_some_and(|at| self.env.origins[at].dead.contains(&to.ip()));
            if is_dead || fault {
                self.env.ledger.excuse_origin(origin.unwrap_or_default());
                outcome = self.connect_fault(id, latency)?;
            } else {
                service = self.http_service(at);
            }
        } else if self.env.random.chance(self.env.plan.dns_fault_pm / 2) {
            outcome = self.connect_fault(id, latency)?;
        } else {
            service = Service::Dns(dns::Frames::default());
        }
        let is_undecided = matches!(&service, Service::Talk(talk) if talk.is_plain_http(&self.env));
        let wire = Wire::new(token, Some(to), origin, service);
        Ok((Wire { proxy, outer, is_undecided, at, ..wire }, outcome))
    }

    /// A socket of the file system connects or not; some systems take their time for it.
    fn dial_path(&mut self, id: usize, path: &Path, token: Token) -> io::Result<(Wire, Outcome)> {
        if let Some(refusal) = sockets::refusal_of_path(path) {
            return Err(refusal);
        }
        let at = At::Path(sockets::path_at(path).unwrap_or_default());
        let latency = self.latency();
        let (mut service, mut outcome) = (self.http_service(at), Some((latency, None)));
        if self.env.random.chance(self.env.plan.connect_fault_pm) {
            self.env.ledger.excuse_origin(0);
            if self.env.random.chance(200) {
                // Too many wait to be accepted (connect(2)).
                return blocked();
            }
            (service, outcome) = (Service::Silent, self.connect_fault(id, latency)?);
        }
        Ok((Wire { at: Some(at), ..Wire::new(token, None, None, service) }, outcome))
    }

    fn connect_fault(&mut self, id: usize, latency: u64) -> io::Result<Outcome> {
        let may_blackhole = self.env.plan.may_blackhole;
        let which = self.env.random.below(6);
        self.env.story.tell(self.env.now, &[2, which], || format!("w{id}  connect fault {which}"));
        Ok(match which {
            0 => return Err(io::Error::from_raw_os_error(101)),
            1 => return Err(io::Error::from_raw_os_error(99)),
            2 => Some((latency, Some(io::ErrorKind::HostUnreachable))),
            3 if may_blackhole => None,
            // Accepted by nobody who speaks.
            4 if may_blackhole => Some((latency, None)),
            _ => Some((latency, Some(io::ErrorKind::ConnectionRefused))),
        })
    }

    pub(crate) fn http_service(&mut self, at: At) -> Service {
        let At::Origin(at) = at else {
            return Service::Http(Box::new(Http { is_untold_front: true, ..Http::new(None) }));
        };
        let Some(config) = self.env.origins[at].tls.clone() else {
            return Service::Http(Box::new(Http::new(None)));
        };
        let fault_pm = self.env.plan.tls_fault_pm;
        let (tls, is_faulty) = Channel::new(&config, fault_pm, &mut self.env.random);
        if is_faulty {
            self.env.ledger.excuse_origin(at);
        }
        Service::Http(Box::new(Http::new(Some(Box::new(tls)))))
    }

    pub(crate) fn connect_ends(&mut self, id: usize, error: Option<io::ErrorKind>) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        self.env.story.tell(self.env.now, &[3, id as u64, u64::from(error.is_some())], || {
            format!("w{id}  {}", error.map_or("connected".to_owned(), |e| format!("failed: {e}")))
        });
        match error {
            Some(kind) => wire.breaks(kind, false),
            None => {
                wire.phase = Phase::Open;
                wire.edge |= WRITABLE;
            }
        }
        self.ready.insert(id);
        // A server that speaks first.
        let plan = &self.env.plan;
        let speaks = plan.faults.contains(&super::plan::Fault::IdleSpeech);
        if speaks
            && self.env.random.chance(plan.faulty_answer_pm / 8)
            && let Some(Wire { service: Service::Http(http), out, origin, .. }) =
                self.wires.get_mut(&id)
            && http.tls.is_none()
            && !http.is_untold_front
        {
            http.has_spoken = true;
            self.env.ledger.excuse_origin(origin.unwrap_or_default());
            out.push_back(Step::Poison(http::unasked(&mut self.env.random)));
            self.pump_soon(id, 0);
        }
    }
}

/// When a connect ends, and how; none: never.
type Outcome = Option<(u64, Option<io::ErrorKind>)>;
