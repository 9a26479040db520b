//! A fake registry: a small HTTP/1.1 server over TCP or TLS that records every byte it gets.
//!
//! The test's handler answers; each connection serves one request. Written by hand, so that answers can be as wrong as
//! a hostile or broken server's.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// A request as it was received.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The Content-Length to claim; `None` sends the body in one chunk.
    pub(crate) length: Option<usize>,
    /// How long to keep quiet after the body instead of closing.
    pub(crate) hang: Option<Duration>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), length: Some(0), hang: None }
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.length = Some(self.body.len());
        self
    }

    /// Claims another length than the body has.
    pub(crate) fn claiming(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    pub(crate) fn chunked(mut self) -> Self {
        self.length = None;
        self
    }

    pub(crate) fn hanging(mut self, time: Duration) -> Self {
        self.hang = Some(time);
        self
    }
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A running fake; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) addr: SocketAddr,
    requests: Arc<Mutex<Vec<Seen>>>,
    raw: Arc<Mutex<Vec<u8>>>,
}

impl Fake {
    pub(crate) async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve("127.0.0.1:0", None, Arc::new(handler)).await
    }

    pub(crate) async fn tls(
        config: ServerConfig,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve("127.0.0.1:0", Some(TlsAcceptor::from(Arc::new(config))), Arc::new(handler)).await
    }

    async fn serve(addr: &str, tls: Option<TlsAcceptor>, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let fake =
            Self { addr: listener.local_addr().unwrap(), requests: Arc::default(), raw: Arc::default() };
        let this = fake.clone();
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (this, tls, handler) = (this.clone(), tls.clone(), Arc::clone(&handler));
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                this.connection(stream, &*handler).await;
                            }
                        }
                        None => this.connection(stream, &*handler).await,
                    }
                });
            }
        });
        fake
    }

    async fn connection(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, handler: &Handler) {
        let Some(seen) = self.read(&mut stream).await else {
            // What Go's server says to a TLS hello.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
            return;
        };
        self.requests.lock().unwrap().push(seen.clone());
        let reply = handler(&seen);
        let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let bodiless = seen.method == "HEAD" || reply.status == 204;
        match reply.length {
            Some(length) => head.push_str(&format!("Content-Length: {length}\r\n\r\n")),
            None => head.push_str("Transfer-Encoding: chunked\r\n\r\n"),
        }
        let _ = stream.write_all(head.as_bytes()).await;
        if !bodiless {
            if reply.length.is_none() {
                let _ = stream.write_all(format!("{:x}\r\n", reply.body.len()).as_bytes()).await;
            }
            let _ = stream.write_all(&reply.body).await;
            if reply.length.is_none() {
                let _ = stream.write_all(b"\r\n0\r\n\r\n").await;
            }
        }
        let _ = stream.flush().await;
        if let Some(time) = reply.hang {
            tokio::time::sleep(time).await;
        }
        let _ = stream.shutdown().await;
    }

    async fn read(&self, stream: &mut (impl AsyncRead + Unpin)) -> Option<Seen> {
        let mut data = Vec::new();
        let mut piece = [0; 16 << 10];
        let mut wanted = None;
        loop {
            let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
            data.extend_from_slice(&piece[..count]);
            self.raw.lock().unwrap().extend_from_slice(&piece[..count]);
            if data[0] == 0x16 {
                return None;
            }
            if wanted.is_none() {
                wanted = data.windows(4).position(|w| w == b"\r\n\r\n").map(|end| {
                    let head = String::from_utf8_lossy(&data[..end]).into_owned();
                    let mut words = head.split(' ');
                    let seen = Seen {
                        method: words.next().unwrap().to_owned(),
                        target: words.next().unwrap().to_owned(),
                        head: head.clone(),
                        body: Vec::new(),
                    };
                    let length = seen.header("content-length").map_or(0, |text| text.parse().unwrap());
                    (end + 4, length, seen)
                });
            }
            if let Some((start, length, seen)) = &mut wanted
                && data.len() >= *start + *length
            {
                seen.body = data[*start..*start + *length].to_vec();
                return Some(seen.clone());
            }
        }
    }

    pub(crate) fn host(&self) -> String {
        self.addr.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns every byte that came, TLS hellos included.
    pub(crate) fn raw(&self) -> Vec<u8> {
        self.raw.lock().unwrap().clone()
    }

    pub(crate) fn reference(&self, repository: &str) -> engine_core::reference::Reference {
        format!("{}/{repository}", self.host()).parse().unwrap()
    }
}

/// A port on which nothing listens.
pub(crate) async fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}
