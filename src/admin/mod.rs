//! stub
use crate::{proxy::Proxy, telemetry::ends::Ends, upstream::Upstream};
use std::{net::TcpListener, sync::Arc};
/// stub
pub struct State;
/// stub
#[derive(Default)]
pub struct Readiness;
impl Readiness {
    /// stub
    pub fn set_started(&self) {}
}
impl State {
    /// stub
    pub fn new(
        _: Vec<Arc<Upstream>>,
        _: Arc<Proxy>,
        _: Arc<Ends>,
        _: Arc<Readiness>,
        _: String,
    ) -> Arc<Self> {
        Arc::new(Self)
    }
}
/// stub
pub async fn serve_metrics(_: TcpListener, _: Arc<State>) {}
/// stub
pub async fn serve_admin(_: TcpListener, _: Arc<State>) {}
/// stub
pub async fn sample(_: Arc<State>) {}
