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

use crate::socket::{ACCEPT_PAUSE, BACKLOG};

/// The clients of one port; the drop of this ends all their connections.
pub(crate) struct Clients {
    bounds: Bounds,
    tasks: JoinSet<()>,
    /// The clients, the oldest first.
    all: VecDeque<ServedClient>,
    /// The signal that a client's answer is ready.
    answered: Arc<Notify>,
    /// The time of the newest log line about a client that could not be accepted.
    told: Option<Instant>,
}

/// The bounds on the number of clients, and on the time after which a busy client may be ended for a new one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
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
    pub(crate) fn new(most: usize, turnover: Duration, asking: Duration) -> Self {
        let crowds = BACKLOG.div_ceil(u32::try_from(most).unwrap_or(u32::MAX).max(1));
        Self { most, arriving: turnover / crowds, asking }
    }
}

struct ServedClient {
    task: AbortHandle,
    from: IpAddr,
    activity: Arc<Mutex<ClientActivity>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientActivity {
    /// The first request has been on its way since this time.
    Arriving(Instant),
    /// The request has arrived, and its answer has been awaited since this time.
    Asking(Instant),
    /// The answer is ready or sent, and no further request has arrived.
    Idle,
}

/// The task's means to say that a client's request has arrived, and that the answer is ready.
#[derive(Debug, Clone)]
pub(crate) struct ActivityReport {
    activity: Arc<Mutex<ClientActivity>>,
    answered: Arc<Notify>,
}

/// The least time between two log lines about failed accepts.
const TELL_EVERY: Duration = Duration::from_secs(10);

impl ActivityReport {
    /// Marks the client as awaiting an answer from now on, until the returned future has produced it.
    pub(crate) fn during<F: Future>(&self, answer: F) -> impl Future<Output = F::Output> + use<F> {
        *lock(&self.activity) = ClientActivity::Asking(Instant::now());
        let Self { activity, answered } = self.clone();
        async move {
            let answer = answer.await;
            *lock(&activity) = ClientActivity::Idle;
            answered.notify_one();
            answer
        }
    }
}

impl Clients {
    /// Makes an empty set of clients.
    #[must_use]
    pub(crate) fn new(bounds: Bounds) -> Self {
        let (tasks, all) = (JoinSet::new(), VecDeque::new());
        Self { bounds, tasks, all, answered: Arc::default(), told: None }
    }

    /// Accepts the next client, and makes room for it. `what` is the log's name for a client that cannot be accepted.
    pub(crate) async fn next(&mut self, listener: &TcpListener, what: &str) -> (TcpStream, IpAddr) {
        let (stream, from) = loop {
            match listener.accept().await {
                Ok(accepted) => break accepted,
                Err(error) => {
                    self.log_failed_accept(&error, what);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        self.make_room(from.ip()).await;
        (stream, from.ip())
    }

    /// Logs a failed accept, once in [`TELL_EVERY`] at most, because the error may come back at each try.
    fn log_failed_accept(&mut self, error: &io::Error, what: &str) {
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
            self.all.retain(|client| !client.task.is_finished());
            if self.all.len() < self.bounds.most {
                return;
            }
            let seen: Vec<_> =
                self.all.iter().map(|client| (client.from, *lock(&client.activity))).collect();
            match client_to_end(&seen, from, self.bounds, Instant::now()) {
                Ok(index) => self.all.remove(index).iter().for_each(|client| client.task.abort()),
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
    pub(crate) async fn serve<C>(
        &mut self,
        from: IpAddr,
        conversation: impl FnOnce(ActivityReport) -> C,
    ) where
        C: Future<Output = ()> + Send + 'static,
    {
        let activity = Arc::new(Mutex::new(ClientActivity::Arriving(Instant::now())));
        let report = ActivityReport {
            activity: Arc::clone(&activity),
            answered: Arc::clone(&self.answered),
        };
        let task = self.tasks.spawn(conversation(report));
        self.all.push_back(ServedClient { task, from, activity });
        yield_now().await;
    }

    /// Waits until no client is left.
    pub(crate) async fn all_ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Returns the index of the client that is ended for a newcomer, or the longest time to wait for one. `all` has the
/// oldest first. Only clients of the address with the most connections can be ended: the oldest that is idle; else the
/// one whose first request has been on its way for the longest, or, where there is none, whose answer has been awaited
/// for the longest, if that exceeds the bound; else the oldest, if the newcomer's address has fewer connections.
fn client_to_end(
    all: &[(IpAddr, ClientActivity)],
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
    if let Some((idle, _)) = crowd().find(|(_, (_, activity))| *activity == ClientActivity::Idle) {
        return Ok(idle);
    }
    let since = |of: fn(ClientActivity) -> Option<Instant>, patience: Duration| {
        let since =
            crowd().filter_map(|(index, (_, activity))| Some((of(*activity)? + patience, index)));
        since.min()
    };
    let longest = since(ClientActivity::arriving, bounds.arriving);
    let longest = longest.or_else(|| since(ClientActivity::asking, bounds.asking));
    let left = longest.map_or(bounds.asking, |(until, _)| until.saturating_duration_since(now));
    let lasts = longest.filter(|_| left.is_zero()).map(|(_, index)| index);
    let oldest = || crowd().next().map(|(index, _)| index).filter(|_| has_fewer);
    lasts.or_else(oldest).ok_or(left)
}

impl ClientActivity {
    const fn arriving(self) -> Option<Instant> {
        if let Self::Arriving(since) = self { Some(since) } else { None }
    }

    const fn asking(self) -> Option<Instant> {
        if let Self::Asking(since) = self { Some(since) } else { None }
    }
}

fn lock(activity: &Mutex<ClientActivity>) -> MutexGuard<'_, ClientActivity> {
    activity.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);
    const BOUNDS: Bounds = Bounds { most: 2, arriving: PATIENCE, asking: PATIENCE };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn ended(
        all: &[(IpAddr, ClientActivity)],
        newcomer: u8,
        now: Instant,
    ) -> Result<usize, Duration> {
        client_to_end(all, address(newcomer), BOUNDS, now)
    }

    #[test]
    fn the_idle_end_first_then_the_longest_to_send_a_request_then_the_longest_to_be_answered() {
        let long = Instant::now();
        let now = long + PATIENCE;
        let (asking, arriving) = (ClientActivity::Asking(long), ClientActivity::Arriving(long));
        let just = [ClientActivity::Asking(now), ClientActivity::Arriving(now)];
        let of_one = |activities: &[ClientActivity]| {
            let all: Vec<_> = activities.iter().map(|activity| (address(1), *activity)).collect();
            ended(&all, 1, now)
        };
        let [asks, arrives] = just;
        assert_eq!(of_one(&[asking, arriving, ClientActivity::Idle, ClientActivity::Idle]), Ok(2));
        assert_eq!(of_one(&[asks, asking, arriving, arriving]), Ok(2));
        assert_eq!(of_one(&[asks, asking, asking]), Ok(1));
        assert_eq!(
            of_one(&[asking, arrives]),
            Err(PATIENCE),
            "an arriving client will ask, or end"
        );
        assert_eq!(of_one(&just), Err(PATIENCE), "a burst of honest ones waits for each other");
    }

    #[test]
    fn fault_34_a_client_without_a_request_has_less_time_than_a_client_that_waits_for_an_answer() {
        let now = Instant::now();
        let bounds = Bounds { arriving: PATIENCE / 10, ..BOUNDS };
        let all = [
            (address(1), ClientActivity::Asking(now)),
            (address(1), ClientActivity::Arriving(now)),
        ];
        let ended = |at| client_to_end(&all, address(1), bounds, at);
        assert_eq!(ended(now), Err(PATIENCE / 10));
        assert_eq!(ended(now + PATIENCE / 10), Ok(1));
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
            (address(1), ClientActivity::Asking(began + PATIENCE / 2)),
            (address(1), ClientActivity::Arriving(began)),
        ];
        assert_eq!(ended(&all, 1, began + PATIENCE / 2), Err(PATIENCE / 2));
    }

    #[test]
    fn room_is_made_at_the_expense_of_the_address_with_the_most_and_at_once_for_another() {
        let now = Instant::now();
        let busy = ClientActivity::Asking(now);
        let crowd = [
            (address(1), ClientActivity::Idle),
            (address(2), busy),
            (address(2), busy),
            (address(2), busy),
        ];
        assert_eq!(ended(&crowd, 1, now), Ok(1), "it has one itself");
        assert_eq!(ended(&crowd, 3, now), Ok(1));
        assert_eq!(ended(&crowd, 2, now), Err(PATIENCE), "its own wait for each other");
    }

    #[test]
    fn if_each_address_has_one_client_a_newcomer_waits_for_the_first_idle_one() {
        let now = Instant::now();
        let mut all = [
            (address(1), ClientActivity::Asking(now)),
            (address(2), ClientActivity::Arriving(now)),
        ];
        assert_eq!(ended(&all, 3, now), Err(PATIENCE));
        all[1].1 = ClientActivity::Idle;
        assert_eq!(ended(&all, 3, now), Ok(1));
    }
}
