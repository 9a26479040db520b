//! Promises about resolvers. What one answers is the implementation's own to test: not every runtime has networks.

use super::*;
use crate::network::names::{ResolverConfig, ResolverZone};

/// Promise: a container that was created with a resolver can be given another configuration until it has ended, by any
/// instance; another one cannot.
pub async fn resolver_is_configured_while_it_is_there(bench: Bench<'_>) {
    let mut config = ResolverConfig { forward: true, ..ResolverConfig::default() };
    let change = |launch: &mut LaunchSpec| launch.resolver = Some(ResolverConfig::default());
    let id = bench.create_with(FOREVER, change).await;
    bench.runtime.set_resolver(&id, &config).await.expect("before the start");
    bench.runtime.start(&id).await.expect("start");
    config.zones = vec![ResolverZone::new("net".parse().expect("name"), "/zone".into())];
    bench.second.set_resolver(&id, &config).await.expect("while it runs");
    config.zones = vec![ResolverZone::new("net".parse().expect("name"), "zone".into())];
    let refused = bench.runtime.set_resolver(&id, &config).await;
    assert_kind(refused, &[ErrorKind::InvalidArgument], "a path that is not absolute");
    let wrong = ResolverConfig { zones: config.zones, ..ResolverConfig::default() };
    let (other, mut launch) = (ContainerId::random(), bench.harness.launch(&id, FOREVER).await);
    launch.resolver = Some(wrong);
    assert_kind(bench.runtime.create(&other, &launch).await, &[ErrorKind::InvalidArgument], "create");
    bench.runtime.stop(&id, SIGKILL).await.expect("stop");
    bench.wait(&id).await;
    let config = ResolverConfig::default();
    bench.runtime.delete(&id).await.expect("delete");
    assert_kind(bench.runtime.set_resolver(&id, &config).await, &[ErrorKind::NotFound], "after its deletion");
    let plain = bench.start(FOREVER).await;
    assert_kind(bench.runtime.set_resolver(&plain, &config).await, &[ErrorKind::Conflict], "without one");
    bench.harness.release(&id).await;
}
