//! The injector's readiness and its metrics, as operators see them.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts,
    Registry, TextEncoder,
};

use super::{certificate::CurrentCertificate, review::Outcome};
use crate::drain::Drain;

/// The injector's readiness and its metrics, shared by all that change or read them.
pub(super) struct Readiness {
    pub(super) current: Arc<CurrentCertificate>,
    pub(super) drain: Drain,
    trust: Mutex<CaBundleState>,
    counters: Counters,
}

/// The state of the CA bundle by which the API server trusts the serving certificate, as far as the injector knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CaBundleState {
    /// Somebody else makes the certificate and its CA trusted (`--certificate-files`).
    NotOurs,
    /// The webhook configuration holds the injector's CA.
    InPlace,
    /// The webhook configuration does not hold the injector's CA, for this reason.
    Missing(String),
}

struct Counters {
    registry: Registry,
    reviews: IntCounterVec,
    seconds: Histogram,
    expiry: GaugeVec,
    trusted: Gauge,
    patches: IntCounter,
}

/// The value of the metric's label `result` for reviews that could not be answered; the others are the outcomes' names.
const INVALID: &str = "invalid";
/// The upper bounds of the histogram's buckets, in seconds. A decision takes well under a millisecond.
const BUCKETS: [f64; 7] = [0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1.0];

impl Readiness {
    /// Makes the state of an injector without a certificate, which is not ready. Fails if a metric cannot be
    /// registered.
    pub(super) fn new(drain: Drain) -> prometheus::Result<Self> {
        let readiness = Self {
            current: Arc::default(),
            drain,
            trust: Mutex::new(CaBundleState::Missing(
                "the API server has shown neither the Secret nor the webhook configuration yet"
                    .into(),
            )),
            counters: Counters::new()?,
        };
        Ok(readiness)
    }

    pub(super) fn set_trust(&self, trust: CaBundleState) {
        *self.trust() = trust;
    }

    /// Returns the text of all readiness checks, a line for each, and true if all of them pass.
    pub(super) fn checks(&self, now: SystemTime) -> (String, bool) {
        let serving = self.current.get();
        let certificate = match serving {
            None => Err("there is none yet".to_owned()),
            Some(serving) if serving.not_after <= now => Err("it expired".to_owned()),
            Some(_) => Ok(()),
        };
        let trust = match &*self.trust() {
            CaBundleState::NotOurs | CaBundleState::InPlace => Ok(()),
            CaBundleState::Missing(why) => Err(why.clone()),
        };
        let ending = if self.drain.has_begun() { Err("it is ending".to_owned()) } else { Ok(()) };
        let checks =
            [("serving certificate", certificate), ("caBundle", trust), ("serving", ending)];
        let mut text = String::new();
        for (name, check) in &checks {
            let _ = match check {
                Ok(()) => writeln!(text, "[+] {name}"),
                Err(why) => writeln!(text, "[-] {name}: {why}"),
            };
        }
        (text, checks.iter().all(|(_, check)| check.is_ok()))
    }

    /// Counts a review that was answered.
    pub(super) fn reviewed(&self, outcome: Outcome, took: Duration) {
        self.counters.reviews.with_label_values(&[outcome.name()]).inc();
        self.counters.seconds.observe(took.as_secs_f64());
    }

    /// Counts a review that could not be answered.
    pub(super) fn refused(&self) {
        self.counters.reviews.with_label_values(&[INVALID]).inc();
    }

    /// Counts a write of the injector's CA into the webhook configuration.
    pub(super) fn patched(&self) {
        self.counters.patches.inc();
    }

    /// Records the expiry of the CA that signs serving certificates.
    pub(super) fn authority_ends(&self, not_after: SystemTime) {
        self.counters.expiry.with_label_values(&["ca"]).set(seconds(not_after));
    }

    /// Renders the metrics in Prometheus' text format, with the present expiry and trust of the certificate.
    pub(super) fn metrics(&self) -> prometheus::Result<Vec<u8>> {
        let counters = &self.counters;
        if let Some(serving) = self.current.get() {
            counters.expiry.with_label_values(&["serving"]).set(seconds(serving.not_after));
        }
        let trusted = !matches!(*self.trust(), CaBundleState::Missing(_));
        counters.trusted.set(f64::from(u8::from(trusted)));
        let mut text = Vec::new();
        TextEncoder::new().encode(&counters.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn trust(&self) -> MutexGuard<'_, CaBundleState> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counters {
    /// Makes and registers all metrics, with a zero for each result of a review. Fails if a name is taken or malformed.
    fn new() -> prometheus::Result<Self> {
        let counters = Self {
            registry: Registry::new(),
            reviews: IntCounterVec::new(
                Opts::new("warmline_injector_reviews_total", "Reviews, by the result for the pod."),
                &["result"],
            )?,
            seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "warmline_injector_review_seconds",
                    "The time from a review's whole body to its answer, in seconds.",
                )
                .buckets(BUCKETS.to_vec()),
            )?,
            expiry: GaugeVec::new(
                Opts::new(
                    "warmline_injector_certificate_expiry_timestamp_seconds",
                    "The expiry of the CA and of the serving certificate, in Unix time.",
                ),
                &["certificate"],
            )?,
            trusted: Gauge::new(
                "warmline_injector_ca_in_place",
                "1 while the webhook configuration holds the CA of the serving certificate.",
            )?,
            patches: IntCounter::new(
                "warmline_injector_ca_patches_total",
                "The number of times that the CA was written into the webhook configuration.",
            )?,
        };
        let build = GaugeVec::new(
            Opts::new("warmline_build_info", "1, with the version as its label."),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        for result in Outcome::ALL.map(Outcome::name).into_iter().chain([INVALID]) {
            counters.reviews.with_label_values(&[result]).inc_by(0);
        }
        let Self { registry, reviews, seconds, expiry, trusted, patches } = &counters;
        registry.register(Box::new(build))?;
        registry.register(Box::new(reviews.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(expiry.clone()))?;
        registry.register(Box::new(trusted.clone()))?;
        registry.register(Box::new(patches.clone()))?;
        Ok(counters)
    }
}

fn seconds(moment: SystemTime) -> f64 {
    moment.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
