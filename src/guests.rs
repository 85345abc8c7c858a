//! Who is connected to a port of ours that many may reach: bounded in number. Room for the next one is made at the expense
//! of the address that has the most connections: a crowd must not keep out who comes on business.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet, yield_now},
    time::sleep,
};

/// Dropped, it ends all of them.
#[derive(Default)]
pub struct Guests {
    tasks: JoinSet<()>,
    /// The oldest first.
    all: VecDeque<Guest>,
    /// Rung when one of them has its answer.
    answered: Arc<Notify>,
}

struct Guest {
    task: AbortHandle,
    from: IpAddr,
    doing: Arc<Mutex<Doing>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Its first request, or the answer to one, has been under way since.
    Busy(Instant),
    /// It has had an answer, and asks nothing.
    Sitting,
}

/// Says when a guest's request has come, and when its answer is there.
#[derive(Debug, Clone)]
pub struct Answering {
    doing: Arc<Mutex<Doing>>,
    answered: Arc<Notify>,
}

/// Who is busy for so long may have to go: far longer than a handshake, a request and its answer take.
const BUSY: Duration = Duration::from_secs(2);

impl Answering {
    /// From now until the answer is there.
    pub fn during<F: Future>(&self, answer: F) -> impl Future<Output = F::Output> + use<F> {
        *lock(&self.doing) = Doing::Busy(Instant::now());
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
    /// Waits until there are less than `most`, for one from this address; that takes time only where all are busy.
    pub async fn make_room(&mut self, most: usize, from: IpAddr) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.all.retain(|guest| !guest.task.is_finished());
            if self.all.len() < most {
                return;
            }
            let seen: Vec<_> =
                self.all.iter().map(|guest| (guest.from, *lock(&guest.doing))).collect();
            match who_goes(&seen, from, Instant::now()) {
                Ok(index) => self.all.remove(index).iter().for_each(|guest| guest.task.abort()),
                Err(wait) => tokio::select! {
                    _ = self.tasks.join_next() => {}
                    () = self.answered.notified() => {}
                    () = sleep(wait) => {}
                },
            }
        }
    }

    /// Begins to converse with the next one. What it has sent may be a whole request: that is looked at before a crowd
    /// behind it is let in.
    pub async fn welcome<C>(&mut self, from: IpAddr, conversing: impl FnOnce(Answering) -> C)
    where
        C: Future<Output = ()> + Send + 'static,
    {
        let doing = Arc::new(Mutex::new(Doing::Busy(Instant::now())));
        let answering =
            Answering { doing: Arc::clone(&doing), answered: Arc::clone(&self.answered) };
        let task = self.tasks.spawn(conversing(answering));
        self.all.push_back(Guest { task, from, doing });
        yield_now().await;
    }

    /// Waits until nobody is left.
    pub async fn gone(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Of these, the oldest first, who goes for one that comes from there: of those from the address with the most, the oldest
/// that sits, else the oldest that was busy for long, else, where the newcomer's address has fewer, the oldest. Or how long to
/// wait at most.
fn who_goes(all: &[(IpAddr, Doing)], newcomer: IpAddr, now: Instant) -> Result<usize, Duration> {
    let mut counts = BTreeMap::<IpAddr, usize>::new();
    for (from, _) in all {
        *counts.entry(*from).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or_default();
    let crowd = || all.iter().enumerate().filter(|(_, (from, _))| counts[from] == most);
    let sits = crowd().find(|(_, (_, doing))| *doing == Doing::Sitting);
    let lasts = || crowd().find(|(_, (_, doing))| doing.busy_for(now) >= BUSY);
    let has_fewer = counts.get(&newcomer).copied().unwrap_or_default() + 1 < most;
    let oldest = || crowd().next().filter(|_| has_fewer);
    let goes = sits.or_else(lasts).or_else(oldest);
    let longest = || crowd().map(|(_, (_, doing))| doing.busy_for(now)).max().unwrap_or_default();
    goes.map(|(index, _)| index).ok_or_else(|| BUSY.saturating_sub(longest()))
}

impl Doing {
    fn busy_for(self, now: Instant) -> Duration {
        match self {
            Self::Busy(since) => now.saturating_duration_since(since),
            Self::Sitting => Duration::ZERO,
        }
    }
}

fn lock(doing: &Mutex<Doing>) -> MutexGuard<'_, Doing> {
    doing.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn who_sits_goes_first_then_who_is_busy_for_long_and_the_oldest_of_them() {
        let now = Instant::now();
        let long = Doing::Busy(now);
        let now = now + BUSY;
        let just = Doing::Busy(now);
        let of_one = |doings: &[Doing]| {
            let all: Vec<_> = doings.iter().map(|doing| (address(1), *doing)).collect();
            who_goes(&all, address(1), now)
        };
        assert_eq!(of_one(&[just, long, Doing::Sitting, Doing::Sitting]), Ok(2));
        assert_eq!(of_one(&[just, long, long]), Ok(1));
        assert_eq!(of_one(&[just, just]), Err(BUSY), "a burst of honest ones waits for each other");
    }

    #[test]
    fn a_wait_is_over_when_the_first_was_busy_for_long() {
        let began = Instant::now();
        let all = [(address(1), Doing::Busy(began + BUSY / 2)), (address(1), Doing::Busy(began))];
        assert_eq!(who_goes(&all, address(1), began + BUSY / 2), Err(BUSY / 2));
    }

    #[test]
    fn room_is_made_at_the_expense_of_the_address_with_the_most_and_at_once_for_another() {
        let now = Instant::now();
        let busy = Doing::Busy(now);
        let crowd = [
            (address(1), Doing::Sitting),
            (address(2), busy),
            (address(2), busy),
            (address(2), busy),
        ];
        assert_eq!(who_goes(&crowd, address(1), now), Ok(1), "it has one itself");
        assert_eq!(who_goes(&crowd, address(3), now), Ok(1));
        assert_eq!(who_goes(&crowd, address(2), now), Err(BUSY), "its own wait for each other");
    }

    #[test]
    fn where_all_have_one_who_comes_waits_for_the_first_that_sits() {
        let now = Instant::now();
        let mut all = [(address(1), Doing::Busy(now)), (address(2), Doing::Busy(now))];
        assert_eq!(who_goes(&all, address(3), now), Err(BUSY));
        all[1].1 = Doing::Sitting;
        assert_eq!(who_goes(&all, address(3), now), Ok(1));
    }
}
