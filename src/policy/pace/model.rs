//! Tests. The pacer against what its rules say in the plainest words: a list of all that began.

use std::time::Duration;

use proptest::prelude::*;

use super::{Pacer, Verdict};
use crate::kit::moment::Moment;
use crate::pace::{Circuit, Pace, Rate};

/// What happens to a pacer.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// So much time passes.
    Pass(u64),
    Judge,
    /// Judged when it said that it may be, and so much later.
    JudgeInTime(u64),
    Pause(u64),
    Succeed,
    Fail,
    FailOfProbe,
    LoseProbe,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..3_000_000_u64).prop_map(Act::Pass),
        5 => Just(Act::Judge),
        5 => (0..2_000_u64).prop_map(Act::JudgeInTime),
        1 => (0..5_000_000_u64).prop_map(Act::Pause),
        1 => Just(Act::Succeed),
        3 => Just(Act::Fail),
        2 => Just(Act::FailOfProbe),
        1 => Just(Act::LoseProbe),
    ]
}

fn rules(rate: Option<(f64, u32)>, circuit: Option<(u32, u64)>) -> Pace {
    Pace {
        rate: rate.and_then(|(rate, burst)| Some(Rate::per_second(rate)?.burst(burst))),
        heeds_limits: true,
        circuit: circuit.map(|(failures, micros)| {
            Circuit::after(failures).tried_again_after(Duration::from_micros(micros))
        }),
        ..Pace::default()
    }
}

/// The same, without an idea how it could be done cheaply.
struct Model {
    rules: Pace,
    now: u64,
    began: Vec<u64>,
    paused_until: u64,
    failures: u32,
    /// The circuit has opened, until then.
    open_until: Option<u64>,
    is_probing: bool,
}

impl Model {
    /// Whether a token is there: in no time that ends now have more begun than may.
    fn has_token(&self) -> bool {
        let Some(rate) = self.rules.rate else { return true };
        let interval = u64::try_from(rate.interval().as_micros()).unwrap();
        let saved_up = u64::try_from(rate.saved_up().as_micros()).unwrap();
        self.began.iter().rev().zip(1..).all(|(began, later)| {
            // With this one, `later + 1` begin in what has passed since.
            later * interval <= self.now - began + saved_up
        })
    }

    fn judge(&self) -> &'static str {
        if self.is_probing || self.open_until.is_some_and(|until| self.now < until) {
            "refuse"
        } else if self.now < self.paused_until || !self.has_token() {
            "wait"
        } else if self.open_until.is_some() {
            "probe"
        } else {
            "go"
        }
    }

    fn note(&mut self, verdict: Verdict) {
        if matches!(verdict, Verdict::Go | Verdict::Probe) {
            self.began.push(self.now);
            self.is_probing = verdict == Verdict::Probe;
        }
    }

    fn fail(&mut self, is_probe: bool) {
        let Some(circuit) = self.rules.circuit else { return };
        let counts = if self.open_until.is_some() { self.is_probing && is_probe } else { true };
        if counts {
            self.failures += 1;
            if self.failures >= circuit.failures() {
                let open_for = u64::try_from(circuit.open_for().as_micros()).unwrap();
                self.open_until = Some(self.now + open_for);
                self.is_probing = false;
            }
        }
    }
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Go => "go",
        Verdict::Probe => "probe",
        Verdict::Wait(_) => "wait",
        Verdict::Refuse => "refuse",
    }
}

proptest! {
    #[test]
    fn the_pacer_says_what_the_list_says(
        rate in proptest::option::of((0.2..5_000.0_f64, 0..6_u32)),
        circuit in proptest::option::of((0..5_u32, 0..4_000_000_u64)),
        began in prop_oneof![Just(0), Just(1_u64 << 40)],
        acts in proptest::collection::vec(act(), 0..80),
    ) {
        let rules = rules(rate, circuit);
        let mut pacer = Pacer::<u64>::new();
        let mut model = Model {
            rules: rules.clone(),
            now: began,
            began: Vec::new(),
            paused_until: 0,
            failures: 0,
            open_until: None,
            is_probing: false,
        };
        for act in acts {
            let now = Moment::from_micros(model.now);
            match act {
                Act::Pass(micros) => model.now += micros,
                Act::Judge | Act::JudgeInTime(_) => {
                    let said = model.judge();
                    let verdict = pacer.judge(&rules, now);
                    prop_assert_eq!(name(verdict), said);
                    model.note(verdict);
                    if let (Verdict::Wait(at), Act::JudgeInTime(late)) = (verdict, act) {
                        // Not a microsecond too early, and not one too late.
                        model.now = at.micros() - 1;
                        prop_assert_eq!(model.judge(), "wait");
                        model.now = at.micros() + late;
                        let said = model.judge();
                        let verdict = pacer.judge(&rules, Moment::from_micros(model.now));
                        prop_assert_eq!(name(verdict), said);
                        prop_assert!(matches!(verdict, Verdict::Go | Verdict::Probe));
                        model.note(verdict);
                    }
                }
                Act::Pause(micros) => {
                    pacer.pause(now.after(Duration::from_micros(micros)));
                    model.paused_until = model.paused_until.max(model.now + micros);
                }
                Act::Succeed => {
                    pacer.succeeded();
                    (model.failures, model.open_until, model.is_probing) = (0, None, false);
                }
                Act::Fail | Act::FailOfProbe => {
                    let is_probe = matches!(act, Act::FailOfProbe);
                    let was_refusing = model.open_until.is_some() && !model.is_probing;
                    let opened = pacer.failed(&rules, now, is_probe, || model.now);
                    model.fail(is_probe);
                    let is_open = model.open_until.is_some() && !model.is_probing;
                    prop_assert_eq!(opened, is_open && !was_refusing);
                }
                Act::LoseProbe => {
                    pacer.probe_lost(now);
                    if std::mem::take(&mut model.is_probing) {
                        model.open_until = Some(model.now);
                    }
                }
            }
            let refusal = pacer.refusal().map(|(failures, ..)| failures);
            prop_assert_eq!(refusal, model.open_until.map(|_| model.failures));
            if pacer.is_forgotten(Moment::from_micros(model.now)) {
                prop_assert_eq!(model.judge(), "go");
            }
        }
    }

    /// Always asked for as soon as it may be, and never more than two milliseconds late, it gives
    /// all that the rate has.
    #[test]
    fn the_rate_is_reached(
        rate in 0.5..2_000.0_f64,
        lates in proptest::collection::vec(0..2_000_u64, 200),
    ) {
        let rules = rules(Some((rate, 1)), None);
        let interval = rules.rate.unwrap().interval();
        let mut pacer = Pacer::<()>::new();
        let (mut now, mut begun) = (Moment::START, 0_u32);
        for late in lates {
            while let Verdict::Wait(at) = pacer.judge(&rules, now) {
                now = at.after(Duration::from_micros(late));
            }
            begun += 1;
        }
        let least = interval * (begun - 1);
        let saved_up = rules.rate.unwrap().saved_up();
        let took = now.since(Moment::START);
        let soonest = least.saturating_sub(saved_up + Duration::from_millis(2));
        prop_assert!(soonest <= took && took <= least, "{took:?}");
    }
}

#[test]
fn a_row_of_failures_is_forgotten_after_ten_minutes() {
    let rules = rules(None, Some((2, 1_000_000)));
    let minute = |n: u64| Moment::from_micros(n * 60_000_000);
    let mut pacer = Pacer::<u64>::new();
    assert!(!pacer.failed(&rules, minute(20), false, || 0));
    assert!(!pacer.is_forgotten(minute(30)) && pacer.is_forgotten(minute(31)));
    assert!(!pacer.failed(&rules, minute(31), false, || 0));
    assert!(pacer.failed(&rules, minute(41), false, || 7));
    assert_eq!(pacer.judge(&rules, minute(41)), Verdict::Refuse);
    assert_eq!(pacer.refusal(), Some((2, &7, Some(minute(41).after(Duration::from_secs(1))))));
    assert_eq!(pacer.judge(&rules, minute(42)), Verdict::Probe);
    assert!(!pacer.is_forgotten(minute(90)));
    pacer.succeeded();
    assert!(pacer.is_forgotten(minute(42)));
}

#[test]
fn the_end_of_time_does_no_harm() {
    let rules = rules(Some((0.001, u32::MAX)), Some((1, u64::MAX)));
    let end = Moment::from_micros(u64::MAX - 1);
    let mut pacer = Pacer::<()>::new();
    assert_eq!(pacer.judge(&rules, end), Verdict::Go);
    pacer.pause(end.after(Duration::MAX));
    assert_eq!(pacer.judge(&rules, end), Verdict::Wait(Moment::NEVER));
    assert!(pacer.failed(&rules, end, false, || ()));
    assert_eq!(pacer.judge(&rules, end), Verdict::Refuse);
}
