//! HTTP/1.1 over a kept connection, as little as a registry's client needs: what is measured is the server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context, Result, bail};
use engine_core::descriptor::media_type;
use engine_testkit::image::digest;

pub(super) const BUFFER: usize = 256 << 10;

/// A connection.
pub(super) struct Connection {
    host: String,
    reader: BufReader<TcpStream>,
    buffer: Vec<u8>,
}

/// What a server said: its body's bytes are counted and dropped.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) body: u64,
    /// The body, if it is small.
    pub(super) text: Vec<u8>,
}

impl Answer {
    pub(super) fn success(self) -> Result<Self> {
        if !(200..300).contains(&self.status) {
            bail!("the server says {}: {}", self.status, String::from_utf8_lossy(&self.text));
        }
        Ok(self)
    }
}

impl Connection {
    pub(super) fn open(host: &str) -> Result<Self> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            host: host.to_owned(),
            reader: BufReader::with_capacity(BUFFER, stream),
            buffer: vec![0; BUFFER],
        })
    }

    pub(super) fn get(&mut self, path: &str) -> Result<Answer> {
        self.request("GET", path, &[], &[])
    }

    pub(super) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: {}\r\nContent-Length: {}\r\n",
            self.host,
            media_type::OCI_MANIFEST,
            body.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        self.reader.get_mut().write_all(head.as_bytes())?;
        self.reader.get_mut().write_all(body)?;
        self.answer(method == "HEAD")
    }

    fn answer(&mut self, is_head: bool) -> Result<Answer> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).context("no status")?.parse()?;
        let (mut length, mut location) = (0, None);
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse()?,
                "location" => location = Some(value.trim().to_owned()),
                "transfer-encoding" => bail!("the server sends chunks"),
                _ => {}
            }
        }
        let (mut left, mut text) = (if is_head { 0 } else { length }, Vec::new());
        let body = left;
        while left > 0 {
            let want = usize::try_from(left)?.min(BUFFER);
            let got = self.reader.read(&mut self.buffer[..want])?;
            if got == 0 {
                bail!("the server closed amid a body");
            }
            if body < 100_000 {
                text.extend_from_slice(&self.buffer[..got]);
            }
            left -= got as u64;
        }
        Ok(Answer { status, location, body, text })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }
}

/// Pushes a blob as clients do, in a session of three requests; returns its digest.
pub(super) fn push_blob(connection: &mut Connection, repository: &str, content: &[u8]) -> Result<String> {
    let digest = digest(content).to_string();
    let location = |answer: Answer| -> Result<String> {
        let location = answer.success()?.location.context("no location")?;
        Ok(match location.split_once("://") {
            Some((_, rest)) => rest[rest.find('/').context("no path")?..].to_owned(),
            None => location,
        })
    };
    let begun = connection.request("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[])?;
    let path = location(begun)?;
    let octets = [("Content-Type", "application/octet-stream")];
    let path = location(connection.request("PATCH", &path, &octets, content)?)?;
    let separator = if path.contains('?') { '&' } else { '?' };
    connection.request("PUT", &format!("{path}{separator}digest={digest}"), &[], &[])?.success()?;
    Ok(digest)
}

/// Pushes an image of one layer.
pub(super) fn push_image(
    connection: &mut Connection,
    repository: &str,
    tag: &str,
    layer: &[u8],
) -> Result<()> {
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let (layer_digest, config_digest) =
        (push_blob(connection, repository, layer)?, push_blob(connection, repository, config)?);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": {"mediaType": media_type::OCI_CONFIG, "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": media_type::OCI_LAYER, "digest": layer_digest, "size": layer.len()}],
    });
    let kind = [("Content-Type", media_type::OCI_MANIFEST)];
    let path = format!("/v2/{repository}/manifests/{tag}");
    connection.request("PUT", &path, &kind, manifest.to_string().as_bytes())?.success()?;
    Ok(())
}

/// Pulls an image, and drops it.
pub(super) fn pull_image(connection: &mut Connection, repository: &str, tag: &str) -> Result<()> {
    let answer = connection.get(&format!("/v2/{repository}/manifests/{tag}"))?.success()?;
    let manifest: serde_json::Value = serde_json::from_slice(&answer.text)?;
    for blob in [&manifest["config"], &manifest["layers"][0]] {
        let digest = blob["digest"].as_str().context("no digest")?;
        connection.get(&format!("/v2/{repository}/blobs/{digest}"))?.success()?;
    }
    Ok(())
}
