//! A user at a terminal: raw mode, size, detach keys.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use engine_testkit::require;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::support::{Cli, until};

/// A terminal with the binary at it.
struct Terminal {
    master: File,
    slave: File,
    screen: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Terminal {
    fn open(cli: &Cli, args: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(path).unwrap();
        let stdio = || Stdio::from(OwnedFd::from(slave.try_clone().unwrap()));
        resize(&slave, 80, 24);
        let inner = cli.command(args);
        // setsid(1) makes the terminal a controlling one, so that SIGWINCH comes.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(inner.get_program()).args(inner.get_args());
        command.env("DOCKER_CONFIG", cli.path("docker"));
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        let master = File::from(master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, copy) = (master.try_clone().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = reader.read(&mut buffer) {
                copy.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { master, slave, screen, child }
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        until(&format!("{text:?} on the screen, not {:?}", self.screen()), || self.screen().contains(text));
    }

    fn types(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    fn is_cooked(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    fn exit(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

fn resize(terminal: &File, columns: u16, rows: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

#[test]
fn a_shell_in_a_terminal() {
    require!(root, overlayfs, "setsid");
    let mut cli = Cli::new();
    let mut terminal = Terminal::open(&cli, &["run", "--rm", "-it", "busybox", "sh"]);
    terminal.shows("# ");
    assert!(!terminal.is_cooked(), "the terminal is raw while the container has it");
    terminal.types(b"stty size; tty\r");
    terminal.shows("24 80");
    terminal.shows("/dev/");
    resize(&terminal.slave, 100, 50);
    // The new size arrives by a signal: ask until it is there.
    until("the new size", || {
        terminal.types(b"stty size\r");
        std::thread::sleep(std::time::Duration::from_millis(100));
        terminal.screen().contains("50 100")
    });
    // Ctrl-C interrupts what runs inside, not the command.
    terminal.types(b"sleep 1000\r");
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.types(b"\x03");
    terminal.types(b"echo still $((40 + 2))\r");
    terminal.shows("still 42");
    terminal.types(b"exit 12\r");
    assert_eq!(terminal.exit(), Some(12));
    assert!(terminal.is_cooked(), "the terminal is as it was");
    cli.finish_clean();
}

#[test]
fn detach_keys_leave_the_container_running_and_attach_comes_back() {
    require!(root, overlayfs, "setsid");
    let cli = Cli::new();
    let mut terminal = Terminal::open(&cli, &["run", "-it", "--name", "shell", "busybox", "sh"]);
    terminal.shows("# ");
    terminal.types(b"\x10\x11");
    assert_eq!(terminal.exit(), Some(0));
    assert!(terminal.is_cooked());
    assert_eq!(cli.inspect("shell", "{{.State.Running}}"), "true");
    let mut again = Terminal::open(&cli, &["attach", "--detach-keys", "ctrl-x", "shell"]);
    again.types(b"echo back $((1 + 1))\r");
    again.shows("back 2");
    again.types(b"\x18");
    assert_eq!(again.exit(), Some(0));
    assert_eq!(cli.inspect("shell", "{{.State.Running}}"), "true");
    let mut exec = Terminal::open(&cli, &["exec", "-it", "shell", "sh"]);
    exec.shows("# ");
    exec.types(b"\x10\x11");
    assert_eq!(exec.exit(), Some(0));
    let mut last = Terminal::open(&cli, &["attach", "shell"]);
    last.types(b"exit 3\r");
    assert_eq!(last.exit(), Some(3));
    let told = |filter: &str| {
        cli.run(&["events", "--since", "0", "--until", "0s", "-f", filter, "--format", "{{.Action}}"]).ok()
    };
    assert_eq!(told("event=detach"), "detach\ndetach\n");
    assert_eq!(told("event=exec_detach"), "exec_detach\n");
    assert_eq!(told("event=attach"), "attach\nattach\nattach\n");
    assert!(told("event=resize").starts_with("resize\n"), "{}", told("event=resize"));
    cli.finish();
}

#[test]
fn exec_has_a_terminal_of_its_own() {
    require!(root, overlayfs, "setsid");
    let cli = Cli::new();
    cli.start(&["--name", "box", "busybox", "sleep", "1000"]);
    let mut terminal = Terminal::open(&cli, &["exec", "-it", "box", "sh"]);
    terminal.shows("# ");
    terminal.types(b"stty size\r");
    terminal.shows("24 80");
    terminal.types(b"exit 8\r");
    assert_eq!(terminal.exit(), Some(8));
    assert!(terminal.is_cooked());
    cli.finish();
}

#[test]
fn a_killed_session_restores_the_terminal() {
    require!(root, overlayfs, "setsid");
    let cli = Cli::new();
    cli.start(&["-it", "--name", "shell", "busybox", "sh"]);
    let mut terminal = Terminal::open(&cli, &["attach", "--sig-proxy=false", "shell"]);
    until("raw mode", || !terminal.is_cooked());
    let inner = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", terminal.child.id())).unwrap();
    let pid: i32 =
        inner.split_whitespace().next().map_or_else(|| terminal.child.id() as i32, |p| p.parse().unwrap());
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(terminal.exit(), Some(143));
    assert!(terminal.is_cooked());
    assert_eq!(cli.inspect("shell", "{{.State.Running}}"), "true");
    cli.finish();
}

#[test]
fn a_terminal_in_the_container_needs_one_here() {
    require!(root, overlayfs);
    let mut cli = Cli::new();
    cli.feed(&["run", "--rm", "-it", "busybox", "true"], b"").fails(125, &["stdin is not a terminal"]);
    // Without -i it is fine: the output goes through the container's terminal.
    assert_eq!(cli.run(&["run", "--rm", "-t", "busybox", "echo", "hi"]).ok(), "hi\r\n");
    cli.finish_clean();
}

#[test]
fn a_build_shows_its_steps_side_by_side() {
    require!(root, overlayfs, "setsid");
    let cli = Cli::new();
    let context = cli.path("context");
    std::fs::create_dir(&context).unwrap();
    let fifo = "mkfifo /f; echo of one; sleep 0.3; echo -e '\\033[2Jnot obeyed'";
    let text = format!(
        "FROM busybox AS one\nRUN {fifo}\nFROM busybox\nRUN echo of two; sleep 0.3; touch /two\nCOPY --from=one /f /f\n"
    );
    std::fs::write(context.join("Dockerfile"), text).unwrap();
    let args = ["build", "--network", "none", "-t", "app", context.to_str().unwrap()];
    let mut terminal = Terminal::open(&cli, &args);
    assert_eq!(terminal.exit(), Some(0), "{}", terminal.screen());
    terminal.shows("[+] Building");
    terminal.shows("(5/5)");
    for shown in [
        " => [one 2/2] RUN mkfifo",
        " => => # of one",
        " => => # of two",
        "not obeyed",
        "named docker.io/library/app",
    ] {
        terminal.shows(shown);
    }
    assert!(!terminal.screen().contains("\u{1b}[2J"), "{:?}", terminal.screen());
    let mut again = Terminal::open(&cli, &args);
    assert_eq!(again.exit(), Some(0));
    again.shows(" => CACHED [one 2/2] RUN mkfifo");
    // Nor is a command obeyed by way of the error.
    let text = "FROM busybox\nRUN echo -e '\\033[2Jlast words'; exit 3\n";
    std::fs::write(context.join("Dockerfile"), text).unwrap();
    let mut failing = Terminal::open(&cli, &args);
    assert_eq!(failing.exit(), Some(1));
    failing.shows("non-zero code: 3");
    failing.shows("last words");
    assert!(!failing.screen().contains("\u{1b}[2J"), "{:?}", failing.screen());
    cli.finish();
}
