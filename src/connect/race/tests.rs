//! Errors of addresses that failed, and races against listeners made in the test.

#[path = "../../../tests/behaviour/support/kernel.rs"]
#[allow(dead_code, unreachable_pub, reason = "the behaviour tests use all of it")]
mod kernel;
#[path = "../../../tests/behaviour/support/silent.rs"]
#[allow(unreachable_pub, reason = "the behaviour tests hand it on")]
mod silent;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use silent::Silent;
use tokio::net::TcpListener;

use super::*;

const REFUSED: i32 = 111;
const NOT_AVAILABLE: i32 = 99;

/// Returns the text of the error for addresses that fail with these errors, one after the other.
fn told(failed: &[(&str, i32)]) -> String {
    let error = |errno: &i32| io::Error::from_raw_os_error(*errno);
    let failed =
        failed.iter().map(|(address, errno)| (address.parse().expect("an address"), error(errno)));
    most_telling(failed.collect()).expect("something failed").to_string()
}

#[test]
fn an_address_that_refuses_tells_more_than_one_that_this_machine_cannot_reach() {
    let (refused, unreachable) = (("127.0.0.1:1", REFUSED), ("[::1]:1", NOT_AVAILABLE));
    for failed in [[refused, unreachable], [unreachable, refused]] {
        let told = told(&failed);
        assert!(told.starts_with("no TCP connection to 127.0.0.1:1: Connection refused"), "{told}");
        assert!(told.contains("; nor to [::1]:1: "), "{told}");
    }
    assert!(told(&[unreachable]).contains("no IPv6, or no local port left"));
}

#[test]
fn of_many_addresses_the_last_and_the_first_few_are_told_and_the_others_counted() {
    let addresses: Vec<_> = (1..=9).map(|number| format!("127.0.0.{number}:1")).collect();
    let failed: Vec<_> = addresses.iter().map(|address| (address.as_str(), REFUSED)).collect();
    let why = "Connection refused (os error 111)";
    let others =
        format!("nor to 127.0.0.1:1: {why}; nor to 127.0.0.2:1: {why}; nor to 127.0.0.3:1: {why}");
    let whole = format!("no TCP connection to 127.0.0.9:1: {why}; {others}; nor to 5 more");
    assert_eq!(told(&failed), whole);
}

#[test]
fn fault_31_all_addresses_have_their_turn_in_half_of_the_time() {
    let ms = Duration::from_millis;
    for (time, addresses, expected) in [
        (5000, 1, 250),
        (5000, 10, 250),
        (5000, 20, 125),
        (5000, 24, 104),
        (300, 4, 37),
        (300, 24, 10),
        (0, 0, 10),
    ] {
        let gap = gap(ms(time), addresses);
        assert_eq!(gap.as_millis(), expected, "{time} {addresses}");
    }
}

#[test]
fn fault_10_without_another_place_an_address_has_its_share_of_the_time() {
    let (begun, s) = (Instant::now(), Duration::from_secs(1));
    assert_eq!(share(begun, begun + 5 * s, 0), 5 * s);
    assert_eq!(share(begun, begun + 5 * s, 1), 2500 * s / 1000);
    assert_eq!(share(begun + 2 * s, begun + 5 * s, 2), s);
    assert_eq!(share(begun + 6 * s, begun + 5 * s, 2), Duration::ZERO);
}

/// A place for one more socket, counted.
struct Spare<'a>(&'a AtomicUsize);

impl Drop for Spare<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

static TAKEN: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];

fn answer(addresses: &[IpAddr]) -> Resolved {
    Resolved::given(addresses, Instant::now())
}

/// The number of a test, the places to spare in its race, and the time of the race.
#[derive(Clone, Copy)]
struct Terms {
    test: usize,
    spares: usize,
    time: Duration,
}

/// Returns the terms of a race that takes some seconds at most.
fn terms(test: usize, spares: usize) -> Terms {
    Terms { test, spares, time: Duration::from_secs(6) }
}

/// Races to these addresses on these terms, and returns the winner.
async fn raced(
    addresses: &Addresses,
    port: u16,
    given: &[IpAddr],
    Terms { test, spares, time }: Terms,
) -> Result<IpAddr, RaceError> {
    let answer = answer(given);
    addresses.learn(&answer.parts);
    let spare = || {
        let free = TAKEN[test].load(SeqCst) < spares;
        free.then(|| {
            TAKEN[test].fetch_add(1, SeqCst);
            Spare(&TAKEN[test])
        })
    };
    let deadline = Instant::now() + time;
    run(answer, RaceConditions { port, deadline, addresses, spare: &spare })
        .await
        .map(|(_, a)| a.ip())
}

#[tokio::test]
async fn after_a_failure_the_attempt_that_makes_way_is_still_the_oldest() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let addresses = Addresses::default();
    let (begun, spare) = (Instant::now(), || None::<()>);
    let attempt = |number| ConnectingSocket::<()> {
        address: SocketAddr::from(([127, 0, 0, number], 1)),
        begun: begun + Duration::from_millis(number.into()),
        stream: socket::begin_to_connect(address).expect("it begins"),
        place: None,
    };
    let deadline = begun + Duration::from_secs(1);
    let mut race = Race {
        conditions: RaceConditions { port: 1, deadline, addresses: &addresses, spare: &spare },
        waiting: VecDeque::new(),
        late: None,
        trying: (1..=4).map(attempt).collect(),
        failed: Vec::new(),
        gap: NEXT_ADDRESS,
        turn: begun,
    };
    assert!(race.end(0, Err(io::Error::from_raw_os_error(REFUSED))).is_none());
    let left: Vec<_> = race.trying.iter().map(|attempt| attempt.address.ip()).collect();
    assert_eq!(
        left,
        ["127.0.0.2", "127.0.0.3", "127.0.0.4"].map(|ip| ip.parse::<IpAddr>().unwrap())
    );
}

/// Races to silent addresses on these terms until each was tried; returns the most sockets at once.
async fn most_sockets(silent: &[Silent], port: u16, terms: Terms) -> usize {
    let given: Vec<_> = silent.iter().map(|silent| silent.address.ip()).collect();
    let addresses = Addresses::default();
    let mut race = Box::pin(raced(&addresses, port, &given, terms));
    let on_their_way: Vec<_> = silent.iter().map(|silent| silent.address).collect();
    // All is on one thread: between two checks of the task nothing changes.
    let (mut most, mut tried) = (0, vec![false; silent.len()]);
    poll_fn(|cx| {
        let ended = race.as_mut().poll(cx).is_ready();
        let open = Silent::waiting(&on_their_way);
        tried.iter_mut().zip(&open).for_each(|(tried, open)| *tried |= *open > 0);
        most = most.max(open.iter().sum::<usize>());
        if ended || !tried.contains(&false) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    assert!(!tried.contains(&false), "each address has its turn: {tried:?}");
    drop(race);
    assert_eq!(TAKEN[terms.test].load(SeqCst), 0, "each place is given back");
    most
}

/// Makes silent addresses `127.0.NET.1` and so on, all on one port.
async fn silent(net: u8, count: u8) -> (Vec<Silent>, u16) {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = free.local_addr().expect("an address").port();
    let at = |last| Silent::at(SocketAddr::from(([127, 0, net, last], port)));
    ((1..=count).map(at).collect(), port)
}

#[tokio::test]
async fn fault_10_without_a_place_to_spare_the_next_address_waits_until_the_socket_before_is_gone()
{
    let (silent, port) = silent(3, 3).await;
    for (spares, sockets) in [(0, 1), (1, 2), (5, 3)] {
        assert_eq!(
            most_sockets(&silent, port, terms(0, spares)).await,
            sockets,
            "{spares} to spare"
        );
    }
}

#[tokio::test]
async fn fault_10_a_dial_has_no_more_than_eight_sockets_however_many_addresses_there_are() {
    let (silent, port) = silent(9, 10).await;
    // The addresses have their turns at the same times however long the race may take.
    let terms = Terms { time: Duration::from_mins(1), ..terms(3, 100) };
    assert_eq!(most_sockets(&silent, port, terms).await, MAX_SOCKETS);
}

#[tokio::test]
async fn fault_31_an_address_that_was_silent_is_tried_last_the_next_time() {
    let good = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = good.local_addr().expect("an address").port();
    let silent: Vec<_> =
        (1..=7).map(|last| Silent::at(SocketAddr::from(([127, 0, 4, last], port)))).collect();
    let mut given: Vec<_> = silent.iter().map(|silent| silent.address.ip()).collect();
    given.push([127, 0, 0, 1].into());
    let addresses = Addresses::default();
    let won = raced(&addresses, port, &given, terms(1, 100)).await.expect("one of eight answers");
    assert_eq!(won, given[7]);
    let order = addresses.in_order(given.clone(), Instant::now());
    assert_eq!(order[0], given[7], "{order:?}");
    let won = raced(&addresses, port, &given, terms(1, 0)).await.expect("it is the first now");
    assert_eq!(won, given[7]);
    assert_eq!(addresses.in_order(given.clone(), Instant::now()), order, "no other was tried");
}

#[tokio::test]
async fn fault_31_an_address_that_refuses_is_tried_last_the_next_time_and_named_if_all_do() {
    let good = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = good.local_addr().expect("an address").port();
    let (dead, alive) = (IpAddr::from([127, 0, 5, 1]), IpAddr::from([127, 0, 0, 1]));
    let addresses = Addresses::default();
    assert_eq!(
        raced(&addresses, port, &[dead, alive], terms(2, 0)).await.expect("one answers"),
        alive
    );
    assert_eq!(addresses.in_order(vec![dead, alive], Instant::now()), [alive, dead]);
    let Err(RaceError::Failed(error)) = raced(&addresses, port, &[dead], terms(2, 0)).await else {
        panic!("nobody is there")
    };
    assert!(error.to_string().contains("127.0.5.1"), "{error}");
}

#[tokio::test]
async fn fault_04_the_late_family_is_tried_when_it_comes() {
    let good = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = good.local_addr().expect("an address").port();
    let heard = |address| {
        FamilyAnswer::new(crate::connect::resolve::Family::V4, vec![address], Instant::now())
    };
    let dead = heard(IpAddr::from([127, 0, 5, 2]));
    for comes in [true, false] {
        let late = comes.then(|| heard([127, 0, 0, 1].into()));
        let late: BoxFuture<'static, _> = Box::pin(async move { late });
        let answer = Resolved { parts: vec![dead.clone()], late: Some(late) };
        let (addresses, spare) = (Addresses::default(), || None::<()>);
        let deadline = Instant::now() + Duration::from_secs(2);
        let conditions = RaceConditions { port, deadline, addresses: &addresses, spare: &spare };
        assert_eq!(run(answer, conditions).await.is_ok(), comes);
        let never: BoxFuture<'static, _> = Box::pin(std::future::pending());
        let answer = Resolved { parts: vec![dead.clone()], late: Some(never) };
        let conditions = RaceConditions { port, deadline, addresses: &addresses, spare: &spare };
        assert!(
            matches!(run(answer, conditions).await, Err(RaceError::Failed(_))),
            "not waited for long"
        );
    }
}
