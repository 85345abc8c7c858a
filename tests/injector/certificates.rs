//! The serving certificate from files: followed, refused if unusable, and shown in handshakes.

use std::{fs, os::unix::fs::symlink};

use warmline::demo::authority::Authority;

use crate::program::{Injector, asking, creation, eventually, write_certificate};

#[test]
fn without_its_certificate_it_waits_not_ready_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let injector = Injector::launch(folder, Authority::new().unwrap(), &[]);
    let line = injector
        .line("the serving certificate's files cannot be used; what was in use before stays so");
    assert!(line["reason"].as_str().unwrap().contains("tls.crt: No such file"), "{line}");
    let ready = injector.health("/readyz");
    assert_eq!(ready.status, 503);
    assert_eq!(
        ready.body,
        "[-] serving certificate: there is none yet\n[+] caBundle\n[+] serving\n"
    );
    assert_eq!(injector.health("/livez").status, 200);
    assert!(injector.try_connect(&injector.authority).is_err());
    write_certificate(injector.folder.path(), &injector.authority);
    eventually("ready", || (injector.health("/readyz").status == 200).then_some(()));
    assert_eq!(injector.review(&creation(&asking()))["allowed"], true);
}

#[test]
fn a_new_certificate_is_used_by_the_next_handshake_and_open_connections_go_on() {
    let injector = Injector::start();
    let mut open = injector.connect();
    let other = Authority::new().unwrap();
    write_certificate(injector.folder.path(), &other);
    eventually("the new certificate", || injector.try_connect(&other).ok());
    assert!(injector.try_connect(&injector.authority).is_err(), "the old one is gone");
    let review = creation(&asking()).to_string();
    assert_eq!(crate::program::post(&mut open, review.as_bytes()).status, 200);
}

#[test]
fn a_mounted_folder_that_changes_by_its_link_is_followed() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new().unwrap());
    let generation = |name: &str, authority: &Authority| {
        fs::create_dir(folder.path().join(name)).unwrap();
        write_certificate(&folder.path().join(name), authority);
        let _ = fs::remove_file(folder.path().join("..data_tmp"));
        symlink(name, folder.path().join("..data_tmp")).unwrap();
        fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    };
    generation("..1", &authority);
    for file in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{file}"), folder.path().join(file)).unwrap();
    }
    let other = Authority::new().unwrap();
    let path = folder.path().to_owned();
    let injector = {
        let unowned = tempfile::tempdir().unwrap();
        fs::remove_dir(unowned.path()).unwrap();
        symlink(&path, unowned.path()).unwrap();
        Injector::launch(unowned, authority, &[])
    };
    eventually("the first", || injector.try_connect(&injector.authority).ok());
    generation("..2", &other);
    eventually("the second", || injector.try_connect(&other).ok());
    fs::remove_file(injector.folder.path()).unwrap();
}

#[test]
fn a_certificate_that_cannot_be_used_leaves_the_old_one() {
    let injector = Injector::start();
    let key = injector.authority.server("x").unwrap().key_pem();
    let (crt, file) =
        (injector.folder.path().join("tls.crt"), injector.folder.path().join("tls.key"));
    for (path, content, words) in [
        (&file, key.as_str(), "their public keys differ"),
        (&file, "", "tls.key: it holds no private key"),
        (
            &crt,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "tls.crt: line 1: certificate 1 is not an X.509 certificate",
        ),
    ] {
        fs::write(path, content).unwrap();
        let line = injector.line(
            "the serving certificate's files cannot be used; what was in use before stays so",
        );
        assert!(line["reason"].as_str().unwrap().contains(words), "{line}");
        assert_eq!(injector.review(&creation(&asking()))["allowed"], true);
    }
    assert_eq!(injector.health("/readyz").status, 200);
}

#[test]
fn metrics_show_when_the_certificate_ends_and_that_the_ca_is_no_matter_of_ours() {
    let injector = Injector::start();
    let ends = "warmline_injector_certificate_expiry_timestamp_seconds{certificate=\"serving\"}";
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let days = (injector.metric(ends).parse::<f64>().unwrap() - now) / 86_400.0;
    assert!((6.9..7.1).contains(&days), "the authority's certificates live 7 days: {days}");
    assert_eq!(injector.metric("warmline_injector_ca_in_place"), "1");
    assert_eq!(injector.metric("warmline_injector_reviews_total{result=\"skipped\"}"), "0");
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("warmline_build_info{{version=\"{version}\"}}");
    assert_eq!(injector.metric(&build), "1");
}
