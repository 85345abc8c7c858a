//! A flood of requests, and a log that stays small (item 26).

use serde_json::Value;

use crate::support::{
    origin::{NAME, Origin},
    program::Program,
    wait_for,
};

const REQUESTS: u64 = 300;

fn flood(rate: u64) -> (Program, Vec<Value>) {
    let origin = Origin::serving().start();
    let setup = Program::setup(&[(NAME, &origin)])
        .set_global("log.access", "all")
        .set_global("log.accessRate", rate);
    let program = Program::run(setup, "exec \"$0\" run --config \"$1\"");
    let mut client = program.connect();
    for number in 0..REQUESTS {
        let host = if number % 2 == 0 { NAME } else { "unknown.test" };
        client.get(host, "/any");
    }
    drop(client);
    let told = || {
        let lines = program.access_lines();
        let left_out = program.said("access lines were left out");
        let left_out: u64 = left_out.iter().filter_map(|line| line["left_out"].as_u64()).sum();
        (lines, left_out)
    };
    wait_for("an account of every request", || told().0.len() as u64 + told().1 >= REQUESTS);
    let lines = told().0;
    (program, lines)
}

#[test]
fn fault_26_a_flood_is_logged_up_to_the_rate_and_the_rest_is_counted_and_told() {
    let (program, lines) = flood(10);
    let told = program.said("access lines were left out: there were more than log.accessRate");
    let sum = |key: &str| told.iter().filter_map(|line| line[key].as_u64()).sum::<u64>();
    assert_eq!(lines.len() as u64 + sum("left_out"), REQUESTS, "{told:#?}");
    assert!(sum("left_out") > 0 && !told.is_empty());
    let failures = lines.iter().filter(|line| line["end"] != "ok").count() as u64;
    assert!(failures > 0 && failures + sum("failures") == REQUESTS / 2, "{failures} {told:#?}");
}

#[test]
fn fault_26_without_a_bound_every_request_has_its_line() {
    let (program, lines) = flood(0);
    assert_eq!(lines.len() as u64, REQUESTS);
    assert!(program.said("left out").is_empty());
}
