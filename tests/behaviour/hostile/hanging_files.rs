//! A file system that hangs, as a network file system does whose server is gone. A test cannot make a file hang, so a
//! preloaded library replaces the library call that opens the configuration by one that does not return.

use std::{fs, process::Command, thread, time::Duration};

use crate::support::{client::Client, origin::Origin, program::Program, wait_for};

/// The source of the library: `open` does not return for the configuration while a file `hangs` exists in the current
/// folder.
const HANGING_OPEN: &str = r#"
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <fcntl.h>
    #include <stdarg.h>
    #include <string.h>
    #include <unistd.h>

    int open64(const char *path, int flags, ...) {
        va_list arguments;
        va_start(arguments, flags);
        int mode = va_arg(arguments, int);
        va_end(arguments);
        if (strstr(path, "warmline.yaml") && access("hangs", F_OK) == 0) {
            creat("hung", 0600);
            for (;;) pause();
        }
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
        return real(path, flags, mode);
    }
"#;

#[test]
fn a_file_system_that_hangs_holds_up_neither_health_nor_traffic_nor_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("hang.c"), folder.path().join("hang.so"));
    fs::write(&source, HANGING_OPEN).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(compiler.status().unwrap().success(), "the C compiler that the build needs, too");

    let origin = Origin::serving().start();
    let place = folder.path().display();
    let line = format!("cd {place} && LD_PRELOAD={place}/hang.so exec \"$0\" run --config \"$1\"");
    let mut program = Program::start(&origin, &line);
    assert_eq!(program.status(), 200);
    let (metrics, admin) = (program.address("metrics"), program.address("admin"));
    fs::write(folder.path().join("hangs"), "").unwrap();
    let mut reload = Client::connect(admin);
    reload.send("POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    wait_for("it hangs", || folder.path().join("hung").exists());

    assert_eq!(Client::connect(metrics).get("localhost", "/livez").status, 200);
    assert_eq!(Client::connect(metrics).get("localhost", "/readyz").status, 200);
    assert_eq!(Client::connect(admin).get("localhost", "/pools").status, 200);
    assert_eq!(program.status(), 200);
    program.signal("-TERM");
    let exit = (0..2_000).find_map(|_| {
        thread::sleep(Duration::from_millis(10));
        program.child.try_wait().unwrap()
    });
    assert!(exit.is_some_and(|status| status.success()), "{exit:?}");
}
