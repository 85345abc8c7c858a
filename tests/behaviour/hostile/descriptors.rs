//! A limit on descriptors that is too low is logged. `faults/descriptors.rs` tests which clients and connections get
//! one when they are used up; `src/connect/error.rs` tests the error of used-up local ports, because a test must not
//! take a machine's last ports.

use crate::support::{origin::Origin, program::Program};

/// The limit on descriptors, of which the process takes about half for itself.
const LIMIT: usize = 64;

fn program(origin: &Origin) -> Program {
    Program::start(origin, &format!("ulimit -n {LIMIT} && exec \"$0\" run --config \"$1\""))
}

#[test]
fn a_plan_that_wants_more_descriptors_than_there_are_is_warned_of_at_the_start_and_when_it_grows() {
    let origin = Origin::serving().start();
    let program = program(&origin);
    program.address("traffic");
    let warned = |program: &Program| {
        let warnings = program.said("the limit of open files is lower");
        warnings.iter().map(|line| line["wanted"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    // Clients, upstream connections, the operators of two ports, and Warmline's own needs.
    let wanted = |clients: u64| clients + 100 + 2 * 64 + 64;
    assert_eq!(warned(&program), [wanted(4096)]);
    program.allow_clients(5000);
    assert_eq!(warned(&program), [wanted(4096), wanted(5000)]);
    program.allow_clients(4000);
    assert_eq!(warned(&program), [wanted(4096), wanted(5000)], "less is no news");
}
