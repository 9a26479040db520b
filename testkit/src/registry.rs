//! A real registry on loopback: Debian's `docker-registry` (CNCF distribution).
//!
//! Owns the process and its storage. Images are put in through a second, plain process over the same storage, so that
//! uploading works the same for every [`RegistryMode`]. Invariant: when this process ends, by whatever
//! cause, the registry ends too: it is the child of a shell that waits for the end of a pipe only we hold.

use std::{
    fs,
    io::{PipeWriter, pipe},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::{
    http,
    image::{Blob, Image},
    tools::{command, find, free_port},
};

/// How clients reach a [`Registry`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RegistryMode {
    /// http, no credentials.
    Plain,
    /// http, basic authentication: see [`Registry::USER`] and [`Registry::PASSWORD`].
    Password,
    /// https with a certificate of an own authority: see [`Registry::ca_file`].
    Tls,
    /// https and basic authentication.
    TlsPassword,
}

/// A running registry; dropping it ends it and removes its storage.
#[derive(Debug)]
pub struct Registry {
    server: Server,
    loader: Mutex<Option<Server>>,
    mode: RegistryMode,
    dir: tempfile::TempDir,
}

#[derive(Debug)]
struct Server {
    port: u16,
    child: Child,
    /// Its closing is what ends the child.
    pipe: Option<PipeWriter>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.child.wait();
    }
}

impl Registry {
    /// The only user of a registry with passwords.
    pub const USER: &'static str = "tester";
    /// That user's password.
    pub const PASSWORD: &'static str = "correct horse battery staple";

    /// Starts a registry and waits until it answers.
    ///
    /// # Panics
    /// When a program is missing or it does not answer within 20 seconds; the message holds its log.
    pub fn start(mode: RegistryMode) -> Self {
        let dir = tempfile::Builder::new().prefix("engine-registry-").tempdir().expect("temporary directory");
        fs::create_dir(dir.path().join("storage")).expect("mkdir");
        let mut more = String::new();
        if matches!(mode, RegistryMode::Password | RegistryMode::TlsPassword) {
            let line = command("htpasswd", ["-Bbn", "-C", "5", Self::USER, Self::PASSWORD]);
            let file = dir.path().join("htpasswd");
            fs::write(&file, line).expect("write htpasswd");
            more.push_str(&format!(
                "auth:\n  htpasswd:\n    realm: engine-tests\n    path: {}\n",
                file.display()
            ));
        }
        let mut tls = String::new();
        if matches!(mode, RegistryMode::Tls | RegistryMode::TlsPassword) {
            write_certificates(dir.path());
            let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
            tls = format!("  tls:\n    certificate: {}\n    key: {}\n", cert.display(), key.display());
        }
        let server = start_server(dir.path(), "server", &tls, &more);
        Self { server, loader: Mutex::new(None), mode, dir }
    }

    /// Returns `127.0.0.1:PORT`, the first part of a reference to an image in it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.server.port)
    }

    /// Returns `http://127.0.0.1:PORT` or `https://…`.
    pub fn url(&self) -> String {
        let scheme = if self.ca_file().is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.host())
    }

    /// Returns the PEM file of the authority that signed its certificate, if it speaks TLS.
    pub fn ca_file(&self) -> Option<PathBuf> {
        let tls = matches!(self.mode, RegistryMode::Tls | RegistryMode::TlsPassword);
        tls.then(|| self.dir.path().join("ca.pem"))
    }

    /// Returns the storage directory, for tests that damage it.
    pub fn storage(&self) -> PathBuf {
        self.dir.path().join("storage")
    }

    /// Puts an image with all it consists of into `repository` under `tag`; returns the reference to pull it by.
    ///
    /// # Panics
    /// When the registry refuses.
    pub fn push(&self, image: &Image, repository: &str, tag: &str) -> String {
        let port = {
            let mut loader = self.loader.lock().expect("loader");
            loader.get_or_insert_with(|| start_server(self.dir.path(), "loader", "", "")).port
        };
        for blob in image.blobs() {
            push_blob(port, repository, blob);
        }
        for (target, manifest) in image.manifests(tag) {
            let path = format!("/v2/{repository}/manifests/{target}");
            let headers = [("Content-Type", manifest.media_type.as_str())];
            let answer = http::send(port, "PUT", &path, &headers, &manifest.data).expect("PUT manifest");
            assert_eq!(answer.status, 201, "PUT {path}: {}", String::from_utf8_lossy(&answer.body));
        }
        format!("{}/{repository}:{tag}", self.host())
    }
}

fn push_blob(port: u16, repository: &str, blob: &Blob) {
    let digest = &blob.digest;
    let there =
        http::send(port, "HEAD", &format!("/v2/{repository}/blobs/{digest}"), &[], &[]).expect("HEAD blob");
    if there.status == 200 {
        return;
    }
    let start =
        http::send(port, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[]).expect("POST upload");
    assert_eq!(start.status, 202, "POST upload: {}", String::from_utf8_lossy(&start.body));
    let location = start.header("location").expect("an upload has a location").to_owned();
    let path = location.find("/v2/").map_or(location.as_str(), |at| &location[at..]);
    let join = if path.contains('?') { '&' } else { '?' };
    let target = format!("{path}{join}digest={digest}");
    let headers = [("Content-Type", "application/octet-stream")];
    let done = http::send(port, "PUT", &target, &headers, &blob.data).expect("PUT blob");
    assert_eq!(done.status, 201, "PUT {digest}: {}", String::from_utf8_lossy(&done.body));
}

fn start_server(dir: &Path, name: &str, tls: &str, more: &str) -> Server {
    let program = find("docker-registry").expect("docker-registry is not installed: run .ci/setup");
    let (config, log) = (dir.join(format!("{name}.yml")), dir.join(format!("{name}.log")));
    let mut last = String::new();
    // A port that was free may be taken by another test before the registry listens on it.
    for _ in 0..5 {
        let port = free_port();
        let text = format!(
            "version: 0.1\nlog:\n  accesslog:\n    disabled: true\n  level: warn\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\n  delete:\n    enabled: true\n  maintenance:\n    uploadpurging:\n      enabled: false\n\
             http:\n  addr: 127.0.0.1:{port}\n  secret: not-a-secret\n{tls}{more}",
            dir.join("storage").display()
        );
        fs::write(&config, text).expect("write the configuration");
        let (read, write) = pipe().expect("pipe");
        let out = fs::File::create(&log).expect("create the log");
        let child = Command::new("/bin/sh")
            .args(["-c", "\"$0\" serve \"$1\" < /dev/null & child=$!; read _; kill -9 $child; wait"])
            .args([&program, &config])
            .stdin(Stdio::from(read))
            .stdout(out.try_clone().expect("dup"))
            .stderr(out)
            .spawn()
            .expect("spawn the registry");
        let server = Server { port, child, pipe: Some(write) };
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            last = fs::read_to_string(&log).unwrap_or_default();
            if last.contains("address already in use") || last.contains("level=fatal") {
                break;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return server;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
    panic!("docker-registry does not answer: {last}");
}

fn write_certificates(dir: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).expect("certificate parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "engine test authority");
    let ca = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("key")).expect("self-signed");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let key = KeyPair::generate().expect("key");
    let params = CertificateParams::new(names).expect("certificate parameters");
    let cert = params.signed_by(&key, &ca).expect("sign");
    fs::write(dir.join("ca.pem"), ca.pem()).expect("write ca.pem");
    fs::write(dir.join("cert.pem"), cert.pem()).expect("write cert.pem");
    fs::write(dir.join("key.pem"), key.serialize_pem()).expect("write key.pem");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image;

    #[test]
    fn a_plain_registry_serves_what_was_pushed_and_ends_when_dropped() {
        crate::require!("docker-registry", "busybox", "skopeo");
        let registry = Registry::start(RegistryMode::Plain);
        let reference = registry.push(&image::busybox(), "library/busybox", "latest");
        let out = command("skopeo", ["inspect", "--tls-verify=false", &format!("docker://{reference}")]);
        assert!(out.contains("\"Layers\""), "{out}");
        let port = registry.server.port;
        drop(registry);
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "it still listens");
    }

    #[test]
    fn a_tls_registry_with_passwords_refuses_others() {
        crate::require!("docker-registry", "busybox", "skopeo", "htpasswd");
        let registry = Registry::start(RegistryMode::TlsPassword);
        let reference = registry.push(&image::busybox(), "busybox", "1");
        let certificates = registry.dir.path().join("certs");
        fs::create_dir(&certificates).expect("mkdir");
        fs::copy(registry.ca_file().expect("ca"), certificates.join("ca.crt")).expect("copy");
        let creds = format!("{}:{}", Registry::USER, Registry::PASSWORD);
        let (dir, image) =
            (format!("--cert-dir={}", certificates.display()), format!("docker://{reference}"));
        let out = command("skopeo", ["inspect", "--raw", &dir, "--creds", &creds, &image]);
        assert!(out.contains("layers"), "{out}");
        let refused = Command::new(find("skopeo").expect("skopeo")).args(["inspect", &dir, &image]).output();
        assert!(!refused.expect("run skopeo").status.success());
    }
}
