//! An HTTP/1.1 server without sockets: requests are parsed, answers are steps.

use super::asked::Asked;
use super::basic::AWAY;
use super::coding::Coded;
use super::cookies;
use super::framing::{Framing, Said};
use super::ledger::Answer;
use super::logins;
use super::paces;
use super::plan::Fault;
use super::proxies;
use super::random::{Random, body_bytes};
use super::upgrades;
use super::wire::{Http, Step};
use super::world::Env;

/// The name of what is sent with a request.
pub(crate) fn upload(id: u64) -> u64 {
    id ^ (1 << 60)
}

/// What is to be said of a request that has come.
pub(crate) fn check_whole(asked: &Asked, env: &mut Env, is_whole: bool) {
    let Some(asking) = env.ledger.asking(asked.id) else {
        return env
            .ledger
            .break_law_unless_crossed(format!("request {} was not asked for", asked.id));
    };
    let (length, given) = (asked.length, asking.body_bytes);
    let is_known = is_whole || !asked.is_chunked;
    if is_known && length != given && !(asked.method == "GET" && length == 0) {
        env.ledger
            .break_law_unless_crossed(format!("request {}: {length} bytes of {given}", asked.id));
    }
    if is_whole && length > 0 {
        env.files.came(asked.id);
    }
    if is_whole && matches!(&*asked.method, "POST" | "PATCH") {
        env.ledger.receive_once(asked.id, asked.hop);
    }
}

/// What is said to a request that waits for a word. `None`: the body is waited for.
pub(crate) fn word(asked: &Asked, http: &mut Http, env: &mut Env) -> Option<Vec<Step>> {
    match env.random.below(4) {
        0 => None,
        1 if env.ledger.asking(asked.id).is_some_and(|asking| !asking.is_once) => {
            env.ledger.expect_again(asked.id, asked.hop);
            let draft = Draft::new(asked, 417, None, http, env);
            // Nobody may be given it.
            env.ledger.spoil(draft.nonce);
            Some(draft.steps(asked, None, http, env))
        }
        _ => Some(vec![Step::Bytes(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())]),
    }
}

/// Whether the answer comes before the body has.
pub(crate) fn decides_early(asked: &Asked, env: &mut Env) -> bool {
    asked.length > 0
        && env.plan.faults.contains(&Fault::Early)
        && env.random.chance(env.plan.faulty_answer_pm)
}

/// Something that no request asked for.
pub(crate) fn unasked(random: &mut Random) -> Vec<u8> {
    let wholes = [
        "HTTP/1.1 200 OK\r\nX-Nonce: 0\r\nContent-Length: 6\r\n\r\npoison",
        "HTTP/1.1 408 Request Timeout\r\nX-Nonce: 0\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Nonce: 0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\np\r\n0\r\n\r\n",
        "\r\n",
        "x",
    ];
    random.pick(&wholes).as_bytes().to_vec()
}

/// The steps of an answer, up to and beyond its end.
pub(crate) fn answer(asked: &Asked, origin: usize, http: &mut Http, env: &mut Env) -> Vec<Step> {
    let fault = env.random.chance(env.plan.faulty_answer_pm) && !env.plan.faults.is_empty();
    let fault = fault.then(|| *env.random.pick(&env.plan.faults));
    if let Some(fault) = fault {
        env.story.tell(env.now, &[31, asked.id], || format!("    which it answers with {fault:?}"));
        env.ledger.excuse(asked.id);
        // Whoever is next on this connection may suffer as well.
        env.ledger.excuse_origin(origin);
    }
    if http.proxy.is_some() && proxies::asks(asked, http.proxy, env) {
        return challenge(407, asked, origin, fault, http, env);
    }
    if logins::asks(asked, origin, env) {
        return challenge(401, asked, origin, fault, http, env);
    }
    if upgrades::changes(asked, fault, http, env) {
        return upgrades::answer(asked, fault, http, env);
    }
    let loops = fault == Some(Fault::Loop);
    let redirects = loops || fault == Some(Fault::LongRedirect);
    if redirects || (asked.hop < 5 && env.random.chance(env.plan.redirect_pm)) {
        return redirect(asked, origin, fault, env);
    }
    let status = if env.random.chance(env.plan.unavailable_pm) { 503 } else { 200 };
    let status = if env.random.chance(100) { *env.random.pick(&[204, 304]) } else { status };
    let status = if asked.upgrades { *env.random.pick(&[status, 400, 426]) } else { status };
    let mut draft = Draft::new(asked, status, fault, http, env);
    let cookies = cookies::lines(origin, env);
    draft.head.splice(draft.head.len() - 2..draft.head.len() - 2, cookies.bytes());
    draft.steps(asked, fault, http, env)
}

/// A response that is being made up.
struct Draft {
    status: u16,
    framing: Framing,
    nonce: u64,
    /// What is said before it.
    interim: Vec<u8>,
    head: Vec<u8>,
    body: Vec<u8>,
    is_coded: bool,
    /// What comes of the body beyond its announced end.
    surplus: Vec<u8>,
    /// The connection ends behind it.
    closes: bool,
}

impl Draft {
    fn new(
        asked: &Asked,
        status: u16,
        fault: Option<Fault>,
        http: &mut Http,
        env: &mut Env,
    ) -> Self {
        let is_bodiless = matches!(status, 204 | 304);
        let has_body = !is_bodiless && asked.method != "HEAD";
        let most = if status == 503 { 200 } else { env.plan.body_bytes };
        let length = env.random.magnitude(most);
        // Where the end of the stream proves nothing, it is often what is to be relied on.
        let framings = if http.hides_end { 3 } else { 8 };
        let framing = match env.random.below(framings) {
            0 if has_body => Framing::Close,
            1..=3 => Framing::Chunked,
            _ => Framing::Length,
        };
        let is_old = framing != Framing::Chunked && env.random.chance(60);
        let closes =
            framing == Framing::Close || is_old || asked.asks_close || env.random.chance(60);
        // Without close_notify, only the length tells that nothing is missing.
        let is_unsure = framing == Framing::Close && http.hides_end;
        let whole = if has_body { length } else { 0 };
        let whole = Answer { id: asked.id, whole: (!is_unsure).then_some(whole) };
        let nonce = env.ledger.answer(whole);
        let mut body = body_bytes(nonce, 0, length as usize);
        let coded = asked.accepts_codings && env.random.chance(env.plan.coded_pm);
        let coded = coded.then(|| Coded::pick(&mut env.random, env.ledger.salt, nonce));
        env.brs += u64::from(coded.is_some_and(Coded::is_br));
        if let Some(coded) = coded {
            body = coded.encode(&body);
            if fault == Some(Fault::BadCoding) && has_body {
                coded.spoil(&mut body, &mut env.random);
                env.ledger.spoil(nonce);
            }
        }
        let mut head =
            format!("HTTP/1.{} {status} Because\r\nX-Nonce: {nonce}\r\n", 1 - u8::from(is_old));
        let is_told = framing == Framing::Close || is_old;
        if closes && !(is_told && env.random.chance(500)) {
            head.push_str("Connection: close\r\n");
        } else if env.random.chance(100) {
            let seconds = env.random.below(4);
            head.push_str(&format!("Keep-Alive: timeout={seconds}\r\n"));
        }
        head.push_str(&paces::fields(status, env.plan.quota_pm, &mut env.random));
        if let Some(coded) = coded {
            head.push_str(&format!("Content-Encoding: {}\r\n", coded.name()));
        }
        let is_coded = coded.is_some();
        let said = Said { framing, has_body, is_bodiless, is_coded, fault };
        let (said, mut body, end) = said.frame(&body, env);
        let surplus = body.split_off(end);
        head.push_str(&said);
        head.push_str("\r\n");
        let interim = interim(fault, env);
        let body = if has_body { body } else { Vec::new() };
        let head = head.into_bytes();
        Self { status, framing, nonce, interim, head, body, is_coded, surplus, closes }
    }

    fn steps(
        mut self,
        asked: &Asked,
        fault: Option<Fault>,
        http: &mut Http,
        env: &mut Env,
    ) -> Vec<Step> {
        match fault {
            Some(Fault::CutByFin | Fault::CutByReset | Fault::CutBySilence) => {
                return self.cut(fault, http, env);
            }
            Some(Fault::LongLength) => self.closes = true,
            Some(Fault::Garbage) => return self.garbage(env),
            Some(Fault::HugeHead) if !env.plan.is_narrow => {
                env.ledger.spoil(self.nonce);
                let filler = format!("X-Filler: {}\r\n", "y".repeat(2_000)).repeat(40);
                self.head.splice(self.head.len() - 2..self.head.len() - 2, filler.bytes());
            }
            Some(Fault::Endless) if !matches!(self.status, 204 | 304) && asked.method != "HEAD" => {
                return self.endless(env);
            }
            Some(Fault::Drip) => return self.drip(env),
            _ => {}
        }
        let mut steps = self.parts(env);
        if self.closes {
            steps.push(Step::Fin);
            return steps;
        }
        if http.tls.is_some() && env.random.chance(env.plan.rekey_pm) {
            if env.random.chance(500) {
                steps.push(Step::Wait(env.random.magnitude(500_000)));
            }
            steps.push(Step::Keys);
        }
        match fault {
            Some(Fault::Twice) => {
                steps.push(Step::Poison(unasked(&mut env.random)));
                http.has_spoken = true;
            }
            Some(Fault::IdleSpeech) => {
                steps.push(Step::Wait(env.random.magnitude(2_000_000)));
                steps.push(Step::Poison(unasked(&mut env.random)));
            }
            Some(Fault::IdleEnd) => {
                steps.push(Step::Wait(env.random.magnitude(2_000_000)));
                steps.push(if env.random.chance(700) { Step::Fin } else { Step::Reset });
            }
            Some(Fault::EndOnReuse) => http.ends_on_reuse = true,
            Some(Fault::SpeechOnReuse) => http.speaks_on_reuse = true,
            Some(Fault::CutRequest) => http.cuts_after = Some(1 + env.random.magnitude(400)),
            _ => {}
        }
        steps
    }

    /// All of it, and where it frees what.
    fn parts(&mut self, env: &mut Env) -> Vec<Step> {
        let is_judged = matches!(self.status, 401 | 407 | 417 | 503);
        let mut steps = self.head_steps(env);
        if is_judged {
            steps.push(Step::EndOfHead);
        }
        if !self.body.is_empty() {
            steps.push(Step::Bytes(std::mem::take(&mut self.body)));
        }
        steps.push(Step::EndOfAnswer { frees: !is_judged });
        if !self.surplus.is_empty() {
            steps.push(Step::Poison(std::mem::take(&mut self.surplus)));
        }
        steps
    }

    fn head_steps(&mut self, env: &mut Env) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.interim.is_empty() {
            steps.push(Step::Bytes(std::mem::take(&mut self.interim)));
            if env.random.chance(500) {
                steps.push(Step::Wait(env.random.magnitude(100_000)));
            }
        }
        steps.push(Step::Bytes(std::mem::take(&mut self.head)));
        steps
    }

    /// All of it up to some byte.
    fn cut(mut self, fault: Option<Fault>, http: &mut Http, env: &mut Env) -> Vec<Step> {
        let head_bytes = self.interim.len() + self.head.len();
        let all_bytes = head_bytes + self.body.len();
        let at = match env.random.below(3) {
            0 => env.random.index(all_bytes + 1),
            1 => env.random.index(head_bytes + 1),
            _ => all_bytes - env.random.index(3).min(all_bytes),
        };
        let is_ended = self.framing == Framing::Close;
        let is_honest_close = is_ended && fault == Some(Fault::CutByFin) && at >= head_bytes;
        if is_honest_close && !http.hides_end {
            // Nobody can tell that something is missing; but a coding has an end, where there is
            // any of it.
            match at - head_bytes {
                kept if !self.is_coded || kept == 0 => {
                    env.ledger.shorten(self.nonce, kept as u64);
                }
                kept if kept < self.body.len() => env.ledger.spoil(self.nonce),
                _ => {}
            }
        } else if is_ended || at < all_bytes {
            env.ledger.spoil(self.nonce);
        }
        let mut steps = truncated(self.parts(env), at);
        match fault {
            Some(Fault::CutByFin) => steps.push(Step::Fin),
            Some(Fault::CutByReset) => {
                if env.random.chance(500) {
                    steps.push(Step::Wait(env.random.magnitude(50_000)));
                }
                steps.push(Step::Reset);
            }
            _ => {}
        }
        steps
    }

    fn garbage(self, env: &mut Env) -> Vec<Step> {
        env.ledger.spoil(self.nonce);
        let mut bytes = match env.random.below(4) {
            0 => vec![0; 40],
            1 => b"HTTP/1.1 200\x00 OK\r\n\r\n".to_vec(),
            2 => b"HTTP/3.0 OK\r\n\r\n".to_vec(),
            _ => self.head.clone(),
        };
        let at = env.random.index(bytes.len().min(12));
        bytes[at] ^= 0x80;
        let mut steps = vec![Step::Bytes(bytes)];
        if env.random.chance(700) {
            steps.push(Step::Fin);
        }
        steps
    }

    fn endless(mut self, env: &mut Env) -> Vec<Step> {
        env.ledger.spoil(self.nonce);
        let chunked = env.random.chance(500);
        let how = if chunked { "Transfer-Encoding: chunked" } else { "Connection: close" };
        self.head = format!("HTTP/1.1 200 OK\r\nX-Nonce: {}\r\n{how}\r\n\r\n", self.nonce).into();
        let mut steps = self.head_steps(env);
        let piece = endless_piece(env);
        steps.push(Step::Endless { nonce: self.nonce, at: 0, chunked, piece });
        steps
    }

    /// A byte, or a few, and a pause.
    fn drip(mut self, env: &mut Env) -> Vec<Step> {
        let all_bytes = self.interim.len() + self.head.len() + self.body.len();
        if all_bytes > DRIPPED_BYTES_MAX || self.framing == Framing::Close {
            env.ledger.spoil(self.nonce);
        }
        let piece = 1 + env.random.magnitude(100) as usize;
        let pause = env.random.magnitude(1_500_000);
        let mut steps = Vec::new();
        for step in truncated(self.parts(env), DRIPPED_BYTES_MAX) {
            let Step::Bytes(bytes) = step else {
                steps.push(step);
                continue;
            };
            for piece in bytes.chunks(piece) {
                steps.push(Step::Wait(pause));
                steps.push(Step::Bytes(piece.to_vec()));
            }
        }
        steps.push(Step::Wait(pause));
        steps.push(Step::Reset);
        steps
    }
}

/// The steps up to so many bytes; all, where there are no more.
fn truncated(steps: Vec<Step>, mut bytes_max: usize) -> Vec<Step> {
    let mut kept = Vec::new();
    for step in steps {
        let Step::Bytes(mut bytes) = step else {
            kept.push(step);
            continue;
        };
        let is_cut = bytes.len() > bytes_max;
        bytes.truncate(bytes_max);
        bytes_max -= bytes.len();
        kept.push(Step::Bytes(bytes));
        if is_cut {
            break;
        }
    }
    kept
}

fn interim(fault: Option<Fault>, env: &mut Env) -> Vec<u8> {
    let count = match fault {
        Some(Fault::ManyInterim) => env.random.range(1, 40),
        // One more may be a 100 that was asked for.
        _ if env.random.chance(100) => env.random.range(1, 4),
        _ => 0,
    };
    let mut bytes = Vec::new();
    for _ in 0..count {
        let kind = *env.random.pick(&[
            b"HTTP/1.1 100 Continue\r\n\r\n".as_slice(),
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\n\r\n",
        ]);
        bytes.extend_from_slice(kind);
    }
    bytes
}

/// A 401 that the request will answer, or a 407 of the proxy.
fn challenge(
    status: u16,
    asked: &Asked,
    origin: usize,
    fault: Option<Fault>,
    http: &mut Http,
    env: &mut Env,
) -> Vec<Step> {
    env.ledger.expect_again(asked.id, asked.hop);
    let mut draft = Draft::new(asked, status, fault, http, env);
    // Nobody may be given it.
    env.ledger.spoil(draft.nonce);
    let line = match http.proxy.filter(|_| status == 407) {
        Some(proxy) => {
            env.proxies.forgotten += u64::from(asked.proxy_login.is_some());
            proxies::line(proxy, env)
        }
        None => logins::line(asked, origin, env),
    };
    draft.head.splice(draft.head.len() - 2..draft.head.len() - 2, line.bytes());
    draft.steps(asked, fault, http, env)
}

fn redirect(asked: &Asked, origin: usize, fault: Option<Fault>, env: &mut Env) -> Vec<Step> {
    let status = *env.random.pick(&[301, 302, 303, 307, 308]);
    let to = if env.random.chance(500) { origin } else { env.random.index(env.origins.len()) };
    let hop = if fault == Some(Fault::Loop) && env.random.chance(500) {
        asked.hop
    } else {
        asked.hop + 1
    };
    if hop == asked.hop {
        env.ledger.expect_again(asked.id, hop);
    }
    env.logins.move_on(asked.id);
    // A secure one does not lead to one that is not, unless that is the point.
    let downgrades =
        env.origins[origin].tls.is_some() && !env.origins[to].base.starts_with("https");
    let mut path = format!("/{}/{hop}", asked.id);
    if env.basics.are_shown() && (asked.is_away || (to != origin && !downgrades)) {
        path = format!("{path}/{AWAY}");
    }
    let is_near = to == origin && env.random.chance(500);
    let cookies = cookies::line_of_redirect(asked, origin, to, env);
    let to = &env.origins[to].base;
    let is_near = is_near || downgrades;
    let location = if is_near { path } else { format!("{to}{path}") };
    // Its body is nobody's: a fetch that is not led on is given it.
    let nonce = env.ledger.answer(Answer { id: asked.id, whole: None });
    let length = match fault {
        Some(Fault::LongRedirect) if !env.plan.is_narrow => env.random.magnitude(400_000),
        _ => env.random.magnitude(500),
    };
    let mut head =
        format!("HTTP/1.1 {status} Elsewhere\r\nX-Nonce: {nonce}\r\nLocation: {location}\r\n");
    head.push_str(&cookies);
    let mut steps = Vec::new();
    if fault == Some(Fault::LongRedirect) && env.random.chance(500) && asked.method != "HEAD" {
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
        steps.extend([Step::Bytes(head.into_bytes()), Step::EndOfHead]);
        let piece = endless_piece(env);
        steps.push(Step::Endless { nonce, at: 0, chunked: true, piece });
        return steps;
    }
    head.push_str(&format!("Content-Length: {length}\r\n\r\n"));
    steps.extend([Step::Bytes(head.into_bytes()), Step::EndOfHead]);
    if asked.method != "HEAD" && length > 0 {
        steps.push(Step::Bytes(body_bytes(nonce, 0, length as usize)));
    }
    steps.push(Step::EndOfAnswer { frees: false });
    steps
}

fn endless_piece(env: &mut Env) -> usize {
    let room = env.plan.segment_bytes.min(env.plan.receive_bytes as u64);
    1 + env.random.magnitude((4 * room).min(20_000)) as usize
}

/// What is dripped at the most, or a seed takes for ever.
const DRIPPED_BYTES_MAX: usize = 3_000;
