//! A real S3 server on this machine: moto (`.ci/setup`), in Python.
//!
//! Owns its process. It ends with the value, and, since its standard input does, with the program that has the value.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Where `.ci/setup` puts a link into moto's own environment; `require!("moto_server")` asks for it.
const PROGRAM: &str = "/usr/local/bin/moto_server";

/// An S3 server with one bucket and nothing in it. It takes whatever credentials there are.
#[derive(Debug)]
pub struct S3 {
    process: Child,
    endpoint: String,
}

impl S3 {
    /// The name of the bucket.
    pub const BUCKET: &str = "registry";
    /// The secret key among [`variables`](Self::variables), which nothing may tell.
    pub const SECRET: &str = "sesame";

    /// Starts one.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn start() -> Self {
        let program = std::fs::read_link(Path::new(PROGRAM)).expect("moto is installed");
        let mut process = Command::new(program.with_file_name("python"))
            .args(["-c", include_str!("s3.py"), Self::BUCKET])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start moto");
        let mut port = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut port).expect("moto tells its port");
        Self { process, endpoint: format!("http://127.0.0.1:{}", port.trim()) }
    }

    /// Returns its URL.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the environment variables by which clients find it.
    #[must_use]
    pub fn variables(&self) -> [(&str, &str); 3] {
        [
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_ACCESS_KEY_ID", "someone"),
            ("AWS_SECRET_ACCESS_KEY", Self::SECRET),
        ]
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
