//! An image as `docker inspect` shows it.

use std::collections::HashMap;

use bollard_stubs::models::{
    DriverData, HealthConfig, ImageConfig, ImageInspect, ImageInspectRootFs, OciDescriptor,
};
use engine_core::engine::Image;
use engine_core::image_config::{Healthcheck, ProcessDefaults};

use super::dates;

/// Returns the answer of `GET /images/{name}/json`.
#[must_use]
pub fn image_inspect(image: &Image) -> ImageInspect {
    let config = &image.config;
    let tags = image.names.iter().filter(|name| name.tag().is_some()).map(|name| name.familiar());
    let mut digests: Vec<String> =
        image.names.iter().map(|name| format!("{}@{}", name.familiar_name(), image.target.digest)).collect();
    digests.dedup();
    ImageInspect {
        id: Some(image.id().to_string()),
        descriptor: Some(OciDescriptor {
            media_type: Some(image.target.media_type.clone()),
            digest: Some(image.target.digest.to_string()),
            size: i64::try_from(image.target.size).ok(),
            ..OciDescriptor::default()
        }),
        repo_tags: Some(tags.collect()),
        repo_digests: Some(digests),
        comment: Some(config.history.last().and_then(|h| h.comment.clone()).unwrap_or_default()),
        created: dates::parsed(&config.created),
        author: Some(config.author.clone()),
        config: Some(process(&config.config)),
        architecture: Some(config.architecture.clone()),
        variant: config.variant.clone(),
        os: Some(config.os.clone()),
        size: i64::try_from(image.size()).ok(),
        graph_driver: Some(DriverData { name: "overlayfs".to_owned(), data: HashMap::new() }),
        root_fs: Some(ImageInspectRootFs {
            typ: "layers".to_owned(),
            layers: Some(image.diff_ids().iter().map(ToString::to_string).collect()),
        }),
        ..ImageInspect::default()
    }
}

fn process(defaults: &ProcessDefaults) -> ImageConfig {
    let list = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
    ImageConfig {
        user: Some(defaults.user.clone()),
        exposed_ports: list(&defaults.exposed_ports.keys().cloned().collect()),
        env: list(&defaults.env),
        cmd: list(&defaults.cmd),
        healthcheck: defaults.healthcheck.as_ref().map(healthcheck),
        volumes: list(&defaults.volumes.keys().cloned().collect()),
        working_dir: Some(defaults.working_dir.clone()),
        entrypoint: list(&defaults.entrypoint),
        on_build: list(&defaults.on_build),
        labels: Some(defaults.labels.clone().into_iter().collect())
            .filter(|all: &HashMap<_, _>| !all.is_empty()),
        stop_signal: Some(defaults.stop_signal.clone()).filter(|signal| !signal.is_empty()),
        shell: list(&defaults.shell),
        ..ImageConfig::default()
    }
}

fn healthcheck(check: &Healthcheck) -> HealthConfig {
    let nanos = |time: Option<u64>| time.and_then(|t| i64::try_from(t).ok());
    HealthConfig {
        test: Some(check.test.clone()),
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        retries: check.retries.map(Into::into),
        start_period: nanos(check.start_period),
        start_interval: nanos(check.start_interval),
    }
}
