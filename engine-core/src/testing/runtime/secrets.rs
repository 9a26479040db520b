//! Promises about secrets.

use super::*;
use crate::launch::ExecSpec;
use crate::restart::RestartPolicy;
use crate::secret::{SecretData, SecretFile, SecretVariable};
use crate::state::ContainerStatus;

/// Promise: a container has the files and variables of its secrets at each run, an exec has them too, and the runtime shows
/// them to nobody else.
pub async fn secrets_are_there_at_each_run(bench: Bench<'_>) {
    let secret = |text: &str| SecretData::new(text);
    let change = |launch: &mut LaunchSpec| {
        let path = "/run/secrets/deep/key".into();
        launch.secret_files =
            vec![SecretFile { path, content: secret("in a file"), uid: 0, gid: 0, mode: 0o400 }];
        launch.secret_env = vec![SecretVariable { name: "TOKEN".to_owned(), value: secret("in a variable") }];
        launch.restart = RestartPolicy::Always;
    };
    let script = "cat /run/secrets/deep/key; echo \" $TOKEN\"; exit 1";
    let id = bench.create_with(&sh(script), change).await;
    bench.runtime.start(&id).await.expect("start");
    bench.until(&id, |state| state.restart_count >= 2).await;
    bench.runtime.stop(&id, SIGKILL).await.expect("stop");
    bench.until(&id, |state| state.status == ContainerStatus::Exited).await;
    let log = log_text(bench.runtime, &id).await;
    // The last run may have been killed in the middle of its line.
    let whole: Vec<_> = log.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
    assert!(whole.len() >= 2 && whole.iter().all(|line| *line == "in a file in a variable\n"), "{log:?}");
    let id = bench.create_with(FOREVER, change).await;
    bench.runtime.start(&id).await.expect("start");
    let spec = ExecSpec::new(sh(script));
    let exec = bench.runtime.exec(&id, &spec, AttachOptions::piped(false)).await.expect("exec");
    assert_eq!(read_text(exec.streams.stdout).await, "in a file in a variable\n");
    let shown = format!("{:?} {:?}", bench.runtime, bench.runtime.state(&id).await);
    assert!(!shown.contains("in a"), "{shown}");
}
