//! Proxies in some of the seeds: HTTP with requests handed over and with CONNECT, either over TLS
//! as well, SOCKS 4a and 5.
//!
//! What must hold: a proxy is asked for servers that there are, with its own login and no other; no
//! server behind one sees that login; nothing is said into a tunnel before it is there; what a
//! server says reaches the fetch that asked it, as without a proxy; caps and paces are those of the
//! servers, though one connection carries requests for several. Where proxies behave, all goes
//! well; where they do not, they refuse, fall silent, end, or say more than they were asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use whippet::{Limit, Proxy, Request, Settings};

use super::asked::Asked;
use super::logins;
use super::plan::Plan;
use super::random::{Random, mix};
use super::tls::{self, Channel};
use super::ways::At;
use super::wire::Step;
use super::world::{Env, Origin};

/// The proxies of a seed; mostly none.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    hosts: Vec<Host>,
    fault_pm: u32,
    tickets_late_us: u64,
    /// What each has asked with, and how many answers have come.
    nonces: BTreeMap<(usize, String), u32>,
    /// Answers after which a nonce is forgotten, as squid does it.
    answers_max: Option<u32>,
    /// How often one was.
    pub(crate) forgotten: u64,
    /// Answers that have come.
    used: BTreeSet<String>,
    /// Tunnels, and requests that were handed on.
    pub(crate) led: u64,
    /// Those of them that came on a connection on which the last was for another server.
    pub(crate) shared: u64,
}

#[derive(Debug)]
struct Host {
    scheme: &'static str,
    at: SocketAddr,
    login: Login,
    tls: Option<Arc<ServerConfig>>,
}

impl Host {
    /// It has requests handed to it.
    fn is_http(&self) -> bool {
        matches!(self.scheme, "http" | "https")
    }
}

/// What it wants to know of who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Login {
    Nothing,
    /// User and password as they are, each proxy its own.
    Plain,
    Digest,
}

impl Proxies {
    /// Drawn apart from all else, so that a seed without proxies is the same as if there were none
    /// for anybody.
    pub(crate) fn of(seed: u64, plan: &Plan) -> Self {
        let mut random = Random::new(mix(seed ^ SALT));
        let mut proxies = Self::default();
        if !random.chance(300) {
            return proxies;
        }
        for nth in 0..=random.below(2) as u8 {
            let schemes = ["http", "http", "https", "https", "socks5h", "socks5", "socks4a"];
            let scheme = *random.pick(&schemes);
            let at = SocketAddr::from((Ipv4Addr::new(10, 99, 0, 1 + nth), 3_128));
            let login = match (scheme, random.below(3)) {
                ("socks4a", _) | (_, 0) => Login::Nothing,
                #[cfg(feature = "digest")]
                ("http" | "https", 1) => Login::Digest,
                _ => Login::Plain,
            };
            let (tickets, only_tls12) = (random.index(4), random.chance(300));
            let tls =
                (scheme == "https").then(|| tls::config(&at.ip().to_string(), tickets, only_tls12));
            proxies.hosts.push(Host { scheme, at, login, tls });
        }
        if !plan.scenario.is_calm() {
            proxies.fault_pm = random.magnitude(300) as u32;
        }
        if random.chance(500) {
            proxies.tickets_late_us = random.magnitude(500_000);
        }
        if random.chance(700) {
            proxies.answers_max = Some(logins::answers_max(&mut random, plan));
        }
        proxies
    }

    /// What goes over TLS costs time.
    pub(crate) fn keep_short(&self, plan: &mut Plan) {
        if self.has_tls() {
            plan.requests = plan.requests.min(12);
            plan.tickets_late_us = plan.tickets_late_us.max(self.tickets_late_us);
            plan.body_bytes = plan.body_bytes.min(if plan.is_narrow { 300 } else { 70_000 });
        }
    }

    fn has_tls(&self) -> bool {
        self.hosts.iter().any(|host| host.tls.is_some())
    }

    fn client(&self, nth: usize) -> Proxy {
        let Host { scheme, at, login, .. } = &self.hosts[nth];
        let user = if *login == Login::Nothing { String::new() } else { format!("u{nth}:p{nth}@") };
        let proxy = Proxy::new(&format!("{scheme}://{user}{at}")).unwrap();
        #[cfg(feature = "digest")]
        let proxy = if *login == Login::Digest { proxy.digest() } else { proxy };
        proxy
    }

    /// The settings' own: the first for all but one server, or for nobody.
    pub(crate) fn set(&self, settings: &mut Settings, seed: u64, has_limits: bool) {
        let mut random = Random::new(mix(seed ^ SALT ^ 1));
        if self.hosts.is_empty() {
            return;
        }
        if self.has_tls() {
            settings.tls = tls::client_settings();
        }
        if random.chance(700) {
            let proxies = whippet::Proxies::all(self.client(0));
            settings.proxies = proxies.except("10.0.1.1, h1.test");
        }
        if has_limits && random.chance(300) {
            settings.timeouts.set(Limit::Proxy, Some(super::span(&mut random, 15_000_000)));
        }
    }

    /// What a request says of its own, by its number alone.
    pub(crate) fn choose(&self, request: Request, mut random: Random) -> Request {
        if self.hosts.is_empty() {
            return request;
        }
        match random.below(4) {
            0 => request.proxy(None),
            1 => request.proxy(Some(self.client(random.index(self.hosts.len())))),
            _ => request,
        }
    }

    /// One of them looks names up itself.
    pub(crate) fn looks_up(&self, nth: usize) -> bool {
        self.hosts[nth].scheme != "socks5"
    }

    pub(crate) fn are_there(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// Whose address it is.
    pub(crate) fn at(&self, to: SocketAddr) -> Option<usize> {
        self.hosts.iter().position(|host| host.at == to)
    }
}

/// TLS with a proxy, where it wants that.
pub(crate) fn outer(nth: usize, env: &mut Env) -> Option<Box<Channel>> {
    let config = env.proxies.hosts[nth].tls.clone()?;
    let (channel, is_faulty) = Channel::new(&config, env.proxies.fault_pm, &mut env.random);
    if is_faulty {
        env.ledger.excuse_origin(0);
    }
    Some(Box::new(channel))
}

/// What must hold of a request that has come, by way of this proxy or none, for this server.
pub(crate) fn check(asked: &Asked, proxy: Option<usize>, origin: usize, env: &mut Env) {
    let id = asked.id;
    let server = &env.origins[origin];
    if asked.host != authority(server) {
        let (said, is) = (&asked.host, &server.base);
        let law = format!("request {id} for {said} comes to {is}");
        return env.ledger.break_law_unless_crossed(law);
    }
    if asked.is_absolute != proxy.is_some() {
        return env.ledger.break_law(format!("request {id} is in the wrong form"));
    }
    env.proxies.led += u64::from(proxy.is_some());
    let Some(nth) = proxy else {
        if asked.proxy_login.is_some() {
            env.ledger.break_law(format!("request {id} brings a proxy's login to a server"));
        }
        return;
    };
    if !env.proxies.hosts[nth].is_http() {
        return env.ledger.break_law(format!("request {id} is handed to a SOCKS proxy"));
    }
    check_login(nth, asked.proxy_login.as_deref(), env);
}

/// Whether a proxy must be told first who asks.
pub(crate) fn asks(asked: &Asked, proxy: Option<usize>, env: &Env) -> bool {
    let is_once = env.ledger.asking(asked.id).is_some_and(|asking| asking.is_once);
    proxy.is_some_and(|nth| wants(nth, asked.proxy_login.as_deref(), env)) && !is_once
}

/// Whether this does not answer a proxy: it is none, or the nonce is forgotten by now. That does
/// not go for whoever was asked with it, whose count is the first.
fn wants(nth: usize, said: Option<&str>, env: &Env) -> bool {
    let proxies = &env.proxies;
    proxies.hosts[nth].login == Login::Digest
        && said.is_none_or(|said| {
            let answers = nonce_of(nth, said, env).and_then(|nonce| proxies.nonces.get(&nonce));
            !said.contains("nc=00000001")
                && proxies.answers_max.is_some_and(|max| answers.is_some_and(|it| *it > max))
        })
}

/// The nonce of this proxy that is answered.
fn nonce_of(nth: usize, said: &str, env: &Env) -> Option<(usize, String)> {
    let mut nonces = env.proxies.nonces.keys();
    let is_it = |(at, nonce): &&(usize, String)| {
        *at == nth && said.contains(&format!(" nonce=\"{nonce}\""))
    };
    nonces.find(is_it).cloned()
}

/// The line of a 407's head.
pub(crate) fn line(nth: usize, env: &mut Env) -> String {
    let nonce = format!("p{nth}-{}", env.proxies.nonces.len());
    env.proxies.nonces.insert((nth, nonce.clone()), 0);
    format!("Proxy-Authenticate: Digest realm=\"p\", qop=\"auth\", nonce=\"{nonce}\"\r\n")
}

/// Its own login, and once what answers a challenge.
fn check_login(nth: usize, said: Option<&str>, env: &mut Env) {
    let wrong = match (env.proxies.hosts[nth].login, said) {
        (Login::Nothing, None) | (Login::Digest, None) => None,
        (Login::Nothing, Some(_)) => Some("is told a login that it has not"),
        (Login::Plain, said) => {
            let expected = ["basic dta6cda=", "basic dte6cde="][nth];
            (said != Some(expected)).then_some("is not told its login")
        }
        (Login::Digest, Some(said)) => {
            let nonce = nonce_of(nth, said, env);
            let answers = nonce.and_then(|nonce| env.proxies.nonces.get_mut(&nonce));
            match answers.filter(|_| said.starts_with(&format!("digest username=\"u{nth}\""))) {
                None => Some("is told what answers another"),
                Some(_) if !env.proxies.used.insert(said.to_owned()) => {
                    Some("is told the same answer twice")
                }
                Some(answers) => {
                    *answers += 1;
                    None
                }
            }
        }
    };
    if let Some(wrong) = wrong {
        env.ledger.break_law(format!("proxy {nth} {wrong}: {said:?}"));
    }
}

/// A proxy that has not led anywhere yet.
pub(crate) struct Talk {
    pub(crate) proxy: usize,
    heard: Vec<u8>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// HTTP, SOCKS 4, or the methods of SOCKS 5.
    First,
    Login,
    Request,
    /// It refuses, or is broken: nothing more may be said to it.
    Over,
    /// What it said was damaged, so that it may be taken for a tunnel.
    Damaged,
}

/// What it makes of what it has heard.
pub(crate) enum Heard {
    /// It says this, or waits for more.
    Says(Vec<Step>),
    /// It says this, and a server is at the other end.
    Leads(Vec<Step>, At),
    /// A request that it hands over begins with these bytes.
    Hands(Vec<u8>),
}

impl Talk {
    pub(crate) fn new(proxy: usize) -> Self {
        Self { proxy, heard: Vec::new(), stage: Stage::First }
    }

    /// What it is told can be read along.
    pub(crate) fn is_plain_http(&self, env: &Env) -> bool {
        env.proxies.hosts[self.proxy].scheme == "http"
    }

    pub(crate) fn hear(&mut self, bytes: &[u8], env: &mut Env) -> Heard {
        if self.stage == Stage::Over {
            return self.breaks("is told more after it has given no tunnel", env);
        }
        if self.stage == Stage::Damaged {
            return Heard::Says(Vec::new());
        }
        self.heard.extend_from_slice(bytes);
        match env.proxies.hosts[self.proxy].scheme {
            "http" | "https" => self.hear_http(env),
            "socks4a" => self.hear_socks4(env),
            _ => self.hear_socks5(env),
        }
    }

    fn hear_http(&mut self, env: &mut Env) -> Heard {
        if !self.heard.starts_with(b"C") {
            return Heard::Hands(std::mem::take(&mut self.heard));
        }
        let Some(end) = find(&self.heard, b"\r\n\r\n") else { return Heard::Says(Vec::new()) };
        let text = String::from_utf8_lossy(&self.heard[..end]).into_owned();
        self.heard.drain(..end + 4);
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some("CONNECT"), Some(target), Some("HTTP/1.1")) =
            (words.next(), words.next(), words.next())
        else {
            return self.breaks(format!("is asked {text:?}"), env);
        };
        let target = target.to_owned();
        if !lines.clone().any(|line| line == format!("Host: {target}")) {
            return self.breaks(format!("is asked for {target} without a host"), env);
        }
        let login = lines.find_map(|line| line.strip_prefix("Proxy-Authorization: "));
        let login = login.map(str::to_ascii_lowercase);
        check_login(self.proxy, login.as_deref(), env);
        if wants(self.proxy, login.as_deref(), env) {
            env.proxies.forgotten += u64::from(login.is_some());
            self.stage = Stage::Over;
            let line = line(self.proxy, env);
            let said = format!("HTTP/1.1 407 Who\r\n{line}Content-Length: 2\r\n\r\nno");
            let mut steps = vec![Step::Bytes(said.into_bytes())];
            if env.random.chance(500) {
                steps.push(Step::Fin);
            }
            return Heard::Says(steps);
        }
        let status = *env.random.pick(&[403, 429, 502, 503]);
        let refusal = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").into_bytes();
        let more = *env.random.pick(&["", "Via: p\r\n", "Content-Length: 5\r\n"]);
        let answer = format!("HTTP/1.1 200 Established\r\n{more}\r\n").into_bytes();
        self.lead(server_named(&target, env), &target, answer, refusal, env)
    }

    fn hear_socks4(&mut self, env: &mut Env) -> Heard {
        let waits = Heard::Says(Vec::new());
        let Some(rest) = self.heard.get(8..) else { return waits };
        let Some(user_end) = find(rest, b"\0") else { return waits };
        let mut length = 8 + user_end + 1;
        let (port, ip) = ([self.heard[2], self.heard[3]], &self.heard[4..8]);
        let port = u16::from_be_bytes(port);
        let mut host = Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]).to_string();
        if ip[..3] == [0; 3] {
            // A name stands behind it.
            let Some(name_end) = find(&self.heard[length..], b"\0") else { return waits };
            host = String::from_utf8_lossy(&self.heard[length..length + name_end]).into_owned();
            length += name_end + 1;
        }
        let is_fine = self.heard.starts_with(&[4, 1]) && user_end == 0;
        self.heard.drain(..length);
        let target = format!("{host}:{port}");
        if !is_fine {
            return self.breaks(format!("is asked for {target} in a wrong way"), env);
        }
        let answer = |code| vec![0, code, 0, 0, 0, 0, 0, 0];
        self.lead(server_named(&target, env), &target, answer(90), answer(91), env)
    }

    fn hear_socks5(&mut self, env: &mut Env) -> Heard {
        let has_login = env.proxies.hosts[self.proxy].login == Login::Plain;
        match self.stage {
            Stage::First => {
                let Some(methods) = counted(&self.heard, 1) else {
                    return Heard::Says(Vec::new());
                };
                let offers = methods.to_vec();
                self.heard.drain(..2 + offers.len());
                let wanted = if has_login { 2 } else { 0 };
                if !offers.contains(&wanted) || offers.contains(&2) != has_login {
                    return self.breaks(format!("is offered {offers:?}"), env);
                }
                self.stage = if has_login { Stage::Login } else { Stage::Request };
                self.answer(vec![5, wanted], env)
            }
            Stage::Login => {
                let Some(user) = counted(&self.heard, 1) else { return Heard::Says(Vec::new()) };
                let Some(password) = counted(&self.heard, 2 + user.len()) else {
                    return Heard::Says(Vec::new());
                };
                let nth = self.proxy;
                let is_own = user == format!("u{nth}").as_bytes()
                    && password == format!("p{nth}").as_bytes();
                self.heard.drain(..3 + user.len() + password.len());
                if !is_own {
                    return self.breaks("is told the login of another", env);
                }
                self.stage = Stage::Request;
                self.answer(vec![1, 0], env)
            }
            _ => self.hear_socks5_request(env),
        }
    }

    fn hear_socks5_request(&mut self, env: &mut Env) -> Heard {
        let waits = Heard::Says(Vec::new());
        let Some(kind) = self.heard.get(3) else { return waits };
        let (host, length): (Result<IpAddr, String>, usize) = match kind {
            1 => {
                let Some(ip) = self.heard.get(4..8) else { return waits };
                let ip: [u8; 4] = ip.try_into().unwrap();
                (Ok(IpAddr::from(ip)), 8)
            }
            4 => {
                let Some(ip) = self.heard.get(4..20) else { return waits };
                let ip: [u8; 16] = ip.try_into().unwrap();
                (Ok(IpAddr::from(ip)), 20)
            }
            _ => {
                let Some(name) = counted(&self.heard, 4) else { return waits };
                (Err(String::from_utf8_lossy(name).into_owned()), 5 + name.len())
            }
        };
        let Some(port) = self.heard.get(length..length + 2) else { return waits };
        let port = u16::from_be_bytes([port[0], port[1]]);
        self.heard.drain(..length + 2);
        let answer = |code| vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0];
        let (target, found) = match host {
            Ok(ip) => (format!("{ip}:{port}"), server_at(ip, port, env)),
            Err(name) => {
                let target = format!("{name}:{port}");
                let is_told_names = env.proxies.hosts[self.proxy].scheme == "socks5h";
                let found = server_named(&target, env).filter(|_| is_told_names);
                (target, found)
            }
        };
        let is_dead = found.is_some_and(|at| {
            let At::Origin(at) = at else { return false };
            let dead = &env.origins[at].dead;
            dead.iter().any(|ip| target == format!("{ip}:{port}"))
        });
        if is_dead {
            env.ledger.excuse_origin(0);
            self.stage = Stage::Over;
            return Heard::Says(vec![Step::Bytes(answer(4)), Step::Fin]);
        }
        self.lead(found, &target, answer(0), answer(5), env)
    }

    /// One step of a talk that goes on.
    fn answer(&mut self, said: Vec<u8>, env: &mut Env) -> Heard {
        if env.random.chance(env.proxies.fault_pm / 3) {
            return Heard::Says(self.fail(said, Vec::new(), env));
        }
        Heard::Says(vec![Step::Bytes(said)])
    }

    /// The last one: a server is at the other end, if all goes well.
    fn lead(
        &mut self,
        server: Option<At>,
        target: &str,
        answer: Vec<u8>,
        refusal: Vec<u8>,
        env: &mut Env,
    ) -> Heard {
        let Some(at) = server else {
            return self.breaks(format!("is asked for {target}, which is nobody"), env);
        };
        if !self.heard.is_empty() {
            return self.breaks(format!("is told more behind {target}"), env);
        }
        let number = match at {
            At::Origin(at) => at,
            At::Front(nth) | At::Path(nth) => FRONTS_FROM + nth,
        };
        env.story.tell(env.now, &[70, self.proxy as u64, number as u64], || {
            format!("    proxy {} is asked for {target}", self.proxy)
        });
        env.proxies.led += 1;
        // As it is, whatever the server speaks that is behind it.
        let mut steps = vec![Step::Sealed(0, answer.clone()), Step::TunnelOpen];
        if !env.random.chance(env.proxies.fault_pm) {
            return Heard::Leads(steps, at);
        }
        if env.random.chance(200) {
            // A word too many.
            env.ledger.excuse_origin(0);
            let more = super::http::unasked(&mut env.random);
            // Whether it is TLS, a front has yet to hear: before that, it is taken for an answer.
            let is_tls = match at {
                At::Origin(at) => env.origins[at].tls.is_some(),
                At::Front(_) | At::Path(_) => false,
            };
            steps.push(if is_tls { Step::Sealed(0, more) } else { Step::Poison(more) });
            return Heard::Leads(steps, at);
        }
        Heard::Says(self.fail(answer, refusal, env))
    }

    fn fail(&mut self, mut answer: Vec<u8>, refusal: Vec<u8>, env: &mut Env) -> Vec<Step> {
        env.ledger.excuse_origin(0);
        self.stage = Stage::Over;
        let end = if env.random.chance(500) { Step::Fin } else { Step::Reset };
        match env.random.below(4) {
            0 => Vec::new(),
            1 => {
                answer.truncate(env.random.index(answer.len()));
                vec![Step::Bytes(answer), end]
            }
            2 => {
                let at = env.random.index(answer.len().min(12));
                answer[at] ^= 0x80;
                self.stage = Stage::Damaged;
                vec![Step::Bytes(answer), end]
            }
            _ => vec![Step::Bytes(refusal), end],
        }
    }

    fn breaks(&mut self, what: impl std::fmt::Display, env: &mut Env) -> Heard {
        self.stage = Stage::Over;
        env.ledger.break_law(format!("proxy {} {what}", self.proxy));
        Heard::Says(Vec::new())
    }
}

/// A server by host and port, or a front.
fn server_named(target: &str, env: &Env) -> Option<At> {
    let is_it = |origin: &Origin| target == format!("{}:{}", origin.host, origin.port);
    let front = env.ways.front_named(target);
    let server = env.origins.iter().position(is_it);
    front.map(At::Front).or(server.map(At::Origin))
}

fn server_at(ip: IpAddr, port: u16, env: &Env) -> Option<At> {
    let is_it = |origin: &Origin| {
        origin.port == port && (origin.addresses.contains(&ip) || origin.dead.contains(&ip))
    };
    let front = env.ways.front_at((ip, port).into());
    front.map(At::Front).or(env.origins.iter().position(is_it).map(At::Origin))
}

/// A server by the authority of a request, over TLS or not.
pub(crate) fn server_of(host: &str, is_tls: bool, env: &Env) -> Option<usize> {
    let is_it = |origin: &Origin| origin.tls.is_some() == is_tls && authority(origin) == host;
    env.origins.iter().position(is_it)
}

/// Host, and port where it is not the scheme's.
fn authority(origin: &Origin) -> String {
    let usual = if origin.tls.is_some() { 443 } else { 80 };
    if origin.port == usual {
        origin.host.clone()
    } else {
        format!("{}:{}", origin.host, origin.port)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// What stands behind its own length at a place.
fn counted(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let count = usize::from(*bytes.get(at)?);
    bytes.get(at + 1..at + 1 + count)
}

/// In what is told of a tunnel, fronts are numbered behind servers.
const FRONTS_FROM: usize = 100;
const SALT: u64 = 0x70_72_6f_78_79;
