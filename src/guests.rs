//! The clients that are connected to a port for operators, or to the injector, bounded in number. Room for a new client
//! is made at the expense of the address with the most connections, so that a crowd from one address does not keep
//! others out.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{AbortHandle, JoinSet, yield_now},
    time::sleep,
};

use crate::socket::BACKLOG;

/// The clients of one port; the drop of this ends all their connections.
pub struct Guests {
    bounds: Bounds,
    tasks: JoinSet<()>,
    /// The clients, the oldest first.
    all: VecDeque<Guest>,
    /// The signal that a client's answer is ready.
    answered: Arc<Notify>,
    /// The time of the newest log line about a client that could not be accepted.
    told: Option<Instant>,
}

/// The bounds on the number of clients, and on the time after which a busy client may be ended for a new one.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most connections at a time.
    pub most: usize,
    /// The time that a first request may take to arrive before its connection may be ended for a new client.
    pub arriving: Duration,
    /// The time that an answer may take before its connection may be ended for a new client.
    pub asking: Duration,
}

impl Bounds {
    /// Makes bounds for `most` connections. Clients that send no request are replaced fast enough that all who fit into
    /// the kernel's backlog are accepted within `turnover`: a client that comes behind such a crowd waits no longer
    /// than that.
    #[must_use]
    pub fn new(most: usize, turnover: Duration, asking: Duration) -> Self {
        let crowds = BACKLOG.div_ceil(u32::try_from(most).unwrap_or(u32::MAX).max(1));
        Self { most, arriving: turnover / crowds, asking }
    }
}

struct Guest {
    task: AbortHandle,
    from: IpAddr,
    doing: Arc<Mutex<Doing>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// The first request has been on its way since this time.
    Arriving(Instant),
    /// The request has arrived, and its answer has been awaited since this time.
    Asking(Instant),
    /// The answer is ready or sent, and no further request has arrived.
    Sitting,
}

/// The task's means to say that a client's request has arrived, and that the answer is ready.
#[derive(Debug, Clone)]
pub struct Answering {
    doing: Arc<Mutex<Doing>>,
    answered: Arc<Notify>,
}

/// The pause after an accept that failed, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The least time between two log lines about failed accepts.
const TELL_EVERY: Duration = Duration::from_secs(10);

impl Answering {
    /// Marks the client as awaiting an answer from now on, until the returned future has produced it.
    pub fn during<F: Future>(&self, answer: F) -> impl Future<Output = F::Output> + use<F> {
        *lock(&self.doing) = Doing::Asking(Instant::now());
        let Self { doing, answered } = self.clone();
        async move {
            let answer = answer.await;
            *lock(&doing) = Doing::Sitting;
            answered.notify_one();
            answer
        }
    }
}

impl Guests {
    /// Makes an empty set of clients.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let (tasks, all) = (JoinSet::new(), VecDeque::new());
        Self { bounds, tasks, all, answered: Arc::default(), told: None }
    }

    /// Accepts the next client, and makes room for it. `what` is the log's name for a client that cannot be accepted.
    pub async fn next(&mut self, listener: &TcpListener, what: &str) -> (TcpStream, IpAddr) {
        let (stream, from) = loop {
            match listener.accept().await {
                Ok(accepted) => break accepted,
                Err(error) => {
                    self.tell_unaccepted(&error, what);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        self.make_room(from.ip()).await;
        (stream, from.ip())
    }

    /// Logs a failed accept, once in [`TELL_EVERY`] at most, because the error may come back at each try.
    fn tell_unaccepted(&mut self, error: &io::Error, what: &str) {
        let now = Instant::now();
        if self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY) {
            self.told = Some(now);
            tracing::warn!(%error, "{what} cannot be accepted");
        }
    }

    /// Makes room for a client from this address. Waits only while every client that could be ended is busy.
    async fn make_room(&mut self, from: IpAddr) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.all.retain(|guest| !guest.task.is_finished());
            if self.all.len() < self.bounds.most {
                return;
            }
            let seen: Vec<_> =
                self.all.iter().map(|guest| (guest.from, *lock(&guest.doing))).collect();
            match who_goes(&seen, from, self.bounds, Instant::now()) {
                Ok(index) => self.all.remove(index).iter().for_each(|guest| guest.task.abort()),
                Err(wait) => tokio::select! {
                    _ = self.tasks.join_next() => {}
                    () = self.answered.notified() => {}
                    () = sleep(wait) => {}
                },
            }
        }
    }

    /// Serves the next client in a task of its own. Yields first to that task, so that a request which is already there
    /// is seen before more clients are accepted.
    pub async fn welcome<C>(&mut self, from: IpAddr, conversing: impl FnOnce(Answering) -> C)
    where
        C: Future<Output = ()> + Send + 'static,
    {
        let doing = Arc::new(Mutex::new(Doing::Arriving(Instant::now())));
        let answering =
            Answering { doing: Arc::clone(&doing), answered: Arc::clone(&self.answered) };
        let task = self.tasks.spawn(conversing(answering));
        self.all.push_back(Guest { task, from, doing });
        yield_now().await;
    }

    /// Waits until no client is left.
    pub async fn gone(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Returns the index of the client that is ended for a newcomer, or the longest time to wait for one. `all` has the
/// oldest first. Only clients of the address with the most connections can be ended: the oldest that is idle; else the
/// one whose first request has been on its way for the longest, or, where there is none, whose answer has been awaited
/// for the longest, if that exceeds the bound; else the oldest, if the newcomer's address has fewer connections.
fn who_goes(
    all: &[(IpAddr, Doing)],
    newcomer: IpAddr,
    bounds: Bounds,
    now: Instant,
) -> Result<usize, Duration> {
    let mut counts = BTreeMap::<IpAddr, usize>::new();
    for (from, _) in all {
        *counts.entry(*from).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or_default();
    let has_fewer = counts.get(&newcomer).copied().unwrap_or_default() + 1 < most;
    let crowd = || all.iter().enumerate().filter(|(_, (from, _))| counts[from] == most);
    if let Some((sitting, _)) = crowd().find(|(_, (_, doing))| *doing == Doing::Sitting) {
        return Ok(sitting);
    }
    let since = |of: fn(Doing) -> Option<Instant>, patience: Duration| {
        let since = crowd().filter_map(|(index, (_, doing))| Some((of(*doing)? + patience, index)));
        since.min()
    };
    let longest = since(Doing::arriving, bounds.arriving);
    let longest = longest.or_else(|| since(Doing::asking, bounds.asking));
    let left = longest.map_or(bounds.asking, |(until, _)| until.saturating_duration_since(now));
    let lasts = longest.filter(|_| left.is_zero()).map(|(_, index)| index);
    let oldest = || crowd().next().map(|(index, _)| index).filter(|_| has_fewer);
    lasts.or_else(oldest).ok_or(left)
}

impl Doing {
    const fn arriving(self) -> Option<Instant> {
        if let Self::Arriving(since) = self { Some(since) } else { None }
    }

    const fn asking(self) -> Option<Instant> {
        if let Self::Asking(since) = self { Some(since) } else { None }
    }
}

fn lock(doing: &Mutex<Doing>) -> MutexGuard<'_, Doing> {
    doing.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);
    const BOUNDS: Bounds = Bounds { most: 2, arriving: PATIENCE, asking: PATIENCE };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn goes(all: &[(IpAddr, Doing)], newcomer: u8, now: Instant) -> Result<usize, Duration> {
        who_goes(all, address(newcomer), BOUNDS, now)
    }

    #[test]
    fn who_sits_goes_first_then_who_arrives_for_long_then_who_asks_for_long_and_the_oldest_of_them()
    {
        let long = Instant::now();
        let now = long + PATIENCE;
        let (asking, arriving) = (Doing::Asking(long), Doing::Arriving(long));
        let just = [Doing::Asking(now), Doing::Arriving(now)];
        let of_one = |doings: &[Doing]| {
            let all: Vec<_> = doings.iter().map(|doing| (address(1), *doing)).collect();
            goes(&all, 1, now)
        };
        let [asks, arrives] = just;
        assert_eq!(of_one(&[asking, arriving, Doing::Sitting, Doing::Sitting]), Ok(2));
        assert_eq!(of_one(&[asks, asking, arriving, arriving]), Ok(2));
        assert_eq!(of_one(&[asks, asking, asking]), Ok(1));
        assert_eq!(of_one(&[asking, arrives]), Err(PATIENCE), "who arrives will ask, or go");
        assert_eq!(of_one(&just), Err(PATIENCE), "a burst of honest ones waits for each other");
    }

    #[test]
    fn fault_34_who_asks_nothing_has_less_time_than_who_waits_for_an_answer() {
        let now = Instant::now();
        let bounds = Bounds { arriving: PATIENCE / 10, ..BOUNDS };
        let all = [(address(1), Doing::Asking(now)), (address(1), Doing::Arriving(now))];
        let goes = |at| who_goes(&all, address(1), bounds, at);
        assert_eq!(goes(now), Err(PATIENCE / 10));
        assert_eq!(goes(now + PATIENCE / 10), Ok(1));
    }

    #[test]
    fn fault_34_all_who_can_wait_in_a_backlog_are_accepted_within_the_turnover_however_few_fit() {
        let turnover = Duration::from_millis(400);
        for most in [1, 3, 64, 65, 256, 1024, 5_000] {
            let Bounds { arriving, .. } = Bounds::new(most, turnover, PATIENCE);
            let crowds = BACKLOG.div_ceil(u32::try_from(most).expect("it is small"));
            assert!(arriving * crowds <= turnover && !arriving.is_zero(), "{most}: {arriving:?}");
        }
    }

    #[test]
    fn a_wait_is_over_when_the_first_was_busy_for_long() {
        let began = Instant::now();
        let all = [
            (address(1), Doing::Asking(began + PATIENCE / 2)),
            (address(1), Doing::Arriving(began)),
        ];
        assert_eq!(goes(&all, 1, began + PATIENCE / 2), Err(PATIENCE / 2));
    }

    #[test]
    fn room_is_made_at_the_expense_of_the_address_with_the_most_and_at_once_for_another() {
        let now = Instant::now();
        let busy = Doing::Asking(now);
        let crowd = [
            (address(1), Doing::Sitting),
            (address(2), busy),
            (address(2), busy),
            (address(2), busy),
        ];
        assert_eq!(goes(&crowd, 1, now), Ok(1), "it has one itself");
        assert_eq!(goes(&crowd, 3, now), Ok(1));
        assert_eq!(goes(&crowd, 2, now), Err(PATIENCE), "its own wait for each other");
    }

    #[test]
    fn where_all_have_one_who_comes_waits_for_the_first_that_sits() {
        let now = Instant::now();
        let mut all = [(address(1), Doing::Asking(now)), (address(2), Doing::Arriving(now))];
        assert_eq!(goes(&all, 3, now), Err(PATIENCE));
        all[1].1 = Doing::Sitting;
        assert_eq!(goes(&all, 3, now), Ok(1));
    }
}
