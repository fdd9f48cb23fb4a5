//! What the program asks for: one request by its number, and what is known of its fetch.

use std::time::{Duration, Instant};

use whippet::{FetchId, Limit, Request, Settings};

use super::ledger::Asking;
use super::random::{Random, mix};
use super::uploads::{self, Pushing};
use super::world::Env;
use super::{span, upgrades};

/// One fetch, as the program knows it.
pub(crate) struct Job {
    /// None: it is being submitted.
    pub(crate) fetch: Option<FetchId>,
    pub(crate) collects: bool,
    pub(crate) nonce: Option<u64>,
    pub(crate) taken: u64,
    pub(crate) paused_until: Option<u64>,
    pub(crate) total: Option<Duration>,
    pub(crate) deadline: Option<u64>,
    /// Its body, where it is pushed.
    pub(crate) pushing: Option<Pushing>,
    /// How much it means to say in another protocol, where it asks for one.
    pub(crate) says: Option<u64>,
}

/// Request `id`, and the job that it is.
pub(crate) fn request(
    id: u64,
    settings: &Settings,
    epoch: Instant,
    env: &mut Env,
) -> (Request, Job) {
    let salt = env.ledger.salt;
    // Chosen by the request's number alone: a request that did not fit is the same later.
    let mut random = Random::new(mix(salt ^ id));
    let at = random.index(env.origins.len());
    let method = *random.pick(&["GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE"]);
    let url = format!("{}/{id}/0", env.origins[at].base);
    let mut request = env.basics.choose(Request::new(method, url).unwrap(), id).tag(id);
    let (mut length, mut pushing, mut is_once) = (0, None, false);
    if matches!(method, "POST" | "PUT") {
        length = random.magnitude(env.plan.body_bytes.max(100));
        let (body, pushed, once) = match env.files.body(id, length) {
            Some(file) => (file, None, false),
            None => uploads::body(id, salt, length),
        };
        (pushing, is_once) = (pushed, once);
        request = request.body(body).expect_continue(uploads::expects(id, salt));
    }
    let collects = random.chance(500);
    request = request.collect(collects);
    if random.chance(100) {
        request = request.decode(false);
    }
    if random.chance(60) {
        request = request.header("Connection", "close").unwrap();
    }
    #[cfg(feature = "digest")]
    if random.chance(env.plan.login_pm) && !is_once && !env.basics.has(id) {
        request = request.digest_auth("me", "hush").unwrap();
        env.logins.enable(id);
    }
    let (upgrade_pm, most) = (env.plan.upgrade_pm, env.plan.body_bytes);
    let says = upgrades::says(id, salt, upgrade_pm, most);
    if says.is_some() {
        request = request.upgrade("sim").unwrap();
    }
    if random.chance(50) {
        request = request.cookies(false);
        env.cookies.leave_out(id);
    }
    let (total, deadline);
    (request, total, deadline) = limited(request, settings, epoch, env, &mut random);
    let chance = Random::new(mix(!salt ^ id));
    request = env.proxies.choose(request, chance);
    request = env.ways.choose(request, id, &env.origins);
    request = env.trusts.choose(request, id);
    let (body_bytes, is_collected) = (length, collects);
    let asking = Asking { body_bytes, is_once, origin: at, says, is_collected };
    env.ledger.ask(id, asking);
    let job = Job {
        fetch: None,
        collects,
        nonce: None,
        taken: 0,
        paused_until: None,
        total,
        deadline,
        pushing,
        says,
    };
    (request, job)
}

/// A request with limits of its own, perhaps; its total, and its deadline.
fn limited(
    mut request: Request,
    settings: &Settings,
    epoch: Instant,
    env: &Env,
    random: &mut Random,
) -> (Request, Option<Duration>, Option<u64>) {
    let (mut total, mut deadline) = (settings.timeouts.get(Limit::Total), None);
    if !env.plan.has_limits {
        return (request, total, deadline);
    }
    if random.chance(200) {
        let limit = span(random, 20_000_000);
        request = request.timeout(limit);
        total = Some(limit);
    }
    if random.chance(100) {
        let at = env.now + random.magnitude(20_000_000);
        request = request.deadline(epoch + Duration::from_micros(at));
        deadline = Some(at);
    }
    if random.chance(100) {
        request = request.body_bytes_max(random.magnitude(100_000));
    }
    if random.chance(200) {
        request = request.retries(random.below(4) as u32);
    }
    (request, total, deadline)
}
