//! What is built.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::Host;
use crate::ours::IMAGE;

const SHELL: &str = r#"SHELL ["/bin/busybox", "sh", "-c"]"#;
/// The file that changes.
const CHANGES: &str = "changes";

#[derive(Debug)]
pub(super) struct Context(PathBuf);

impl Context {
    fn new(host: &Host, name: &str, dockerfile: &str) -> Result<Self> {
        let dir = host.dir().join(format!("context-{name}"));
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("Dockerfile"), format!("FROM {IMAGE}\n{SHELL}\n{dockerfile}"))?;
        let context = Self(dir);
        context.change("")?;
        Ok(context)
    }

    pub(super) fn ten_steps(host: &Host) -> Result<Self> {
        let mut text = format!("WORKDIR /app\nCOPY {CHANGES} /app/\n");
        for number in 0..8 {
            text.push_str(&format!("RUN echo {number} > /app/{number}\n"));
        }
        Self::new(host, "ten", &text)
    }

    pub(super) fn many_files(host: &Host) -> Result<Self> {
        let context = Self::new(host, "many", "COPY . /app/\n")?;
        for dir in 0..100 {
            let dir = context.0.join(format!("dir{dir}"));
            fs::create_dir_all(&dir)?;
            for file in 0..100 {
                fs::write(dir.join(format!("file{file}")), format!("{file:01024}"))?;
            }
        }
        // What is just written is no file that has not changed.
        std::thread::sleep(std::time::Duration::from_secs(3));
        Ok(context)
    }

    pub(super) fn branches(host: &Host) -> Result<Self> {
        let mut text = String::new();
        let mut last = format!("FROM {IMAGE}\n");
        for number in 0..4 {
            text.push_str(&format!(
                "FROM {IMAGE} AS s{number}\n{SHELL}\nCOPY {CHANGES} /\nRUN /bin/busybox sleep 0.5; echo {number} > /made\n"
            ));
            last.push_str(&format!("COPY --from=s{number} /made /{number}\n"));
        }
        Self::new(host, "branches", &format!("{text}{last}"))
    }

    pub(super) fn large(host: &Host) -> Result<Self> {
        let context = Self::new(host, "large", "COPY . /app/\n")?;
        let mut file = fs::File::create(context.0.join("large"))?;
        // Half of it is compressible.
        let mut random = fs::File::open("/dev/urandom")?;
        let mut block = vec![0; 1 << 20];
        for _ in 0..1024 {
            random.read_exact(&mut block[..1 << 19])?;
            file.write_all(&block)?;
        }
        Ok(context)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.0
    }

    /// Gives the file that changes this content.
    pub(super) fn change(&self, content: &str) -> Result<()> {
        Ok(fs::write(self.0.join(CHANGES), content)?)
    }
}
