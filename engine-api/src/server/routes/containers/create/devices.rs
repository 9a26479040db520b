//! Devices, by path and by request.

use engine_core::ContainerSpec;
use engine_core::container_spec::DeviceSpec;

use crate::models::{DeviceRequest, HostConfig};
use crate::notation::is_cdi_device;
use crate::server::error::Result;

use super::bad;

/// Most GPUs that a number asks for.
const MOST_GPUS: i64 = 256;

pub(super) fn apply(spec: &mut ContainerSpec, host: &HostConfig) -> Result<()> {
    for device in host.devices.iter().flatten() {
        let outside = device.path_on_host.clone().unwrap_or_default();
        if is_cdi_device(&outside) {
            spec.cdi_devices.push(outside);
            continue;
        }
        let or = |value: &Option<String>, default: &str| {
            value.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned())
        };
        let inside = or(&device.path_in_container, &outside);
        let permissions = or(&device.cgroup_permissions, "rwm");
        if !outside.starts_with('/') || !inside.starts_with('/') {
            return Err(bad("HostConfig.Devices", format!("{outside:?} to {inside:?}: paths are absolute")));
        }
        if !permissions.bytes().all(|byte| b"rwm".contains(&byte)) {
            return Err(bad("HostConfig.Devices", format!("{permissions:?} has other letters than rwm")));
        }
        spec.devices.push(DeviceSpec { host_path: outside, container_path: inside, permissions });
    }
    spec.device_cgroup_rules = host.device_cgroup_rules.clone().unwrap_or_default();
    for request in host.device_requests.iter().flatten() {
        spec.cdi_devices.extend(requested(request)?);
    }
    Ok(())
}

/// The names of the devices that a request asks for. GPUs are found by their CDI files.
fn requested(request: &DeviceRequest) -> Result<Vec<String>> {
    const FIELD: &str = "HostConfig.DeviceRequests";
    let driver = request.driver.as_deref().unwrap_or_default();
    let ids = request.device_ids.clone().unwrap_or_default();
    if driver == "cdi" {
        return match ids.iter().find(|id| !is_cdi_device(id)) {
            Some(id) => Err(bad(FIELD, format!("{id:?} is no device as vendor.com/class=name"))),
            None => Ok(ids),
        };
    }
    let capabilities = request.capabilities.clone().unwrap_or_default();
    let asks_gpu = capabilities.iter().flatten().any(|name| name == "gpu" || name == "nvidia");
    if !matches!(driver, "" | "nvidia") || !asks_gpu {
        return Err(bad(
            FIELD,
            format!("could not select device driver \"{driver}\" with capabilities: {capabilities:?}"),
        ));
    }
    let named = |name: &str| format!("nvidia.com/gpu={name}");
    match (request.count.unwrap_or(0), &ids[..]) {
        (0, ids) => Ok(ids.iter().map(|id| named(id)).collect()),
        (_, [_, ..]) => Err(bad(FIELD, "cannot set both Count and DeviceIDs on device request")),
        (-1, []) => Ok(vec![named("all")]),
        (count @ 1..=MOST_GPUS, []) => Ok((0..count).map(|index| named(&index.to_string())).collect()),
        (count, []) => Err(bad(FIELD, format!("Count is {count}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_and_named_devices_are_found() {
        let gpu = |count: i64, ids: &[&str]| DeviceRequest {
            count: Some(count),
            device_ids: Some(ids.iter().map(|&id| id.to_owned()).collect()),
            capabilities: Some(vec![vec!["gpu".to_owned()]]),
            ..DeviceRequest::default()
        };
        assert_eq!(requested(&gpu(-1, &[])).unwrap(), ["nvidia.com/gpu=all"]);
        assert_eq!(requested(&gpu(0, &["3"])).unwrap(), ["nvidia.com/gpu=3"]);
        assert_eq!(requested(&gpu(2, &[])).unwrap().len(), 2);
        let cdi = |id: &str| DeviceRequest { driver: Some("cdi".to_owned()), ..gpu(0, &[id]) };
        assert_eq!(requested(&cdi("a.com/b=c")).unwrap(), ["a.com/b=c"]);
        for wrong in [gpu(1, &["3"]), gpu(-2, &[]), gpu(1000, &[]), cdi("x"), DeviceRequest::default()] {
            assert_eq!(requested(&wrong).unwrap_err().status.as_u16(), 400, "{wrong:?}");
        }
    }
}
