//! The list of faults that users met in the field, by number: each has at least one test, named `fault_NN_…` (in Python
//! `test_fault_NN_…`), whose name says what is right.

#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The faults, in the order of their numbers, from 1.
const FAULTS: [&str; 39] = [
    "authentication that belongs to a connection",
    "sessions that the upstream cannot stand",
    "the hosts file",
    "DNS that half answers",
    "PEM that loses parts",
    "uploads that are cut when the answer's head comes",
    "a worker that spins while a retry waits",
    "a connection that the path forgot",
    "408 as the first bytes on a reused connection",
    "the cap while addresses race",
    "JSON and raw bytes in a URL",
    "a first ClientHello of two segments",
    "the case of field names",
    "chains and keys that OpenSSL takes",
    "a certificate that is called refused and was never sent",
    "a bad byte in a response's field",
    "renegotiation, and other failures that trying again cannot mend",
    "Transfer-Encoding twice",
    "servers with a SPIFFE name alone",
    "what `check` does not say",
    "volumes that another container fills",
    "emptyDir volumes that keep nodes from being scaled down",
    "charts within an umbrella chart",
    "ends and errors that are called by another's name",
    "latency that is a guess",
    "a log without bound",
    "descriptors that run out while connections end",
    "links, cookies and redirects that still say https",
    "the cost of many upstreams, of the queue and of idle clients",
    "DNS answers that are subsets",
    "dead addresses",
    "names with an underscore",
    "memory that clients hold",
    "descriptors used up",
    "a client that leaves during a silent stream",
    "targets and passwords in odd places",
    "a response that nobody asked for",
    "bounds that were missing",
    "YAML tags, octal numbers and two spellings of one address",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs" || ending == "py") {
            found.push(path);
        }
    }
}

#[test]
fn each_fault_of_the_list_has_a_test_of_its_number() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        sources(&here.join(folder), &mut files);
    }
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let missing: Vec<_> = (1..)
        .zip(FAULTS)
        .filter(|(number, _)| {
            let rust = format!("fn fault_{number:02}_");
            let python = format!("def test_fault_{number:02}_");
            !text.contains(&rust) && !text.contains(&python)
        })
        .collect();
    assert!(missing.is_empty(), "no test for {missing:?}");
}
