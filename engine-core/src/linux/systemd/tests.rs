//! Against a peer that says what a test wants it to: above all what systemd never would.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use super::*;

/// Serves one conversation after the other, each by one script, at a user's private socket.
struct Peer {
    dir: tempfile::TempDir,
    thread: Option<JoinHandle<()>>,
}

type Script = Box<dyn FnOnce(Dialog) + Send>;

/// The server's side of a conversation after the authentication.
struct Dialog {
    stream: BufReader<UnixStream>,
    serial: u32,
}

impl Peer {
    fn new(scripts: Vec<Script>) -> Self {
        Self::answering("OK 0123456789abcdef0123456789abcdef\r\n", scripts)
    }

    fn answering(answer: &'static str, scripts: Vec<Script>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("systemd")).unwrap();
        let listener = UnixListener::bind(dir.path().join("systemd/private")).unwrap();
        let thread = std::thread::spawn(move || {
            for script in scripts {
                let (stream, _) = listener.accept().unwrap();
                let mut stream = BufReader::new(stream);
                let mut line = Vec::new();
                stream.read_until(b'\n', &mut line).unwrap();
                let user = hex::encode(rustix::process::geteuid().as_raw().to_string());
                assert_eq!(line, format!("\0AUTH EXTERNAL {user}\r\n").as_bytes());
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
                line.clear();
                stream.read_until(b'\n', &mut line).unwrap();
                assert_eq!(line, b"BEGIN\r\n");
                script(Dialog { stream, serial: 0 });
            }
        });
        Self { dir, thread: Some(thread) }
    }

    fn systemd(&self) -> Systemd {
        Systemd::new(&SystemdInstance::User(self.dir.path().to_owned()))
    }

    /// Every conversation there was to be has been.
    fn finish(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Dialog {
    /// Reads a call and returns it; its text shows what was asked for.
    fn call(&mut self) -> String {
        let mut fixed = [0; wire::FIXED];
        self.stream.read_exact(&mut fixed).unwrap();
        let mut bytes = vec![0; wire::Message::length(&fixed).unwrap()];
        bytes[..wire::FIXED].copy_from_slice(&fixed);
        self.stream.read_exact(&mut bytes[wire::FIXED..]).unwrap();
        self.serial = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn send(&mut self, bytes: &[u8]) {
        // A client that has heard enough is gone.
        let _ = self.stream.get_mut().write_all(bytes);
    }

    fn answer(&mut self, signature: &str, body: Writer) {
        let message =
            wire::tests::message(wire::METHOD_RETURN, &[(5, self.serial)], &[(8, "g", signature)], &body);
        self.send(&message);
    }

    fn refuse(&mut self, name: &str, text: &str) {
        let mut body = Writer::default();
        body.text(text);
        let fields = [(4, "s", name), (8, "g", "s")];
        self.send(&wire::tests::message(wire::ERROR, &[(5, self.serial)], &fields, &body));
    }

    fn job_removed(&mut self, job: &str, result: &str) {
        let mut body = Writer::default();
        body.number(1).text(job).text("x.scope").text(result);
        let fields = [(1, "o", "/x"), (3, "s", "JobRemoved"), (8, "g", "uoss")];
        self.send(&wire::tests::message(wire::SIGNAL, &[], &fields, &body));
    }
}

fn text(text: &str) -> Writer {
    let mut body = Writer::default();
    body.text(text);
    body
}

#[test]
fn a_scope_is_there_when_its_job_has_ended() {
    let peer = Peer::new(vec![
        Box::new(|mut dialog| {
            let call = dialog.call();
            for word in ["StartTransientUnit", "x.scope", "fail", "PIDs", "Slice", "user.slice"] {
                assert!(call.contains(word), "{word}: {call:?}");
            }
            // The end of another's job, and that of ours before the answer says which is ours.
            dialog.job_removed("/job/1", "failed");
            dialog.job_removed("/job/2", "done");
            dialog.answer("o", text("/job/2"));
        }),
        Box::new(|mut dialog| {
            dialog.call();
            dialog.answer("o", text("/job/3"));
            dialog.job_removed("/job/3", "timeout");
        }),
        Box::new(|mut dialog| {
            dialog.call();
            dialog.refuse("org.freedesktop.systemd1.UnitExists", "Unit x.scope was already \u{1b}[31mloaded");
        }),
    ]);
    let systemd = peer.systemd();
    let slice = [("Slice", Value::Text("user.slice".to_owned()))];
    systemd.start_scope("x.scope", 7, &slice).unwrap();
    let error = systemd.start_scope("x.scope", 7, &slice).unwrap_err();
    assert!(error.report().contains("timeout"), "{}", error.report());
    let error = systemd.start_scope("x.scope", 7, &slice).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(!error.report().contains('\u{1b}'), "{:?}", error.report());
    peer.finish();
}

#[test]
fn a_unit_that_is_gone_is_ended_already() {
    let gone: Script = Box::new(|mut dialog| {
        for member in ["KillUnit", "StopUnit"] {
            assert!(dialog.call().contains(member));
            dialog.refuse("org.freedesktop.systemd1.NoSuchUnit", "Unit x.scope not loaded.");
        }
    });
    let denied: Script = Box::new(|mut dialog| {
        dialog.call();
        dialog.refuse("org.freedesktop.DBus.Error.AccessDenied", "no");
    });
    let peer = Peer::new(vec![gone, denied]);
    peer.systemd().end("x.scope").unwrap();
    let error = peer.systemd().end("x.scope").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    peer.finish();
}

#[test]
fn the_root_is_asked_for_once_and_is_a_plain_path() {
    let root = |path: &'static str| -> Script {
        Box::new(move |mut dialog| {
            dialog.call();
            let mut body = Writer::default();
            body.variant(&Value::Text(path.to_owned()));
            dialog.answer("v", body);
        })
    };
    let peer = Peer::new(vec![root("/user.slice"), root(""), root("/a/../../etc")]);
    let systemd = peer.systemd();
    assert_eq!(systemd.root().unwrap(), Path::new("/user.slice"));
    assert_eq!(systemd.clone().root().unwrap(), Path::new("/user.slice"));
    assert_eq!(peer.systemd().root().unwrap(), Path::new("/"));
    assert_eq!(peer.systemd().root().unwrap_err().kind(), ErrorKind::Corrupt);
    peer.finish();
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let after_a_call = |bytes: &'static [u8]| -> Script {
        Box::new(move |mut dialog| {
            dialog.call();
            dialog.send(bytes);
        })
    };
    let peer = Peer::new(vec![
        after_a_call(b""),
        after_a_call(b"l\x02\x00\x01"),
        after_a_call(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        // Four GiB are announced.
        after_a_call(b"l\x02\x00\x01\xff\xff\xff\xff\x01\x00\x00\x00\xff\xff\xff\xff"),
        Box::new(|mut dialog| {
            dialog.call();
            // An answer to another call, then one of the wrong type.
            dialog.serial = 99;
            dialog.answer("s", text("/job/1"));
            dialog.serial = 1;
            dialog.answer("", Writer::default());
        }),
    ]);
    let systemd = peer.systemd();
    let kinds = [0; 5].map(|_| systemd.start_scope("x.scope", 7, &[]).unwrap_err().kind());
    let (gone, wrong) = (ErrorKind::Unavailable, ErrorKind::Corrupt);
    assert_eq!(kinds, [gone, gone, wrong, wrong, wrong]);
    peer.finish();
}

#[test]
fn a_peer_that_takes_nobody_is_told() {
    for (answer, kind) in [
        ("REJECTED EXTERNAL\r\n", ErrorKind::PermissionDenied),
        ("\u{7}\u{7}\r\n", ErrorKind::PermissionDenied),
    ] {
        let peer = Peer::answering(answer, vec![Box::new(|_| ())]);
        // There is no bus to try next.
        let error = peer.systemd().root().unwrap_err();
        assert!(!error.report().contains('\u{7}'), "{:?}", error.report());
        assert!([kind, ErrorKind::Unavailable].contains(&error.kind()), "{error:?}");
        peer.finish();
    }
    let endless: &'static str = Box::leak("x".repeat(5000).into_boxed_str());
    let peer = Peer::answering(endless, vec![Box::new(|_| ())]);
    assert_eq!(peer.systemd().root().unwrap_err().kind(), ErrorKind::Corrupt);
    peer.finish();
}

#[test]
fn a_host_without_systemd_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = Systemd::new(&SystemdInstance::User(dir.path().to_owned())).root().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("cgroupfs"), "{}", error.report());
}
