//! What the kernel schedules and places by, as the OCI runtime spec 1.3 says it; clocks of a time namespace.

use engine_core::oci_spec::runtime::{
    ExecCPUAffinityBuilder, IOPriorityClass, LinuxIOPriorityBuilder, LinuxNamespaceBuilder,
    LinuxNamespaceType, LinuxPersonalityBuilder, LinuxPersonalityDomain, LinuxSchedulerPolicy,
    LinuxTimeOffsetBuilder, SchedulerBuilder,
};
use engine_core::{ContainerId, ErrorKind, LaunchSpec, Runtime as _};

use crate::support::Bench;

fn process(spec: &mut LaunchSpec, change: impl FnOnce(&mut engine_core::oci_spec::runtime::Process)) {
    let mut process = spec.oci.process().clone().unwrap();
    change(&mut process);
    spec.oci.set_process(Some(process));
}

fn linux(spec: &mut LaunchSpec, change: impl FnOnce(&mut engine_core::oci_spec::runtime::Linux)) {
    let mut linux = spec.oci.linux().clone().unwrap();
    change(&mut linux);
    spec.oci.set_linux(Some(linux));
}

#[tokio::test]
async fn scheduler_io_priority_and_personality_reach_the_kernel() {
    let bench = Bench::new().await;
    let id = bench
        .start(&["sleep", "1000"], |spec| {
            process(spec, |process| {
                let idle =
                    LinuxIOPriorityBuilder::default().class(IOPriorityClass::IoprioClassIdle).priority(0_i64);
                process.set_io_priority(Some(idle.build().unwrap()));
                let batch = SchedulerBuilder::default().policy(LinuxSchedulerPolicy::SchedBatch).nice(7);
                process.set_scheduler(Some(batch.build().unwrap()));
                let cpus = ExecCPUAffinityBuilder::default().cpu_affinity_final("0".to_owned());
                process.set_exec_cpu_affinity(Some(cpus.build().unwrap()));
            });
            linux(spec, |linux| {
                let old = LinuxPersonalityBuilder::default().domain(LinuxPersonalityDomain::PerLinux32);
                linux.set_personality(Some(old.build().unwrap()));
            });
        })
        .await;
    let pid = bench.runtime.state(&id).await.unwrap().pid.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    // nice is field 19 and the policy 41, see proc_pid_stat(5); the first here is field 3.
    assert_eq!((fields[16], fields[38]), ("7", "3"), "{stat}");
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/personality")).unwrap().trim(), "00000008");
    // What runs beside it has the same, and CPUs of its own.
    let outcome = bench
        .exec(&id, &["sh", "-c", "cat /proc/self/personality; grep Cpus_allowed_list /proc/self/status"])
        .await;
    assert_eq!(outcome.out, "00000008\nCpus_allowed_list:\t0\n", "{outcome:?}");
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn clocks_of_a_time_namespace_are_offset() {
    let bench = Bench::new().await;
    let offset = |spec: &mut LaunchSpec| {
        linux(spec, |linux| {
            let mut list = linux.namespaces().clone().unwrap();
            list.push(LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Time).build().unwrap());
            linux.set_namespaces(Some(list));
            let day = LinuxTimeOffsetBuilder::default().secs(1_000_000_i64).build().unwrap();
            linux.set_time_offsets(Some([("boottime".to_owned(), day)].into()));
        });
    };
    let id = bench.start(&["sleep", "1000"], offset).await;
    for outcome in [
        bench.run_with(&["cat", "/proc/uptime"], offset).await,
        // A process that joins is in it too.
        bench.exec(&id, &["cat", "/proc/uptime"]).await,
    ] {
        let uptime: f64 = outcome.out.split(' ').next().unwrap().parse().unwrap();
        assert!(uptime > 1_000_000.0, "{outcome:?}");
    }
    bench.runtime.delete(&id).await.unwrap();
}

#[tokio::test]
async fn what_the_kernel_cannot_do_is_refused_with_a_reason() {
    let bench = Bench::new().await;
    let refused = async |change: &dyn Fn(&mut LaunchSpec)| {
        let id = ContainerId::random();
        let mut spec = bench.spec(&id, &["true"]);
        change(&mut spec);
        bench.runtime.create(&id, &spec).await.unwrap_err()
    };
    let error = refused(&|spec| {
        process(spec, |process| {
            let wrong =
                LinuxIOPriorityBuilder::default().class(IOPriorityClass::IoprioClassBe).priority(8_i64);
            process.set_io_priority(Some(wrong.build().unwrap()));
        });
    });
    assert_eq!(error.await.kind(), ErrorKind::InvalidArgument);
    let error = refused(&|spec| {
        linux(spec, |linux| {
            let day = LinuxTimeOffsetBuilder::default().secs(1_i64).build().unwrap();
            linux.set_time_offsets(Some([("boottime".to_owned(), day)].into()));
        });
    });
    assert_eq!(error.await.kind(), ErrorKind::InvalidArgument, "offsets without a namespace");
    let error = refused(&|spec| {
        let mut hooks = engine_core::oci_spec::runtime::Hooks::default();
        let hook = engine_core::oci_spec::runtime::HookBuilder::default().path("/bin/true").build().unwrap();
        hooks.set_create_runtime(Some(vec![hook]));
        spec.oci.set_hooks(Some(hooks));
    });
    assert_eq!(error.await.kind(), ErrorKind::Unsupported, "a hook that would not run");
}
