//! Provenance: the program, machine, command and date behind a result.

use serde::{Deserialize, Serialize};

use crate::context::Context;

/// Where a result comes from: `provenance` of `eval.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// Version of the program.
    pub version: String,
    /// Commit it was built from; absent when the build did not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Processor, cores and operating system.
    pub machine: String,
    /// The command line.
    pub command: String,
    /// Start of the run, UTC, as `2026-11-28T00:45:00Z`; empty when the caller gave none.
    pub date: String,
    /// The device that computed: `cpu`, `cuda:0` or `metal:0`.
    pub device: String,
    /// Whether the recipe was shrunk by `--smoke`: such numbers say nothing about the method.
    pub smoke: bool,
}

impl Provenance {
    /// The provenance of what this program computes now in `context`. The caller knows the command,
    /// the date and whether the recipe was shrunk.
    #[must_use]
    pub fn of_this_build(context: &Context) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("FACTOREXE_COMMIT").map(str::to_owned),
            machine: machine(),
            device: device_name(context),
            ..Self::default()
        }
    }

    /// What there is to say, with the name of each part.
    #[must_use]
    pub fn parts(&self) -> Vec<(&'static str, String)> {
        let commit = self.commit.as_ref().map(|commit| format!(", commit {commit}"));
        let smoke = if self.smoke { "a smoke test: shrunk to seconds" } else { "" };
        let parts = [
            ("version", format!("{}{}", self.version, commit.unwrap_or_default())),
            ("machine", self.machine.clone()),
            ("device", self.device.clone()),
            ("date", self.date.clone()),
            ("size", smoke.to_owned()),
            ("command", self.command.clone()),
        ];
        parts.into_iter().filter(|(_, text)| !text.is_empty()).collect()
    }
}

fn device_name(context: &Context) -> String {
    match context.device().location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_owned(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// Processor, cores and operating system, as far as the system reports them.
#[must_use]
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = model.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    format!("{cores} cores, {name}, {}", std::env::consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_not_known_are_left_out() {
        let mut known = Provenance::of_this_build(&Context::cpu());
        known.commit = Some("abc".into());
        let names: Vec<_> = known.parts().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["version", "machine", "device"]);
        assert_eq!(known.parts()[0].1, format!("{}, commit abc", env!("CARGO_PKG_VERSION")));
        (known.smoke, known.command) = (true, "factorize x".into());
        assert_eq!(known.parts()[3].0, "size");
        assert_eq!(known.parts()[4], ("command", "factorize x".into()));
    }
}
