//! The table of runs: the origins' faults, and the changes to Warmline's configuration and certificates meanwhile.

use std::time::Duration;

use crate::support::origin::IdleEnd;

/// A run of the table: the origins' faults, the cap, the clients' pauses, and the changes meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// The name in the table and in test output.
    pub name: &'static str,
    /// The origins' faults.
    pub faults: Faults,
    /// `maxConnections` of each upstream.
    pub cap: usize,
    /// The longest pause of a client between two requests.
    pub pause: Duration,
    /// The change that is made ten times a second; `None` if nothing changes.
    pub changes: Option<Change>,
}

/// The kinds of change that a run makes to the running Warmline or to its origins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The files of the client certificates are replaced, for one upstream after the other.
    Identities,
    /// The configuration file is replaced: numbers of the pools, and `tls.minVersion`, which needs new connections.
    Configuration,
    /// The origins show other certificates, issued by the authority or self-signed, all of which the upstream trusts.
    Servers,
}

/// The faults of an origin and their frequency; each request and each idle period draws anew.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// The upper bound of the random time after which an idle connection is closed; `None`: never closed.
    pub idle: Option<Duration>,
    /// The number of requests in a thousand that are reset before the response's header, and likewise in the header and
    /// in the body.
    pub resets: u32,
    /// The number of responses in a thousand that are sent in small pieces with pauses.
    pub dribbles: u32,
}

/// An origin's treatment of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The origin answers at once.
    None,
    /// The origin answers in small pieces with pauses.
    Dribble,
    /// The origin resets the connection before the response's header.
    BeforeHeader,
    /// The origin resets the connection within the response's header.
    InHeader,
    /// The origin resets the connection within the response's body.
    InBody,
}

const NONE: Faults = Faults { idle: None, resets: 0, dribbles: 0 };
const IDLE: Option<Duration> = Some(Duration::from_millis(50));
/// A cap above the number of clients, which is never reached.
const AMPLE: usize = 64;
/// A cap below the number of clients of one upstream.
const SCARCE: usize = 4;
const PAUSE: Duration = Duration::from_millis(8);

const CALM: Run = Run { name: "calm", faults: NONE, cap: AMPLE, pause: PAUSE, changes: None };
/// The run in which origins close idle connections at random.
pub const IDLE_CLOSES: Run =
    Run { name: "idle closes", faults: Faults { idle: IDLE, ..NONE }, ..CALM };
/// The run in which origins reset exchanges before or within the response.
pub const RESETS: Run = Run { name: "resets", faults: Faults { resets: 20, ..NONE }, ..CALM };
/// The run in which some responses come slowly.
pub const DRIBBLES: Run = Run { name: "dribbles", faults: Faults { dribbles: 60, ..NONE }, ..CALM };
/// The run with all faults together, at the cap.
pub const EVERYTHING: Run = Run {
    name: "everything",
    faults: Faults { idle: IDLE, resets: 20, dribbles: 30 },
    cap: SCARCE,
    pause: Duration::ZERO,
    changes: None,
};
/// The basis of the runs with changes: some responses come slowly, and generations share a cap below the number of
/// clients.
const SCARCE_AND_SLOW: Run =
    Run { faults: Faults { dribbles: 30, ..NONE }, cap: SCARCE, pause: Duration::ZERO, ..CALM };
/// The run in which the client certificates rotate.
pub const ROTATIONS: Run =
    Run { name: "rotations", changes: Some(Change::Identities), ..SCARCE_AND_SLOW };
/// The run in which the configuration alternates.
pub const FLIPS: Run =
    Run { name: "flips", changes: Some(Change::Configuration), ..SCARCE_AND_SLOW };
/// The run in which the origins' own certificates rotate, with idle closes, so that new handshakes see them.
pub const SERVER_ROTATIONS: Run =
    Run { name: "server rotations", changes: Some(Change::Servers), ..IDLE_CLOSES };

/// The runs without changes, which a proxy without hot reload can play too.
pub const RUNS: [Run; 4] = [IDLE_CLOSES, RESETS, DRIBBLES, EVERYTHING];

impl Faults {
    /// Draws the treatment of the next request.
    pub fn draw(&self, random: &mut fastrand::Rng) -> Fault {
        let drawn = random.u32(..1000);
        let resets = [Fault::BeforeHeader, Fault::InHeader, Fault::InBody];
        match drawn.checked_div(self.resets) {
            Some(kind @ 0..3) => resets[kind as usize],
            _ if drawn < 3 * self.resets + self.dribbles => Fault::Dribble,
            _ => Fault::None,
        }
    }

    /// Draws how long the connection may be idle now, and how it is closed then; `None` if it is never closed.
    pub fn draw_idle(&self, random: &mut fastrand::Rng) -> Option<(Duration, IdleEnd)> {
        const ENDS: [IdleEnd; 4] =
            [IdleEnd::Polite, IdleEnd::Closed, IdleEnd::Truncated, IdleEnd::Reset];
        let within = self.idle?.as_micros() as u64;
        Some((Duration::from_micros(random.u64(..=within)), ENDS[random.usize(..ENDS.len())]))
    }
}
