//! The table of runs: what the origins do to the requests, and what is changed under Warmline meanwhile.

use std::time::Duration;

use crate::support::origin::IdleEnd;

/// One run: what the origins do, and how much the proxy may hold.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// What it is about.
    pub name: &'static str,
    /// What the origins do.
    pub faults: Faults,
    /// `maxConnections` of each upstream.
    pub cap: usize,
    /// The longest pause of a client between two requests.
    pub pause: Duration,
    /// What changes ten times a second.
    pub changes: Option<Change>,
}

/// What a run changes under Warmline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The files of the client certificates, one upstream's after the other's.
    Identities,
    /// The configuration: numbers of the pools, and a field of the key.
    Configuration,
    /// The certificates that the origins show: of one authority, or signed by themselves, all of them trusted.
    Servers,
}

/// How often an origin does what, drawn anew for each request.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// An idle connection is closed after a random time below this; none: never.
    pub idle: Option<Duration>,
    /// Of a thousand requests, so many are reset before the header, as many in it, and as many in the body.
    pub resets: u32,
    /// Of a thousand answers, so many come in small pieces with pauses.
    pub dribbles: u32,
}

/// What an origin does with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It answers.
    None,
    /// It answers slowly.
    Dribble,
    /// It resets before the header.
    BeforeHeader,
    /// It resets in the header.
    InHeader,
    /// It resets in the body.
    InBody,
}

const NONE: Faults = Faults { idle: None, resets: 0, dribbles: 0 };
const IDLE: Option<Duration> = Some(Duration::from_millis(50));
/// More than the clients' number: never reached.
const AMPLE: usize = 64;
/// Fewer than the clients of one upstream.
const SCARCE: usize = 4;
const PAUSE: Duration = Duration::from_millis(8);

const CALM: Run = Run { name: "calm", faults: NONE, cap: AMPLE, pause: PAUSE, changes: None };
/// Idle connections are closed at random.
pub const IDLE_CLOSES: Run =
    Run { name: "idle closes", faults: Faults { idle: IDLE, ..NONE }, ..CALM };
/// Exchanges are reset in the middle.
pub const RESETS: Run = Run { name: "resets", faults: Faults { resets: 20, ..NONE }, ..CALM };
/// Answers come slowly.
pub const DRIBBLES: Run = Run { name: "dribbles", faults: Faults { dribbles: 60, ..NONE }, ..CALM };
/// All of it, at the cap.
pub const EVERYTHING: Run = Run {
    name: "everything",
    faults: Faults { idle: IDLE, resets: 20, dribbles: 30 },
    cap: SCARCE,
    pause: Duration::ZERO,
    changes: None,
};
/// Some answers come slowly, and places are scarce: generations share one cap.
const SCARCE_AND_SLOW: Run =
    Run { faults: Faults { dribbles: 30, ..NONE }, cap: SCARCE, pause: Duration::ZERO, ..CALM };
/// The client certificates rotate.
pub const ROTATIONS: Run =
    Run { name: "rotations", changes: Some(Change::Identities), ..SCARCE_AND_SLOW };
/// The configuration flips.
pub const FLIPS: Run =
    Run { name: "flips", changes: Some(Change::Configuration), ..SCARCE_AND_SLOW };
/// The origins' own certificates rotate, and so do the connections that show them.
pub const SERVER_ROTATIONS: Run =
    Run { name: "server rotations", changes: Some(Change::Servers), ..IDLE_CLOSES };

/// Those that a proxy without hot reload can run, too.
pub const RUNS: [Run; 4] = [IDLE_CLOSES, RESETS, DRIBBLES, EVERYTHING];

impl Faults {
    /// What to do with the next request.
    pub fn draw(&self, random: &mut fastrand::Rng) -> Fault {
        let drawn = random.u32(..1000);
        let resets = [Fault::BeforeHeader, Fault::InHeader, Fault::InBody];
        match drawn.checked_div(self.resets) {
            Some(kind @ 0..3) => resets[kind as usize],
            _ if drawn < 3 * self.resets + self.dribbles => Fault::Dribble,
            _ => Fault::None,
        }
    }

    /// How long the connection may be idle now, and how it is closed then.
    pub fn draw_idle(&self, random: &mut fastrand::Rng) -> Option<(Duration, IdleEnd)> {
        const ENDS: [IdleEnd; 4] =
            [IdleEnd::Polite, IdleEnd::Closed, IdleEnd::Truncated, IdleEnd::Reset];
        let within = self.idle?.as_micros() as u64;
        Some((Duration::from_micros(random.u64(..=within)), ENDS[random.usize(..ENDS.len())]))
    }
}
