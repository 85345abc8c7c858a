//! Who is connected to a port of ours that many may reach: bounded in number, and for the next one the oldest goes that is
//! not being answered. A crowd that only sits there must not keep out who comes on business.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use tokio::task::{AbortHandle, JoinSet, yield_now};

/// The oldest first. Dropped, it ends all of them.
#[derive(Default)]
pub struct Guests {
    tasks: JoinSet<()>,
    all: VecDeque<Guest>,
}

struct Guest {
    task: AbortHandle,
    answering: Answering,
}

/// Whether a guest's request has come, and its answer not yet.
#[derive(Debug, Clone, Default)]
pub struct Answering(Arc<AtomicBool>);

impl Answering {
    /// From now until the answer is there.
    pub fn during<F: Future>(&self, answer: F) -> impl Future<Output = F::Output> + use<F> {
        self.0.store(true, SeqCst);
        let answering = Arc::clone(&self.0);
        async move {
            let answer = answer.await;
            answering.store(false, SeqCst);
            answer
        }
    }
}

impl Guests {
    /// Waits until there are less than `most`, which takes time only where all are being answered.
    pub async fn make_room(&mut self, most: usize) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.all.retain(|guest| !guest.task.is_finished());
            if self.all.len() < most {
                return;
            }
            let idle = self.all.iter().position(|guest| !guest.answering.0.load(SeqCst));
            match idle.and_then(|oldest| self.all.remove(oldest)) {
                Some(guest) => guest.task.abort(),
                None => _ = self.tasks.join_next().await,
            }
        }
    }

    /// Begins to converse with the next one. What it has sent may be a whole request: that is looked at before a crowd
    /// behind it is let in.
    pub async fn welcome<C>(&mut self, conversing: impl FnOnce(Answering) -> C)
    where
        C: Future<Output = ()> + Send + 'static,
    {
        let answering = Answering::default();
        let task = self.tasks.spawn(conversing(answering.clone()));
        self.all.push_back(Guest { task, answering });
        yield_now().await;
    }

    /// Waits until nobody is left.
    pub async fn gone(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
