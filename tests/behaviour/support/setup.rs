//! A configuration that a test builds: settings that the test does not change are the defaults, except that all binds
//! are free ports.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::SystemTime,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use warmline::{
    app::{self, Environment, StartError},
    config::{self, Bind, Context, Disk, Errors, KeptConfiguration, Loaded, Plan, Source},
    connect::Resolver,
    drain::Drain,
};

use super::{
    authority::{Authority, Identity},
    log_lines,
    names::Names,
    origin::{self, Origin},
    running::Running,
    wait_for,
};

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| Authority::shared().client("warmline"));

/// Returns the client certificate that Warmline shows unless a test sets another.
pub fn identity() -> &'static Identity {
    &IDENTITY
}

/// Starts an origin that serves, and Warmline before it with the default settings.
pub fn serving() -> (Origin, Running) {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    (origin, warmline)
}

/// A configuration, and the names and files that it needs.
pub struct Setup {
    folder: TempDir,
    document: Value,
    names: Names,
    /// The resolver in place of `names`, if any.
    resolver: Option<Resolver>,
    /// The number of files written so far, which is part of the next one's name.
    files: usize,
}

impl Setup {
    /// Makes a configuration without upstreams.
    pub fn new() -> Self {
        let document = json!({
            "log": { "access": "off", "level": "warn" },
            "metrics": { "bind": ["127.0.0.1:0"] },
            "admin": { "bind": ["127.0.0.1:0"] },
            "listeners": [{ "bind": ["127.0.0.1:0"] }],
            "upstreams": [],
        });
        let folder = tempfile::tempdir().expect("a folder for the test's files");
        let names = Names::default().fixed(origin::NAME, &["127.0.0.1"]);
        Self { folder, document, names, resolver: None, files: 0 }
    }

    /// Makes a configuration with one upstream, `origin`, whose endpoint is this origin under its name.
    pub fn before(origin: &Origin) -> Self {
        Self::new().upstream("origin", origin)
    }

    /// Adds an upstream; [`Setup::set`] and the like change the upstream added last.
    pub fn upstream(self, name: &str, origin: &Origin) -> Self {
        self.upstream_at(name, &format!("{}:{}", origin::NAME, origin.port()))
    }

    /// Adds an upstream with this endpoint, the shared authority's trust and [`identity`].
    pub fn upstream_at(mut self, name: &str, endpoint: &str) -> Self {
        let upstream = json!({ "name": name, "endpoints": [endpoint] });
        self.upstreams().push(upstream);
        self.trust(Authority::shared()).identity(&IDENTITY)
    }

    /// Sets a key of the upstream added last, such as `pool.maxIdle`.
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let upstream = self.upstreams().last_mut().expect("an upstream was added");
        *place(upstream, path) = value.into();
        self
    }

    /// Removes a key of the upstream added last.
    pub fn unset(mut self, path: &str) -> Self {
        let (parent, key) = path.rsplit_once('.').expect("a path with a dot");
        let upstream = self.upstreams().last_mut().expect("an upstream was added");
        place(upstream, parent).as_object_mut().expect("an object").remove(key);
        self
    }

    /// Sets a key of the whole document, such as `threads` or `listeners.0.limits.headerTimeout`.
    pub fn set_global(mut self, path: &str, value: impl Into<Value>) -> Self {
        *place(&mut self.document, path) = value.into();
        self
    }

    /// Has the upstream added last trust this authority.
    pub fn trust(self, authority: &Authority) -> Self {
        self.trust_pem(&super::authority::certificates_pem(&[authority.certificate().clone()]))
    }

    /// Has the upstream added last trust the certificates in this bundle.
    pub fn trust_pem(mut self, pem: &str) -> Self {
        let path = self.file("trust.pem", pem);
        self.set("tls.trust", path)
    }

    /// Sets the client certificate for the upstream added last.
    pub fn identity(mut self, identity: &Identity) -> Self {
        self.files += 1;
        let files = identity.write(self.folder.path(), &format!("{}-identity", self.files));
        self.set("tls.identity", json!({ "certificate": files.certificate, "key": files.key }))
    }

    /// Writes a file into the test's folder; returns its path, for a key of the configuration.
    pub fn file(&mut self, name: &str, content: &str) -> String {
        self.files += 1;
        let name = format!("{}-{name}", self.files);
        text(&super::authority::write(self.folder.path(), &name, content))
    }

    /// Resolves names by this table.
    pub fn names(self, names: &Names) -> Self {
        Self { names: names.clone(), ..self }
    }

    /// Resolves names as the system does, by these files and by name servers on this port.
    pub fn resolver(self, hosts: &Path, resolv_conf: &Path, port: u16) -> Self {
        let resolver = Resolver::from_files(hosts.into(), resolv_conf.into(), port);
        Self { resolver: Some(resolver), ..self }
    }

    fn resolves(&self) -> Resolver {
        self.resolver.clone().unwrap_or_else(|| self.names.resolver())
    }

    /// Compiles the configuration and starts Warmline with it; panics if that fails.
    pub fn start(self) -> Running {
        self.try_start().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Compiles the configuration and starts Warmline with it; returns the error if that fails.
    pub fn try_start(self) -> Result<Running, StartError> {
        let document = self.document.to_string();
        let plan = compile(&document).unwrap_or_else(|errors| panic!("{errors}"));
        let environment = Environment { resolver: Some(self.resolves()), ..Environment::default() };
        Ok(Running::new(app::start(&plan, environment)?, self.folder))
    }

    /// Writes the configuration into a file and starts Warmline with that file, so that its changes are followed.
    pub fn start_following(self) -> Following {
        let path = self.folder.path().join("config.yaml");
        self.start_following_at(path)
    }

    /// Starts Warmline with a file at this path, which may contain links; the file is written if there is none.
    pub fn start_following_at(self, path: PathBuf) -> Following {
        if !path.exists() {
            std::fs::write(&path, self.document.to_string()).expect("the configuration's file");
        }
        self.start_from(Source::file(&path), path, None)
    }

    /// Starts Warmline with this source, whose changes are followed; [`Following::write`] rewrites the file at the
    /// path.
    pub fn start_from(
        self,
        mut source: Source,
        path: PathBuf,
        kept: Option<KeptConfiguration>,
    ) -> Following {
        // Waiting for a configuration logs lines; they have to be caught whichever test of the process begins.
        log_lines::catch();
        let metrics = Bind { address: (Ipv4Addr::LOCALHOST, 0).into(), written: true };
        let begun = app::begin(&mut source, kept.as_ref(), &Drain::default(), &[metrics]);
        let begun = begun.unwrap_or_else(|error| panic!("{error}"));
        let Loaded { plan, text, origin } = begun.expect("nobody asked for the end");
        let environment = Environment {
            resolver: Some(self.resolves()),
            configuration: text,
            source: Some(source),
            origin,
            kept,
            ..Environment::default()
        };
        let app = app::start(&plan, environment).unwrap_or_else(|error| panic!("{error}"));
        Following { document: self.document, path, warmline: Running::new(app, self.folder) }
    }

    /// Returns the test's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the configuration's text.
    pub fn text(&self) -> String {
        self.document.to_string()
    }

    fn upstreams(&mut self) -> &mut Vec<Value> {
        self.document["upstreams"].as_array_mut().expect("a list")
    }
}

/// Compiles a text at the present time.
pub fn compile(document: &str) -> Result<Plan, Errors> {
    let now = SystemTime::now();
    let context = Context {
        source: "the test",
        terminal: false,
        files: &Disk,
        now,
        in_force: None,
        confined: false,
    };
    config::compile(document, &context)
}

/// A running Warmline that follows its configuration's file.
pub struct Following {
    /// The document that the file is written from; [`Following::set`] changes its keys.
    pub document: Value,
    /// The path of the file.
    pub path: PathBuf,
    /// The running Warmline.
    pub warmline: Running,
}

impl Following {
    /// Sets a key, such as `upstreams.0.pool.maxIdle`; only [`Following::write`] writes the file.
    pub fn set(&mut self, path: &str, value: impl Into<Value>) -> &mut Self {
        *place(&mut self.document, path) = value.into();
        self
    }

    /// Writes the file and waits until it is in force.
    pub fn apply(&mut self) {
        let applied = self.reloads("applied");
        self.write();
        wait_for("the changed configuration is in force", || self.reloads("applied") > applied);
    }

    /// Writes the file and waits until it was refused.
    pub fn be_refused(&mut self) {
        let rejected = self.reloads("rejected");
        self.write();
        wait_for("the configuration is refused", || self.reloads("rejected") > rejected);
    }

    /// Replaces the file by a rename, as many editors do.
    pub fn write(&self) {
        let beside = self.path.with_extension("new");
        std::fs::write(&beside, self.document.to_string()).expect("a file beside");
        std::fs::rename(&beside, &self.path).expect("it takes the file's place");
    }

    /// Returns the number of configurations with this result.
    pub fn reloads(&self, result: &str) -> u64 {
        self.warmline.metric("warmline_config_reloads_total", &[("result", result)])
    }

    /// Returns the number of changed credentials with this result.
    pub fn rotations(&self, result: &str) -> u64 {
        self.warmline.metric("warmline_identity_reloads_total", &[("result", result)])
    }
}

impl std::ops::Deref for Following {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.warmline
    }
}

/// Returns the value at a dotted path, which is made if it is missing; a number is an index of a list.
fn place<'a>(value: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(value, |value, key| match key.parse::<usize>() {
        Ok(index) => &mut value[index],
        Err(_) => &mut value[key],
    })
}

fn text(path: &Path) -> String {
    path.to_str().expect("the path is UTF-8").to_string()
}
