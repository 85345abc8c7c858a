//! stub
/// stub
#[derive(Debug, clap::Args)]
pub struct Arguments {}
/// stub
pub fn run(_: &Arguments) -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
