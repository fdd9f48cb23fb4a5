//! What one seed has in store: a scenario, and how often each fault of it strikes.

use super::random::Random;

/// What a seed is mostly about. A seed's scenario is its number modulo their count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scenario {
    /// Servers behave, and no limit is set: every fetch must succeed, however the bytes come.
    Calm,
    /// Resets, ends and silence at every byte; lengths that lie.
    Cut,
    /// Servers that answer early, twice, unasked, or not in HTTP.
    Rude,
    /// Drips, endless bodies, silence, with short limits.
    Slow,
    /// Refused, unreachable, swallowed connects; several addresses a host.
    Dial,
    /// Names are looked up, and the name servers misbehave.
    Names,
    /// TLS, whose servers behave.
    Secure,
    /// TLS, with faults in it and below.
    Unsafe,
    /// Descriptors run out.
    Scarce,
    /// Bodies in content codings, whole and broken.
    Coded,
    /// Any of it.
    Everything,
}

impl Scenario {
    pub(crate) const ALL: [Self; 11] = [
        Self::Calm,
        Self::Cut,
        Self::Rude,
        Self::Slow,
        Self::Dial,
        Self::Names,
        Self::Secure,
        Self::Unsafe,
        Self::Scarce,
        Self::Coded,
        Self::Everything,
    ];

    pub(crate) fn of(seed: u64) -> Self {
        Self::ALL[(seed % Self::ALL.len() as u64) as usize]
    }

    /// What its servers do instead of answering well.
    fn faults(self) -> &'static [Fault] {
        use Fault::*;
        match self {
            Self::Calm | Self::Secure => &[],
            Self::Cut | Self::Unsafe => {
                &[CutByFin, CutByReset, CutBySilence, CutRequest, LongLength, ShortLength, BadChunk]
            }
            #[rustfmt::skip]
            Self::Rude => &[
                Early, ManyInterim, Twice, IdleSpeech, IdleEnd, EndOnReuse, SpeechOnReuse, Garbage,
                HugeHead, ShortLength, Loop, LongRedirect, Switch,
            ],
            #[rustfmt::skip]
            Self::Coded => &[
                BadCoding, BadCoding, CutByFin, CutByReset, LongLength, ShortLength, BadChunk, Drip,
            ],
            Self::Slow => &[Drip, Endless, CutBySilence, LongRedirect, Early],
            Self::Dial | Self::Names | Self::Scarce => &[IdleEnd, CutByReset, SpeechOnReuse],
            #[rustfmt::skip]
            Self::Everything => &[
                CutByFin, CutByReset, CutBySilence, CutRequest, LongLength, ShortLength, Early,
                ManyInterim, Twice, IdleSpeech, IdleEnd, EndOnReuse, SpeechOnReuse, Drip, Endless,
                Garbage, HugeHead, BadChunk, Loop, LongRedirect, BadCoding, Switch,
            ],
        }
    }

    /// Nothing that happens excuses a failure.
    pub(crate) fn is_calm(self) -> bool {
        matches!(self, Self::Calm | Self::Secure)
    }
}

/// The knobs. Those that end in `_pm` are chances in a thousand.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    /// What the clock says at first.
    pub(crate) begins_us: u64,

    // The kernel and the wires.
    /// Every arrival makes an event, as on Linux; or only those that the contract asks for.
    pub(crate) eager_edges: bool,
    /// An event tells all that holds; or only what has changed.
    pub(crate) whole_masks: bool,
    pub(crate) latency_us: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) receive_bytes: usize,
    pub(crate) send_bytes: usize,
    /// So little goes through at once that nothing long must.
    pub(crate) is_narrow: bool,
    pub(crate) short_read_pm: u32,
    pub(crate) short_write_pm: u32,
    pub(crate) would_block_pm: u32,
    pub(crate) spurious_pm: u32,
    /// The next step of a server comes in the same instant.
    pub(crate) joined_pm: u32,
    /// How much later than the first event a poll may return.
    pub(crate) batch_us: u64,
    pub(crate) events_max: usize,
    pub(crate) clock_step_us: u64,
    pub(crate) overshoot_us: u64,
    /// How often hours pass in one sleep.
    pub(crate) leap_pm: u32,
    pub(crate) interrupted_pm: u32,
    pub(crate) reset_purges: bool,

    // The servers.
    pub(crate) faulty_answer_pm: u32,
    pub(crate) redirect_pm: u32,
    pub(crate) cookie_pm: u32,
    pub(crate) login_pm: u32,
    /// How often a response says what is left of a quota.
    pub(crate) quota_pm: u32,
    pub(crate) unavailable_pm: u32,
    /// How many requests ask for another protocol.
    pub(crate) upgrade_pm: u32,
    pub(crate) faults: Vec<Fault>,
    pub(crate) body_bytes: u64,
    pub(crate) coded_pm: u32,

    // Connecting.
    pub(crate) connect_fault_pm: u32,
    pub(crate) may_blackhole: bool,
    pub(crate) addresses_max: u64,
    pub(crate) has_names: bool,
    pub(crate) dns_fault_pm: u32,
    pub(crate) asks_system: bool,
    pub(crate) tls_pm: u32,
    pub(crate) tls_fault_pm: u32,
    /// How often a server changes its keys, and how late its tickets are.
    pub(crate) rekey_pm: u32,
    pub(crate) tickets_late_us: u64,
    pub(crate) descriptors: Option<u64>,

    // The program.
    pub(crate) requests: u64,
    pub(crate) has_limits: bool,
    pub(crate) cancel_pm: u32,
    pub(crate) pause_pm: u32,
    pub(crate) stall_us: u64,
}

/// What a server does instead of answering well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The answer ends at a byte.
    CutByFin,
    CutByReset,
    CutBySilence,
    /// The connection ends at a byte of the next request.
    CutRequest,
    /// Content-Length says more, and the connection ends.
    LongLength,
    /// Content-Length says less.
    ShortLength,
    /// The answer comes before the request is whole.
    Early,
    /// 1xx, more than are taken.
    ManyInterim,
    /// A second answer, right behind.
    Twice,
    /// Something is said while idle.
    IdleSpeech,
    /// The connection ends soon after the answer, without a word.
    IdleEnd,
    /// The connection ends when the next request comes.
    EndOnReuse,
    /// Something is said, or the connection ends, in the instant in which the next request would
    /// have been written.
    SpeechOnReuse,
    Drip,
    Endless,
    Garbage,
    HugeHead,
    BadChunk,
    /// A redirect that leads back, or on and on.
    Loop,
    /// A redirect whose body is long or never ends.
    LongRedirect,
    /// A coded body is cut short, goes on, or is none.
    BadCoding,
    /// The connection changes to another protocol, unasked.
    Switch,
}

impl Plan {
    pub(crate) fn of(seed: u64, random: &mut Random) -> Self {
        let scenario = Scenario::of(seed);
        let mut plan = Self::calm(scenario, random);
        plan.choose_faults(random);
        plan.choose_program(random);
        plan
    }

    fn calm(scenario: Scenario, random: &mut Random) -> Self {
        let eager_edges = random.chance(500);
        let begins_us = *random.pick(&[0, 0, 0, 1 << 40, 1 << 50, LATEST_BEGIN_US]);
        let leaps = begins_us < LATEST_BEGIN_US && random.chance(100);
        let or_none = |random: &mut Random, most| {
            if random.chance(400) { 0 } else { random.magnitude(most) as u32 }
        };
        Self {
            scenario,
            begins_us,
            eager_edges,
            whole_masks: random.chance(500),
            latency_us: random.magnitude(100_000),
            segment_bytes: 1 + random.magnitude(100_000),
            receive_bytes: 1 + random.magnitude(300_000) as usize,
            send_bytes: 1 + random.magnitude(200_000) as usize,
            is_narrow: false,
            short_read_pm: or_none(random, 900),
            short_write_pm: or_none(random, 900),
            would_block_pm: or_none(random, 300),
            spurious_pm: or_none(random, 500),
            joined_pm: random.below(1_001) as u32,
            batch_us: random.magnitude(5_000),
            events_max: if random.chance(300) { 1 + random.index(4) } else { 1_024 },
            clock_step_us: random.magnitude(40),
            overshoot_us: random.magnitude(3_000),
            leap_pm: if leaps { 1 + random.magnitude(20) as u32 } else { 0 },
            interrupted_pm: or_none(random, 200),
            reset_purges: random.chance(300),
            faulty_answer_pm: 0,
            redirect_pm: or_none(random, 400),
            cookie_pm: if random.chance(400) { 0 } else { random.below(700) as u32 },
            login_pm: if random.chance(400) { 0 } else { random.below(900) as u32 },
            quota_pm: or_none(random, 300),
            unavailable_pm: 0,
            upgrade_pm: if random.chance(400) { 0 } else { random.below(300) as u32 },
            faults: Vec::new(),
            coded_pm: if scenario == Scenario::Coded { 900 } else { or_none(random, 500) },
            body_bytes: *random.pick(&[0, 40, 3_000, 3_000, 70_000, 300_000]),
            connect_fault_pm: 0,
            may_blackhole: false,
            addresses_max: 1,
            has_names: false,
            dns_fault_pm: 0,
            asks_system: false,
            tls_pm: 0,
            tls_fault_pm: 0,
            rekey_pm: 0,
            tickets_late_us: 0,
            descriptors: None,
            requests: if random.chance(300) {
                1 + random.magnitude(60)
            } else {
                random.range(4, 30)
            },
            has_limits: true,
            cancel_pm: or_none(random, 100),
            pause_pm: or_none(random, 200),
            stall_us: 0,
        }
    }

    fn choose_faults(&mut self, random: &mut Random) {
        self.faults = self.scenario.faults().to_vec();
        if self.scenario.is_calm() {
            self.has_limits = false;
        } else {
            self.faulty_answer_pm = random.range(20, 600) as u32;
            self.unavailable_pm = random.magnitude(300) as u32;
        }
        self.choose_addresses(random);
        self.choose_tls(random);
        let is_everything = self.scenario == Scenario::Everything;
        if self.scenario == Scenario::Scarce || (is_everything && random.chance(200)) {
            self.descriptors = Some(random.range(1, 12));
        }
        self.keep_short();
    }

    fn choose_addresses(&mut self, random: &mut Random) {
        if matches!(self.scenario, Scenario::Dial | Scenario::Everything) {
            self.connect_fault_pm = random.magnitude(700) as u32;
            self.may_blackhole = random.chance(500);
        }
        if matches!(self.scenario, Scenario::Dial | Scenario::Names | Scenario::Everything) {
            self.addresses_max = 4;
            self.has_names = true;
        }
        if matches!(self.scenario, Scenario::Names | Scenario::Everything) {
            self.dns_fault_pm = random.magnitude(700) as u32;
            self.asks_system = random.chance(150);
        }
    }

    fn choose_tls(&mut self, random: &mut Random) {
        match self.scenario {
            Scenario::Secure => self.tls_pm = 1_000,
            Scenario::Unsafe => (self.tls_pm, self.tls_fault_pm) = (1_000, 200),
            Scenario::Everything if random.chance(300) => {
                (self.tls_pm, self.tls_fault_pm) = (500, 100);
            }
            _ => {}
        }
        if self.tls_pm > 0 {
            self.rekey_pm = if random.chance(500) { random.magnitude(500) as u32 } else { 0 };
            self.tickets_late_us = if random.chance(500) { random.magnitude(500_000) } else { 0 };
            self.requests = self.requests.min(12);
            self.body_bytes = self.body_bytes.min(70_000);
        }
    }

    /// What comes a byte at a time must not be long, or a seed takes for ever.
    fn keep_short(&mut self) {
        let rooms = [self.segment_bytes, self.receive_bytes as u64, self.send_bytes as u64];
        let least = rooms.into_iter().min().unwrap_or_default();
        if least < 300 || self.short_read_pm > 500 || self.short_write_pm > 500 {
            self.is_narrow = true;
            self.body_bytes = self.body_bytes.min(30 * least);
            self.body_bytes = self.body_bytes.min(if self.tls_pm > 0 { 300 } else { 3_000 });
            self.requests = self.requests.min(20);
        }
    }

    fn choose_program(&mut self, random: &mut Random) {
        if self.has_limits && random.chance(300) {
            self.stall_us = random.magnitude(200_000);
        }
    }

    /// How late a poll, the clock, or the program may make an end, beyond the reactor's tick.
    pub(crate) fn slack_us(&self) -> u64 {
        self.batch_us + self.overshoot_us + self.stall_us + 64 * self.clock_step_us
    }
}

/// Two hours before a clock of microseconds has reached its end.
const LATEST_BEGIN_US: u64 = u64::MAX - 7_200_000_000;
