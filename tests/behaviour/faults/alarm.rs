//! The alarm of an exchange: a deadline that has passed keeps no thread busy.

use std::{fs, time::Duration};

use crate::support::{
    origin::{NAME, Origin},
    program::Program,
};

/// Reads the processor time that a process has used so far, in the kernel's ticks of 10 ms.
fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process lives");
    let (_, behind_name) = stat.rsplit_once(')').expect("its name comes in brackets");
    let numbers: Vec<&str> = behind_name.split_whitespace().collect();
    // Fields 14 and 15 of the line: user and system time.
    [numbers[11], numbers[12]].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// The origin closes the first connection when its second request comes, and delays each handshake far beyond the first
/// attempt's deadline, so that the retry waits for its connection after that deadline.
#[test]
fn fault_07_a_retry_that_waits_past_the_first_attempts_deadline_costs_no_processor_time() {
    let origin = Origin::scripted(|mut peer| async move {
        while peer.request().await.is_some() && peer.answer("right").await {
            if peer.number() == 0 {
                peer.request().await;
                break;
            }
        }
        peer.close().await;
    })
    .far_away(Duration::from_secs(2))
    .start();
    let setup = Program::setup(&[(NAME, &origin)]).set("timeouts.response", "1s");
    let program = Program::run(setup, "exec \"$0\" run --config \"$1\"");
    let mut client = program.connect();
    assert_eq!(client.get(NAME, "/first").text(), "right");
    let before = ticks(program.child.id());
    assert_eq!(client.get(NAME, "/second").text(), "right");
    let used = ticks(program.child.id()) - before;
    assert_eq!(origin.record().connections.len(), 2);
    assert!(used < 20, "{used} ticks of 10 ms while it waited for a handshake");
}
