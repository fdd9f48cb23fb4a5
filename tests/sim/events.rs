//! What the reactor tells the program, and what must hold of it.

use std::collections::BTreeMap;
use std::time::Duration;

use whippet::{Error, Event, FetchId, Head, Kind, Phase, Response, Stats};

use super::basic::SECRET;
use super::jobs::Job;
use super::plan::Scenario;
use super::story::digest;
use super::uploads::Pushes;
use super::world::{Env, World};
use super::{trusts, ways};

/// Takes one event. `Some`: a fetch that goes on.
pub(crate) fn take(
    world: &mut World,
    jobs: &mut BTreeMap<u64, Job>,
    pushes: &mut Pushes,
    over: &mut Vec<FetchId>,
    event: Event<'_>,
) -> Option<u64> {
    let (Event::Head { id, tag, .. }
    | Event::Body { id, tag, .. }
    | Event::Writable { id, tag, .. }
    | Event::Done { id, tag, .. }
    | Event::Failed { id, tag, .. }) = &event
    else {
        return None;
    };
    let tag = *tag;
    let Some(job) = jobs.get_mut(&tag).filter(|job| job.fetch == Some(*id)) else {
        world.env.ledger.break_law(format!("an event of fetch {tag}, which has ended"));
        return None;
    };
    let env = &mut world.env;
    match event {
        Event::Head { head, .. } => {
            env.story.tell(env.now, &[61, tag, head.status().as_u16().into()], || {
                format!("f{tag}  head: {}", head.status())
            });
            if job.paused_until.is_some() || job.collects || job.nonce.is_some() {
                env.ledger.break_law(format!("fetch {tag} was given a head it cannot take"));
            }
            job.nonce = Some(nonce_of(&head));
            env.ledger.check_chunk(tag, nonce_of(&head), 0, &[]);
            if head.status() == 101 {
                switch(env, pushes, tag, job);
            }
            Some(tag)
        }
        Event::Body { chunk, .. } => {
            env.story.tell(env.now, &[62, tag, digest(chunk)], || {
                format!("f{tag}  body: {} bytes", chunk.len())
            });
            if job.paused_until.is_some() || job.collects || job.nonce.is_none() || chunk.is_empty()
            {
                env.ledger.break_law(format!("fetch {tag} was given a body it cannot take"));
            }
            env.ledger.check_chunk(tag, job.nonce.unwrap_or_default(), job.taken, chunk);
            job.taken += chunk.len() as u64;
            Some(tag)
        }
        Event::Writable { offset, .. } => {
            env.story.tell(env.now, &[65, tag, offset], || {
                format!("f{tag}  is asked for byte {offset} of its body")
            });
            pushes.asked(tag, offset, env.now, &mut env.ledger);
            Some(tag)
        }
        Event::Done { stats, response, .. } => {
            pushes.end(tag);
            done(world, tag, job, &stats, response.as_ref());
            end(jobs, over, tag);
            None
        }
        Event::Failed { error, stats, partial, .. } => {
            pushes.end(tag);
            failed(world, tag, job, &error, &stats, partial.as_ref());
            end(jobs, over, tag);
            None
        }
        _ => None,
    }
}

/// A fetch has changed its protocol: the program has something to say in it.
fn switch(env: &mut Env, pushes: &mut Pushes, tag: u64, job: &Job) {
    match (job.says, job.fetch) {
        (Some(says), Some(fetch)) => pushes.switch(tag, fetch, says),
        _ => env.ledger.break_law(format!("fetch {tag} changed to what it did not ask for")),
    }
}

fn end(jobs: &mut BTreeMap<u64, Job>, over: &mut Vec<FetchId>, tag: u64) {
    over.extend(jobs.remove(&tag).and_then(|job| job.fetch));
}

pub(crate) fn done(
    world: &mut World,
    tag: u64,
    job: &Job,
    stats: &Stats,
    response: Option<&Response>,
) {
    let env = &mut world.env;
    env.ledger.fetches_done += 1;
    env.story.tell(env.now, &[63, tag, stats.wire_bytes, stats.attempts.into()], || {
        format!("f{tag}  done: {} bytes, {} attempts", stats.wire_bytes, stats.attempts)
    });
    if response.is_some() != job.collects {
        env.ledger.break_law(format!("fetch {tag} is told in the wrong way"));
    }
    let (nonce, taken) = match response {
        Some(response) => {
            let nonce = nonce_of(&response.head());
            env.ledger.check_chunk(tag, nonce, 0, response.body());
            (nonce, response.body().len() as u64)
        }
        None => (job.nonce.unwrap_or_default(), job.taken),
    };
    env.ledger.check_whole(tag, nonce, taken);
    if ways::is_doomed(tag, env) {
        env.ledger.break_law(format!("fetch {tag} ended well, and had no socket"));
    }
    if env.files.was_cut(tag) && env.plan.scenario.is_calm() {
        env.ledger.break_law(format!("fetch {tag} ended well without a part of its file"));
    }
    check_time(world, tag, job, stats);
}

pub(crate) fn failed(
    world: &mut World,
    tag: u64,
    job: &Job,
    error: &Error,
    stats: &Stats,
    partial: Option<&Response>,
) {
    let env = &mut world.env;
    env.ledger.fetches_failed += 1;
    env.story.tell(env.now, &[64, tag, stats.attempts.into(), error.kind() as u64], || {
        format!("f{tag}  failed: {error}")
    });
    if let Some(partial) = partial {
        env.ledger.check_chunk(tag, nonce_of(&partial.head()), 0, partial.body());
    }
    let is_once = env.ledger.asking(tag).is_some_and(|asking| asking.is_once);
    let is_refusal = env.paces.is_refusal(error);
    let is_of_its_way = ways::excuses(tag, error, env);
    let is_of_its_trust = trusts::excuses(tag, error, env);
    let is_of_its_file = env.files.excuses(tag, error);
    let may = env.ledger.is_excused(tag)
        || is_of_its_file
        || is_of_its_way
        || is_of_its_trust
        || (is_refusal && !env.plan.scenario.is_calm())
        || error.kind() == Kind::Redirect && is_once
        || matches!(error.kind(), Kind::Timeout | Kind::TooLarge) && env.plan.has_limits
        || env.plan.scenario == Scenario::Scarce;
    if !may {
        env.ledger.break_law(format!("fetch {tag} failed without a cause: {error}"));
    }
    if error.kind() == Kind::Denied && !is_of_its_way {
        env.ledger.break_law(format!("fetch {tag} was denied what it may contact: {error}"));
    }
    if error.to_string().contains(SECRET) || format!("{error:?}").contains(SECRET) {
        env.ledger.break_law(format!("fetch {tag} tells its password: {error}"));
    }
    if error.kind() == Kind::Connect && error.phase() == Phase::Queue && !is_refusal {
        env.ledger.break_law(format!("fetch {tag} was refused without a circuit: {error}"));
    }
    if error.kind() == Kind::Timeout && error.limit().is_none() {
        env.ledger.break_law(format!("fetch {tag} timed out by no limit"));
    }
    check_time(world, tag, job, stats);
}

/// Whether it has ended by its limits.
fn check_time(world: &mut World, tag: u64, job: &Job, stats: &Stats) {
    let env = &mut world.env;
    let slack = Duration::from_micros(env.plan.slack_us() * 2 + TICK_US + env.leapt_us);
    let took = stats.timings.total;
    if let Some(total) = job.total
        && took > total.saturating_add(slack)
    {
        env.ledger.break_law(format!("fetch {tag} took {took:?}, of {total:?} that it had"));
    }
}

pub(crate) fn nonce_of(head: &Head<'_>) -> u64 {
    let value = head.header("X-Nonce").unwrap_or_default();
    String::from_utf8_lossy(value).parse().unwrap_or_default()
}

/// The reactor's.
pub(crate) const TICK_US: u64 = 1_000;
