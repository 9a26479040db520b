//! Limits: `--memory`, `--cpus`, `--pids-limit` and their like.

use clap::Args;
use engine_core::Resources;
use engine_core::container_spec::{ContainerSpec, Ulimit};
use engine_core::resources::DeviceLimit;

use crate::failure::{Failure, Result};
use crate::output::human::{parse_size, parse_size_or_unlimited};

/// Limits that can be changed later.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Number of CPUs, such as 1.5
    #[arg(long, value_name = "DECIMAL", value_parser = parse_cpus)]
    cpus: Option<u64>,
    /// CPU shares (relative weight)
    #[arg(short = 'c', long, value_name = "N")]
    cpu_shares: Option<u64>,
    /// Period in which --cpu-quota counts, in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_period: Option<u64>,
    /// CPU time in each period, in microseconds
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Period in which --cpu-rt-runtime counts, in microseconds (cgroup v1)
    #[arg(long, value_name = "USEC")]
    cpu_rt_period: Option<u64>,
    /// CPU time of real-time tasks in each period, in microseconds (cgroup v1)
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// CPUs it may run on: 0-3, 0,1
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes it may use: 0-3, 0,1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short = 'm', long, value_name = "BYTES", value_parser = parse_size)]
    memory: Option<u64>,
    /// Memory it keeps under pressure
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    memory_reservation: Option<u64>,
    /// Memory and swap together; -1 for unlimited swap
    #[arg(long, value_name = "BYTES", value_parser = parse_size_or_unlimited, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Processes and threads; -1 for no limit (default 2048)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Relative weight of block I/O, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
}

impl LimitArgs {
    /// Returns the limits.
    pub(crate) fn resources(&self) -> Resources {
        let mut limits = Resources::default();
        limits.nano_cpus = self.cpus;
        limits.cpu_shares = self.cpu_shares;
        limits.cpu_period = self.cpu_period;
        limits.cpu_quota = self.cpu_quota;
        limits.cpu_rt_period = self.cpu_rt_period;
        limits.cpu_rt_runtime = self.cpu_rt_runtime;
        limits.cpuset_cpus.clone_from(&self.cpuset_cpus);
        limits.cpuset_mems.clone_from(&self.cpuset_mems);
        limits.memory = self.memory;
        limits.memory_reservation = self.memory_reservation;
        limits.memory_swap = self.memory_swap;
        limits.pids_limit = self.pids_limit.map(|n| if n == 0 { -1 } else { n });
        limits.blkio_weight = self.blkio_weight;
        limits
    }
}

/// Limits of a container.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub(crate) struct ResourceArgs {
    #[command(flatten)]
    limits: LimitArgs,
    /// Readiness to swap its memory, 0 to 100
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    memory_swappiness: Option<i64>,
    /// Stop it instead of killing when its memory runs out (cgroup v1)
    #[arg(long)]
    oom_kill_disable: bool,
    /// Relative weight of a device's block I/O, as /dev/sda:200
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    blkio_weight_device: Vec<String>,
    /// Value of a file of cgroup v2, as memory.high=1073741824
    #[arg(long, value_name = "FILE=VALUE")]
    cgroup_conf: Vec<String>,
    /// Bytes read from a device in a second, as /dev/sda:1mb
    #[arg(long, value_name = "DEVICE:RATE")]
    device_read_bps: Vec<String>,
    /// Bytes written to a device in a second, as /dev/sda:1mb
    #[arg(long, value_name = "DEVICE:RATE")]
    device_write_bps: Vec<String>,
    /// Reads from a device in a second, as /dev/sda:1000
    #[arg(long, value_name = "DEVICE:RATE")]
    device_read_iops: Vec<String>,
    /// Writes to a device in a second, as /dev/sda:1000
    #[arg(long, value_name = "DEVICE:RATE")]
    device_write_iops: Vec<String>,
    /// Size of /dev/shm (default 64m)
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    shm_size: Option<u64>,
    /// Limit of processes, as nofile=1024:4096
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// How readily the kernel ends it when memory is short, -1000 to 1000
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
}

impl ResourceArgs {
    /// Writes the wishes into `spec`.
    pub(crate) fn apply(&self, spec: &mut ContainerSpec) -> Result<()> {
        let mut limits = self.limits.resources();
        // -1 is Docker's "the kernel's own".
        limits.memory_swappiness = self.memory_swappiness.and_then(|n| u64::try_from(n).ok());
        limits.oom_kill_disable = self.oom_kill_disable.then_some(true);
        for setting in &self.cgroup_conf {
            let (file, value) =
                setting.split_once('=').filter(|(file, _)| !file.is_empty()).ok_or_else(|| {
                    Failure::usage(format!("invalid cgroup setting {setting:?}: give FILE=VALUE"))
                })?;
            limits.unified.insert(file.to_owned(), value.to_owned());
        }
        let mut devices: Vec<DeviceLimit> = Vec::new();
        let mut device = |path: &str, set: &dyn Fn(&mut DeviceLimit)| {
            let at = devices.iter().position(|d| d.path == path).unwrap_or_else(|| {
                devices.push(DeviceLimit::new(path));
                devices.len() - 1
            });
            set(&mut devices[at]);
        };
        type Slot = fn(&mut DeviceLimit) -> &mut u64;
        let kinds: [(&[String], bool, Slot); 4] = [
            (&self.device_read_bps, true, |d| &mut d.read_bps),
            (&self.device_write_bps, true, |d| &mut d.write_bps),
            (&self.device_read_iops, false, |d| &mut d.read_iops),
            (&self.device_write_iops, false, |d| &mut d.write_iops),
        ];
        for (texts, bytes, slot) in kinds {
            for text in texts {
                let (path, rate) = rate(text, bytes)?;
                device(path, &|limit| *slot(limit) = rate);
            }
        }
        for text in &self.blkio_weight_device {
            let (path, weight) = rate(text, false)?;
            let weight = u16::try_from(weight).ok().filter(|weight| (10..=1000).contains(weight));
            let weight =
                weight.ok_or_else(|| Failure::usage(format!("invalid weight {text:?}: it is 10 to 1000")))?;
            device(path, &|limit| limit.weight = weight);
        }
        limits.blkio_devices = devices;
        spec.resources = limits;
        // Zero is the default, as in Docker.
        spec.shm_size = self.shm_size.filter(|size| *size > 0);
        spec.oom_score_adj = self.oom_score_adj;
        spec.ulimits = self.ulimit.iter().map(|text| ulimit(text)).collect::<Result<_>>()?;
        Ok(())
    }
}

fn rate(text: &str, bytes: bool) -> Result<(&str, u64)> {
    let wrong = || Failure::usage(format!("invalid limit {text:?}: give DEVICE:RATE, such as /dev/sda:1mb"));
    let (path, rate) = text.rsplit_once(':').filter(|(path, _)| path.starts_with('/')).ok_or_else(wrong)?;
    let rate = if bytes { parse_size(rate).ok() } else { rate.parse().ok() };
    Ok((path, rate.ok_or_else(wrong)?))
}

fn ulimit(text: &str) -> Result<Ulimit> {
    let wrong = || {
        Failure::usage(format!("invalid ulimit {text:?}: give NAME=SOFT[:HARD], such as nofile=1024:4096"))
    };
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |text: &str| if text == "unlimited" { Ok(-1) } else { text.parse().map_err(|_| wrong()) };
    Ok(Ulimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
}

/// Parses a decimal number of CPUs into billionths, exactly.
fn parse_cpus(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no number of CPUs");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || (whole.is_empty() && fraction.is_empty()) {
        return Err(wrong());
    }
    let part =
        |digits: &str| if digits.is_empty() { Ok(0) } else { digits.parse::<u64>().map_err(|_| wrong()) };
    let nanos = part(&format!("{fraction:0<9}"))?;
    part(whole)?.checked_mul(1_000_000_000).and_then(|w| w.checked_add(nanos)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_exact() {
        assert_eq!(parse_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_cpus(".1"), Ok(100_000_000));
        assert_eq!(parse_cpus("2"), Ok(2_000_000_000));
        assert!(parse_cpus("x").is_err() && parse_cpus(".").is_err() && parse_cpus("1.0000000001").is_err());
    }

    #[test]
    fn limits_of_one_device_are_joined() {
        let args = ResourceArgs {
            device_read_bps: vec!["/dev/sda:1mb".into()],
            device_write_iops: vec!["/dev/sda:10".into()],
            ulimit: vec!["nofile=10:20".into(), "core=unlimited".into()],
            ..ResourceArgs::default()
        };
        let mut spec = ContainerSpec::default();
        args.apply(&mut spec).unwrap();
        let [device] = &spec.resources.blkio_devices[..] else { panic!() };
        assert_eq!((device.read_bps, device.write_iops), (1 << 20, 10));
        assert_eq!(spec.ulimits[1], Ulimit { name: "core".into(), soft: -1, hard: -1 });
        assert!(ulimit("nofile").is_err() && rate("sda", true).is_err());
    }
}
