//! A DNS client inside a container's network, and a server on the host's.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use engine_core::network::names::{ADDRESS, PORT};

use crate::support::PATIENCE;

pub const NO_ERROR: u8 = 0;
pub const SERVER_FAILURE: u8 = 2;
pub const NO_SUCH_NAME: u8 = 3;
const CUT: u8 = 2;

/// The number of every question here.
const NUMBER: [u8; 2] = [0xab, 0xcd];

pub fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = [&NUMBER[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes
}

/// The name that a question is about, and where that ends.
fn name_of(message: &[u8]) -> (String, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while message[at] != 0 {
        let end = at + 1 + usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..end]).into_owned());
        at = end;
    }
    (labels.join("."), at + 5)
}

/// The code of an answer, and its records as texts.
fn said(answer: &[u8]) -> (u8, Vec<String>) {
    assert_eq!(answer[..2], NUMBER, "it is the answer to our question");
    let number = |at: usize| usize::from(u16::from_be_bytes([answer[at], answer[at + 1]]));
    let (mut at, mut records) = (name_of(answer).1, Vec::new());
    for _ in 0..number(6) {
        let data = &answer[at + 12..at + 12 + number(at + 10)];
        records.push(match number(at + 2) {
            1 => IpAddr::from(<[u8; 4]>::try_from(data).unwrap()).to_string(),
            28 => IpAddr::from(<[u8; 16]>::try_from(data).unwrap()).to_string(),
            12 => name_of(&[&[0; 12], data].concat()).0,
            other => panic!("a record of kind {other}"),
        });
        at += 12 + data.len();
    }
    (answer[3] & 15, records)
}

/// A container's network namespace.
pub struct Inside(OwnedFd);

/// A connection to the resolver.
pub struct Connection(TcpStream);

impl Inside {
    pub fn new(pid: u32) -> Self {
        Self(std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap().into())
    }

    /// Runs `work` on a thread inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = self.0.as_fd();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let kind = rustix::thread::LinkNameSpaceType::Network;
                rustix::thread::move_into_link_name_space(namespace, Some(kind)).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// A socket that asks the resolver.
    pub fn socket(&self) -> UdpSocket {
        self.run(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect((ADDRESS, PORT)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        })
    }

    fn ask(&self, name: &str, kind: u16) -> Vec<u8> {
        let socket = self.socket();
        socket.send(&question(name, kind)).unwrap();
        receive(&socket)
    }

    /// Asks by datagram.
    pub fn udp(&self, name: &str, kind: u16) -> (u8, Vec<String>) {
        said(&self.ask(name, kind))
    }

    /// Asks by datagram: whether the answer is cut, and its records.
    pub fn udp_cut(&self, name: &str, kind: u16) -> (bool, Vec<String>) {
        let answer = self.ask(name, kind);
        (answer[2] & CUT != 0, said(&answer).1)
    }

    /// Asks by connection.
    pub fn tcp(&self, name: &str, kind: u16) -> (u8, Vec<String>) {
        let mut connection = self.connect();
        connection.send(&[name], kind);
        connection.receive()
    }

    pub fn connect(&self) -> Connection {
        self.run(|| {
            let stream = TcpStream::connect((ADDRESS, PORT)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            Connection(stream)
        })
    }

    /// Connects, says a part of a question or more than one, and resets the connection.
    pub fn break_connection(&self, round: usize) {
        let mut stream = self.connect().0;
        let whole = framed(&["web", "web"], 1);
        // Reset by the other side, perhaps, when it has seen enough of them.
        let _ = stream.write_all(&whole[..round % whole.len()]);
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }

    /// Says what is no question, by datagram and by connection.
    pub fn nonsense(&self) {
        let socket = self.socket();
        for length in 0..200_u8 {
            socket.send(&vec![length; length.into()]).unwrap();
            let mut stream = self.connect().0;
            let _ = stream.write_all(&[&[0, length][..], &vec![length; length.into()]].concat());
        }
    }
}

pub fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = [0; 65_536];
    let count = socket.recv(&mut bytes).expect("an answer");
    bytes[..count].to_vec()
}

/// What the socket has an answer to next: its name, and its code.
pub fn receive_name(socket: &UdpSocket) -> (String, u8) {
    let answer = receive(socket);
    (name_of(&answer).0, answer[3] & 15)
}

fn framed(names: &[&str], kind: u16) -> Vec<u8> {
    names.iter().flat_map(|name| prefixed(&question(name, kind))).collect()
}

fn prefixed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

impl Connection {
    pub fn send(&mut self, names: &[&str], kind: u16) {
        self.0.write_all(&framed(names, kind)).unwrap();
    }

    pub fn send_in_pieces(&mut self, name: &str, kind: u16) {
        let bytes = framed(&[name], kind);
        for piece in [&bytes[..1], &bytes[1..9], &bytes[9..]] {
            self.0.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn receive(&mut self) -> (u8, Vec<String>) {
        said(&read_message(&mut self.0).expect("an answer"))
    }
}

/// A DNS server on the host's loopback interface. It answers by the first label of the name: `slow` never, `fail` with a
/// failure, `cut` by datagram with a cut answer, `half` by connection with half of one, `forged` after three that are none, and everything else at once.
pub struct Server {
    pub address: SocketAddr,
    questions: Arc<AtomicUsize>,
    by_connection: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a server answers: messages in their order.
fn answers(asked: &[u8], by_connection: bool, address: [u8; 4]) -> Vec<Vec<u8>> {
    let (name, end) = name_of(asked);
    let mut answer = asked.to_vec();
    answer.truncate(end);
    (answer[2], answer[3]) = (0x81, 0x80);
    answer[6..12].fill(0);
    let first = name.split('.').next().unwrap_or_default();
    match first {
        "slow" => return Vec::new(),
        "fail" => {
            answer[3] |= SERVER_FAILURE;
            return vec![answer];
        }
        "cut" if !by_connection => {
            answer[2] |= CUT;
            return vec![answer];
        }
        _ => {}
    }
    answer[7] = 1;
    answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    let right = [&answer[..], &address].concat();
    if first != "forged" {
        return vec![right];
    }
    let mut forged = vec![[&answer[..], &[6, 6, 6, 6]].concat(); 3];
    forged[0][0] ^= 1;
    forged[1][13] ^= 3;
    forged[2][2] &= 0x7f;
    forged.push(right);
    forged
}

impl Server {
    /// Starts one whose answers have `address`.
    pub fn new(address: [u8; 4]) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            // The same number may be taken there.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let server = Self {
            address: udp.local_addr().unwrap(),
            questions: Arc::default(),
            by_connection: Arc::default(),
            ends: Arc::default(),
            threads: Mutex::default(),
        };
        let (questions, ends) = (Arc::clone(&server.questions), Arc::clone(&server.ends));
        let datagrams = move || {
            let mut bytes = [0; 2048];
            while !ends.load(Ordering::Relaxed) {
                let Ok((count, client)) = udp.recv_from(&mut bytes) else { continue };
                questions.fetch_add(1, Ordering::Relaxed);
                for answer in answers(&bytes[..count], false, address) {
                    udp.send_to(&answer, client).unwrap();
                }
            }
        };
        let (questions, ends) = (Arc::clone(&server.by_connection), Arc::clone(&server.ends));
        let connections = move || {
            let mut open = Vec::new();
            'accept: while !ends.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = tcp.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let Ok(asked) = read_message(&mut stream) else { continue };
                questions.fetch_add(1, Ordering::Relaxed);
                for answer in answers(&asked, true, address) {
                    let bytes = prefixed(&answer);
                    let half = name_of(&asked).0.starts_with("half.");
                    let _ = stream.write_all(&bytes[..bytes.len() / if half { 2 } else { 1 }]);
                    if half {
                        continue 'accept;
                    }
                }
                open.push(stream);
            }
        };
        let threads = vec![std::thread::spawn(datagrams), std::thread::spawn(connections)];
        *server.threads.lock().unwrap() = threads;
        server
    }

    /// How many questions came, by datagram and by connection.
    pub fn questions(&self) -> (usize, usize) {
        (self.questions.load(Ordering::Relaxed), self.by_connection.load(Ordering::Relaxed))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.lock().unwrap().drain(..) {
            let _ = thread.join();
        }
    }
}
