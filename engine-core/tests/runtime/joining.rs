//! SECURITY A6: what a container sees of a process on its way in.

use engine_core::logs::LogQuery;
use engine_core::oci_spec::runtime::Capability;
use engine_core::{LaunchSpec, Runtime as _};
use futures_util::StreamExt as _;

use crate::support::Bench;

/// How many execs are made for the container to look at, at most.
const TRIES: usize = 600;
/// How many of them it has to have met before they became what they are to execute.
const MEETINGS: usize = 3;

/// Looks at every process it sees, as fast as a shell can: with its own commands only, no process between a look and what
/// follows. A process is on its way while it has our helper's name; then memory, root and descriptors are tried, and the name
/// is read again, since what has arrived meanwhile may be looked at.
const LOOK: &str = r#"
seen=0
while :; do for p in /proc/[0-9]*; do
  [ $p = /proc/1 ] && continue
  read name 2>/dev/null < $p/comm || continue
  [ "$name" = engine-shim ] || continue
  open=
  true 2>/dev/null < $p/mem && open="$open mem"
  cd $p/root/ 2>/dev/null && { open="$open root"; [ -e ./only-in-the-container ] || open="$open another-root"; }
  cd $p/cwd/ 2>/dev/null && { open="$open cwd"; [ -e /only-in-the-container ] || open="$open another-cwd"; }
  for f in $p/fd/[0-9]*; do [ -e $f ] && open="$open fd"; done
  cd /
  name=; read name 2>/dev/null < $p/comm
  [ "$name" = engine-shim ] || continue
  echo "met:$open"
done; done
"#;

async fn meetings(change: impl FnOnce(&mut LaunchSpec)) -> Vec<String> {
    let bench = Bench::new().await;
    std::fs::write(bench.layer().join("only-in-the-container"), "").unwrap();
    let id = bench.start(&["sh", "-c", LOOK], change).await;
    let mut met = Vec::new();
    for number in 0..TRIES {
        assert!(bench.exec(&id, &["true"]).await.status.success());
        if number % 20 == 19 {
            met.clear();
            let mut log = bench.runtime.logs(&id, &LogQuery::default()).await.unwrap();
            while let Some(entry) = log.next().await {
                met.push(String::from_utf8_lossy(&entry.unwrap().message).trim().to_owned());
            }
            if met.len() >= MEETINGS {
                break;
            }
        }
    }
    bench.runtime.delete(&id).await.unwrap();
    assert!(met.len() >= MEETINGS, "the container saw too little: {met:?}");
    met
}

#[tokio::test]
async fn a6_a_joining_process_cannot_be_looked_into() {
    for line in meetings(|_| ()).await {
        assert_eq!(line, "met:");
    }
}

/// With CAP_SYS_PTRACE over the user namespace that made the process, the kernel asks nobody (ptrace(2)). Then what there is to
/// see is the container's own.
#[tokio::test]
async fn a6_a_joining_process_has_nothing_of_the_host_for_one_that_may_trace() {
    let traces = |spec: &mut LaunchSpec| {
        let mut process = spec.oci.process().clone().unwrap();
        let mut capabilities = process.capabilities().clone().unwrap();
        let mut names = capabilities.bounding().clone().unwrap();
        names.insert(Capability::SysPtrace);
        capabilities.set_bounding(Some(names.clone()));
        capabilities.set_permitted(Some(names.clone()));
        capabilities.set_effective(Some(names));
        process.set_capabilities(Some(capabilities));
        spec.oci.set_process(Some(process));
    };
    for line in meetings(traces).await {
        assert!(line.starts_with("met:") && !line.contains("another"), "{line}");
    }
}
