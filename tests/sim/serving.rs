//! Whoever is at the other end of a wire: what it hears, and what it answers.

use super::asked::{Asked, Parsed, Parser};
use super::basic;
use super::cookies;
use super::dns;
use super::http;
use super::logins;
use super::proxies::{self, Heard};
use super::tls::{self, Channel};
use super::trusts;
use super::upgrades;
use super::ways::{self, At, Seen};
use super::wire::{Http, Service, Step, Wire};
use super::world::{Env, World};

impl World {
    pub(crate) fn serve(&mut self, id: usize, bytes: &[u8]) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let env = &mut self.env;
        let mut plain = None;
        match &mut wire.service {
            Service::Silent => {}
            Service::Talk(talk) => {
                let heard = talk.hear(bytes, env);
                return self.lead(id, heard);
            }
            Service::Dns(frames) => {
                frames.receive(bytes);
                while let Some(query) = frames.next_message() {
                    let replies = dns::answer(&query, true, env);
                    for (delay, reply) in replies {
                        wire.out.push_back(Step::Wait(delay));
                        wire.out.push_back(Step::Bytes(dns::framed(&reply)));
                    }
                }
            }
            Service::Http(http) => {
                begin_front(http, bytes, env);
                match &mut http.tls {
                    None => plain = Some(bytes.to_vec()),
                    Some(tls) => {
                        if tls.is_spoken_to_plainly(bytes) {
                            env.ledger.break_law("an https server is spoken to without TLS");
                        }
                        let heard = tls.receive(bytes);
                        env.has_garbled |= tls.is_garbled;
                        if heard.plain.is_none() {
                            env.ledger.excuse_origin(wire.origin.unwrap_or_default());
                        }
                        if !heard.answer.is_empty() {
                            let late = if heard.is_done_now { env.tickets_late() } else { 0 };
                            wire.out.push_back(Step::Sealed(late, heard.answer));
                        }
                        if heard.plain.is_none() {
                            wire.out.push_back(Step::Fin);
                        }
                        wire.out.extend(heard.end);
                        plain = heard.plain;
                    }
                }
            }
        }
        let plain = plain.unwrap_or_default();
        if let Service::Http(http) = &mut wire.service
            && let Some(switch) = &mut http.switch
        {
            let steps = switch.hear(&plain, env);
            return wire.out.extend(steps);
        }
        for parsed in self.parse(id, &plain) {
            self.hear(id, parsed);
        }
    }

    /// A proxy has heard something of what it is to do.
    fn lead(&mut self, id: usize, heard: Heard) {
        let (steps, at, handed) = match heard {
            Heard::Says(steps) => (steps, None, None),
            Heard::Leads(steps, at) => (steps, Some(at), None),
            Heard::Hands(bytes) => (Vec::new(), None, Some(bytes)),
        };
        let service = at.map(|at| self.http_service(at));
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.out.extend(steps);
        if let Some(service) = service {
            let is_plain = matches!(&service, Service::Http(http) if http.tls.is_none());
            let is_plain = is_plain && wire.outer.is_none();
            wire.watcher = is_plain.then(Parser::default);
            wire.origin = match at {
                Some(At::Origin(at)) => Some(at),
                _ => None,
            };
            (wire.service, wire.at, wire.opens_at) = (service, at, u64::MAX);
        }
        if let Some(bytes) = handed {
            let proxy = wire.proxy;
            let hides_end = wire.outer.as_ref().is_some_and(|outer| outer.is_curt);
            let http = Http { proxy, hides_end, ..Http::new(None) };
            wire.service = Service::Http(Box::new(http));
            self.serve(id, &bytes);
        }
    }

    /// A request that a proxy is to hand on, or that came to a front, has said whose it is.
    pub(crate) fn request_names(&mut self, id: usize, asked: &Asked) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let is_tls = wire.has_tls();
        let server = proxies::server_of(&asked.host, is_tls, &self.env);
        if server.is_none() {
            let host = &asked.host;
            let law = format!("w{id} is asked for {host}, which is nobody; over TLS: {is_tls}");
            self.env.ledger.break_law(law);
        }
        let before = std::mem::replace(&mut wire.origin_before, server);
        if wire.is_fronted() {
            wire.origin = server;
            if before.is_some() && before != server {
                let law = format!("w{id} carries requests for two servers");
                self.env.ledger.break_law_unless_crossed(law);
            }
            return;
        }
        self.env.proxies.shared += u64::from(before.is_some() && before != server);
        wire.origin = server;
    }

    fn parse(&mut self, id: usize, plain: &[u8]) -> Vec<Parsed> {
        let Some(Wire { service: Service::Http(http), .. }) = self.wires.get_mut(&id) else {
            return Vec::new();
        };
        match http.parser.feed(plain) {
            Ok(parsed) => parsed,
            Err(what) => {
                self.env.ledger.break_law_unless_crossed(format!("w{id}: {what}"));
                Vec::new()
            }
        }
    }

    /// A server has heard a piece of a request.
    fn hear(&mut self, id: usize, parsed: Parsed) {
        if let Parsed::Head(asked) = &parsed
            && self.wires.get(&id).is_some_and(|wire| wire.names_only_here(asked))
        {
            self.request_names(id, asked);
        }
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let seen = Seen::of(wire);
        let origin = wire.origin.unwrap_or_default();
        let has_poison =
            wire.poison_at.is_some() || wire.out.iter().any(|step| matches!(step, Step::Poison(_)));
        let Service::Http(http) = &mut wire.service else { return };
        let env = &mut self.env;
        match parsed {
            Parsed::Begun => {
                if http.is_answering && !wire.is_hopeless {
                    env.ledger.break_law(format!("w{id}: a request before the answer to the last"));
                }
                // What it had meant to do while idle.
                wire.out.retain(|step| {
                    matches!(step, Step::Poison(_) | Step::Sealed(..) | Step::Outer(..))
                });
                if http.ends_on_reuse {
                    let reset = env.random.chance(500);
                    wire.out.push_back(if reset { Step::Reset } else { Step::Fin });
                    wire.server_gone = true;
                }
            }
            Parsed::Head(asked) => {
                env.story.tell(env.now, &[30, id as u64, asked.id, asked.hop], || {
                    format!("w{id}  server hears {} {}/{}", asked.method, asked.id, asked.hop)
                });
                check(&asked, http.proxy, &seen, origin, env);
                if wire.watcher.is_none()
                    && let Some(law) = env.paces.request_comes(origin, env.now)
                {
                    env.ledger.break_law_unless_crossed(law);
                }
                if has_poison || http.has_spoken || wire.is_hopeless {
                    env.ledger.allow_poison(asked.id);
                }
                if http::decides_early(&asked, env) {
                    http.is_answering = true;
                    http.was_early = true;
                    env.ledger.excuse(asked.id);
                    http::check_whole(&asked, env, false);
                    wire.out.extend(http::answer(&asked, origin, http, env));
                } else if asked.expects
                    && let Some(steps) = http::word(&asked, http, env)
                {
                    // More than a word is an answer.
                    http.was_early = steps.len() > 1;
                    http.is_answering |= http.was_early;
                    if http.was_early {
                        // Its end may meet a body on the way, and the reset takes it along.
                        env.ledger.excuse(asked.id);
                    }
                    wire.out.extend(steps);
                }
            }
            Parsed::Whole(asked) => {
                let was_early = std::mem::take(&mut http.was_early);
                http::check_whole(&asked, env, !was_early);
                if !was_early && !http.ends_on_reuse && !wire.server_gone {
                    http.is_answering = true;
                    wire.out.extend(http::answer(&asked, origin, http, env));
                    if http.switch.is_some() {
                        // What it writes from now on are no requests.
                        wire.watcher = None;
                    }
                }
            }
        }
    }
}

/// The first that a front hears may be TLS.
fn begin_front(http: &mut Http, bytes: &[u8], env: &mut Env) {
    let is_tls = bytes.first() == Some(&tls::HANDSHAKE_RECORD);
    if std::mem::take(&mut http.is_untold_front)
        && is_tls
        && let Some(config) = env.ways.tls()
    {
        let (channel, is_faulty) = Channel::new(&config, env.plan.tls_fault_pm, &mut env.random);
        http.hides_end = channel.is_curt;
        http.tls = Some(Box::new(channel));
        if is_faulty {
            env.ledger.excuse_origin(0);
        }
    }
}

/// What must hold of a request that has come to a server, by a proxy perhaps.
fn check(asked: &Asked, proxy: Option<usize>, seen: &Seen, origin: usize, env: &mut Env) {
    proxies::check(asked, proxy, origin, env);
    cookies::check(asked, origin, env);
    logins::check(asked, origin, env);
    basic::check(asked, origin, env);
    upgrades::check(asked, env);
    ways::check(asked, seen, origin, env);
    trusts::check(asked.id, seen.tls_version, env);
}
