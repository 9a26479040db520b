//! Builds that are killed at random instants: the next one succeeds, with a cache that is right, and nothing is left.
//!
//! `ENGINE_TEST_KILLS` says how often (15 without it), `ENGINE_TEST_SEED` at which instants.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine_testkit::require;

use super::Builder;

const KILLS: u64 = 15;

/// Two stages at once, caches, mounts, files that are copied and removed: something of everything that can be under way.
const DOCKERFILE: &str = "FROM busybox AS one
COPY src /src/
RUN --mount=type=cache,target=/cache,sharing=locked cat /src/* > /one && dd if=/dev/zero of=/big bs=64k count=64 2>/dev/null
FROM busybox AS two
WORKDIR /two
RUN --mount=type=bind,source=src,target=/src cat /src/f1 > out && rm /etc/group
FROM busybox
COPY --from=one /one /big /all/
COPY --from=two /two/out /all/two
RUN --network=none ls /all > /list && rm /all/big
";

#[test]
fn a_build_that_is_killed_leaves_nothing_but_whole_steps() {
    require!(root, overlayfs);
    if std::env::var_os("ENGINE_TEST_HOST").is_some() {
        return;
    }
    let number =
        |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect(name));
    let (kills, seed) = (number("ENGINE_TEST_KILLS", KILLS), number("ENGINE_TEST_SEED", now()));
    let files: Vec<(String, String)> =
        (0..20).map(|i| (format!("src/f{i}"), format!("{i}\n").repeat(2000))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
    let all = Builder::new(&files);
    let begun = Instant::now();
    let expected = all.id(DOCKERFILE, &["-t", "app"]);
    let first = begun.elapsed();
    let begun = Instant::now();
    assert_eq!(all.id(DOCKERFILE, &["--no-cache", "-t", "app"]), expected);
    // The first one reads what others find in memory.
    let whole = begun.elapsed().min(first);
    let (mut random, mut in_time, mut reused) = (seed | 1, 0, 0);
    for round in 0..kills {
        // Sometimes with a cache, so that other things are under way; mostly with none.
        if round % 4 != 0 {
            all.run(&["builder", "prune", "-f"]).ok();
        }
        let args =
            if round % 4 == 0 { &["build", "--no-cache", "-t", "app"][..] } else { &["build", "-t", "app"] };
        let mut child =
            all.cli.local(args).arg(&all.context).stderr(std::process::Stdio::null()).spawn().unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_nanos(random % u64::try_from(whole.as_nanos()).unwrap()));
        in_time += u64::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
        let what = format!("round {round} of seed {seed}");
        // Whatever the cache has now is right: what is built with it is the same, and now all of it is there.
        let cached = all.cached();
        reused += u64::from(cached > 0);
        assert_eq!(all.config("app", "{{.Id}}"), expected, "{what}");
        assert_eq!(all.cached(), 7, "{what}");
        assert_eq!(all.run(&["ps", "-aq"]).ok(), "", "{what}");
        let ingest = fs::read_dir(all.cli.root().join("images/ingest")).map_or(0, Iterator::count);
        assert_eq!(ingest, 0, "{what}");
    }
    eprintln!(
        "{kills} kills, {in_time} of them in time, {reused} times some of it was used; a whole build takes {whole:?}"
    );
    assert!(in_time * 3 > kills, "most builds had ended when they were killed");
    assert_eq!(all.id(DOCKERFILE, &["--no-cache"]), expected);
    all.finish();
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| u64::try_from(time.as_nanos()).unwrap_or(1))
}
