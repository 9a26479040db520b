//! Errors are those of the engine there, to the last word.

use engine_api::client::{ConnectOptions, RemoteEngine};
use engine_core::engine::{CommitOptions, LoadOptions, LoadSource, PullOptions, PushOptions, RemoveOptions};
use engine_core::io::AttachOptions;
use engine_core::logs::LogQuery;
use engine_core::secret::{SecretData, SecretOptions};
use engine_core::{ContainerSpec, Engine, Error, ErrorKind, ExecSpec, Resources};
use futures_util::StreamExt as _;

use super::{IMAGE, Pair};

/// Calls that fail, each in its own way.
async fn failures(engine: &Engine) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut add = |error: Option<Error>| {
        let number = errors.len();
        errors.push(error.unwrap_or_else(|| panic!("call {number} fails")));
    };
    let nobody = "nobody".parse().unwrap();
    let reference = "registry.example/missing:1".parse().unwrap();
    let idle = engine.container("idle").await.unwrap();
    let busy = engine.container("busy").await.unwrap();
    add(engine.container("nobody").await.err());
    add(engine.create("registry.example/missing:1", ContainerSpec::default()).await.err());
    add(engine
        .create(IMAGE, ContainerSpec::command(["true"]).with_name("idle".parse().unwrap()))
        .await
        .err());
    add(engine.create(IMAGE, ContainerSpec::command(Vec::<String>::new()).with_memory_limit(1)).await.err());
    add(idle.kill(9).await.err());
    add(idle.kill(4000).await.err());
    add(idle.pause().await.err());
    add(idle.attach(AttachOptions::piped(true)).await.err());
    add(idle.exec(&ExecSpec::new(["true"]), AttachOptions::piped(false)).await.err());
    add(idle.stats().await.err());
    add(busy.remove(RemoveOptions::default()).await.err());
    add(busy.exec(&ExecSpec::new(["no-such-command"]), AttachOptions::piped(false)).await.err());
    add(busy.exec(&ExecSpec::new(["no-such-command"]), AttachOptions::default()).await.err());
    add(busy.exec(&ExecSpec::new(Vec::<String>::new()), AttachOptions::default()).await.err());
    add(busy.rename(&"idle".parse().unwrap()).await.err());
    let mut resources = Resources::default();
    resources.memory = Some(1);
    add(busy.update(&resources).await.err());
    add(busy.connect("nobody", Default::default()).await.err());
    add(busy.restore(&nobody).await.err());
    add(busy.copy_out("/no/such/file").await.err());
    add(busy.copy_in("/no/such/dir", futures_util::stream::empty().boxed(), &Default::default()).await.err());
    add(idle.logs(&LogQuery::default()).await.err());
    add(engine.image("nobody").await.err());
    add(engine.remove_image("nobody", false).await.err());
    add(engine.remove_image(IMAGE, false).await.err());
    add(engine.pull(&reference, PullOptions::default()).await.err());
    add(engine.push(&reference, PushOptions::default()).await.err());
    add(engine.remote_tags(&reference).await.err());
    let rubbish = futures_util::stream::iter([Ok(vec![7; 4096].into())]);
    add(engine.load(LoadSource::stream(rubbish), LoadOptions::default()).await.err());
    add(engine.load(std::path::Path::new("/no/such/archive.tar"), LoadOptions::default()).await.err());
    add(engine.save(&["nobody"], tokio::io::sink(), Default::default()).await.err());
    add(engine.artifact_files(IMAGE).await.err());
    add(engine.volume(&nobody).await.err());
    add(engine.export_volume(&nobody).await.err());
    add(engine.network("nobody").await.err());
    add(engine.remove_network("host").await.err());
    add(engine.secret("nobody").await.err());
    let large = SecretData::new(vec![0; 600_000]);
    add(engine.create_secret(&nobody, large, SecretOptions::default()).await.err());
    let mut commit = CommitOptions::default();
    commit.changes.push("NONSENSE x".to_owned());
    add(idle.commit(&commit).await.err());
    errors
}

#[tokio::test]
async fn errors_say_the_same_on_both_sides() {
    let Pair { near, far, server: _server, .. } = Pair::new().await;
    let mut spec = ContainerSpec::command(["true"]).with_name("idle".parse().unwrap());
    spec.log.driver = engine_core::launch::LogDriver::None;
    near.create(IMAGE, spec).await.unwrap();
    let busy = ContainerSpec::command(["sleep", "1000"]).with_name("busy".parse().unwrap());
    near.create(IMAGE, busy).await.unwrap().start().await.unwrap();
    let all = failures(&near).await.into_iter().zip(failures(&far).await);
    for (near, far) in all {
        let said = |error: &Error| {
            let subject = error.subject().map(|(key, value)| format!("{key} {value}"));
            (
                error.report(),
                format!("{error:?}"),
                error.kind(),
                subject,
                error.hint().map(str::to_owned),
                error.is_retryable(),
            )
        };
        assert_eq!(said(&far), said(&near));
    }
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("no.sock");
    let connect = async || {
        let host = format!("unix://{}", socket.display()).parse().unwrap();
        RemoteEngine::connect(&host, ConnectOptions::default()).await.unwrap_err()
    };
    let error = connect().await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text =
        format!("cannot connect to the engine at unix://{}: is the daemon running?: ", socket.display());
    assert!(error.report().starts_with(&text), "{}", error.report());
    // A daemon of another kind.
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let other = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nServer: Docker/29.1 (linux)\r\nContent-Length: 2\r\n\r\nOK";
        stream.write_all(answer).await.unwrap();
    });
    let error = connect().await;
    other.await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.report().contains("Docker/29.1 (linux) listens there, which is not one of ours"),
        "{}",
        error.report()
    );
}

#[tokio::test]
async fn a_server_that_goes_is_an_error_and_no_end() {
    let Pair { far, server, .. } = Pair::new().await;
    let busy = far.create(IMAGE, ContainerSpec::command(["sh", "-c", "echo one; sleep 1000"])).await.unwrap();
    busy.start().await.unwrap();
    let mut log = busy.logs(&LogQuery::follow()).await.unwrap();
    assert_eq!(log.next().await.unwrap().unwrap().message, "one\n");
    drop(server);
    let error = log.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(log.next().await.is_none());
    assert_eq!(busy.inspect().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn what_is_refused_is_not_sent_to_its_end() {
    let Pair { far, server: _server, .. } = Pair::new().await;
    let endless = || futures_util::stream::repeat_with(|| Ok(vec![0; 64 << 10].into())).boxed();
    let nobody = "nobody".parse().unwrap();
    let refused = async {
        for _ in 0..3 {
            assert_eq!(far.import_volume(&nobody, endless()).await.unwrap_err().kind(), ErrorKind::NotFound);
            let rubbish =
                far.load(LoadSource::stream(endless()), LoadOptions::default().with_max_bytes(1 << 20));
            assert_eq!(rubbish.await.unwrap_err().kind(), ErrorKind::ResourceExhausted);
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, refused).await.expect("it is told in time");
    assert!(far.images().await.is_ok());
}
