//! How do I replace a part of the engine? This program brings its own `VolumeDriver`, shows that it keeps the
//! contract, and gives it to an engine. It needs neither root nor Linux's container features.
//!
//!     cargo run -p engine-examples --example custom_volume_driver
//!
//! Its volumes are plain directories of a project, `DIR/<name>/data`, which people may look into and back up.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use engine_core::container_spec::MountSpec;
use engine_core::engine::ImportOptions;
use engine_core::files::ContainerFiles;
use engine_core::memory::{MemoryImageStore, MemoryRuntime};
use engine_core::testing::{Subject, content, volume_driver};
use engine_core::volume_driver::{ANONYMOUS_LABEL, Volume, VolumeOptions};
use engine_core::{ContainerId, ContainerSpec, Engine, Error, ErrorKind, Mount, Name, Result, VolumeDriver};

/// Keeps each volume in a directory: `DIR/<name>/{data/,about}`.
#[derive(Clone, Debug)]
struct ProjectVolumes {
    dir: PathBuf,
}

impl ProjectVolumes {
    fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir)
            .map_err(|e| Error::from_io("open volumes", e).with("path", dir.display()))?;
        Ok(Self { dir })
    }

    fn require(&self, operation: &'static str, name: &Name) -> Result<()> {
        match self.read(name)? {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorKind::NotFound, operation).with("volume", name)),
        }
    }

    /// Makes the volume under another name first: it appears whole, by one rename, or not at all.
    fn make(&self, name: &Name, options: &VolumeOptions) -> io::Result<()> {
        // A volume's name begins with a letter or digit, so this is none.
        let fresh = self.dir.join(format!(".{}", ContainerId::random()));
        fs::create_dir_all(fresh.join("data"))?;
        describe(&fresh.join("about"), &Volume::new(name.clone(), self.name(), options))?;
        match fs::rename(&fresh, self.dir.join(name.as_str())) {
            Ok(()) => fs::File::open(&self.dir)?.sync_all(),
            // Somebody else was faster (rename(2): the target is a directory with something in it).
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => fs::remove_dir_all(&fresh),
            Err(e) => fs::remove_dir_all(&fresh).and(Err(e)),
        }
    }

    fn read(&self, name: &Name) -> Result<Option<Volume>> {
        let path = self.dir.join(name.as_str());
        let text = match fs::read_to_string(path.join("about")) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::from_io("read volume", e).with("volume", name)),
        };
        let mut lines = text.lines();
        let nanos = lines.next().and_then(|line| line.parse().ok());
        let mut options = VolumeOptions::default();
        options.labels = lines.filter_map(|line| line.split_once('=')).map(unescape_pair).collect();
        let mut volume = Volume::new(name.clone(), self.name(), &options);
        volume.mountpoint = Some(path.join("data"));
        volume.created_at = UNIX_EPOCH
            + Duration::from_nanos(nanos.ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "read volume").with("volume", name).with_message("no time")
            })?);
        Ok(Some(volume))
    }
}

/// Writes what `read` reads.
fn describe(path: &Path, volume: &Volume) -> io::Result<()> {
    let created = volume.created_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut about = format!("{}\n", created.as_nanos());
    for (key, value) in &volume.labels {
        about.push_str(&format!("{}={}\n", escape(key), escape(value)));
    }
    fs::write(path, about)?;
    fs::File::open(path)?.sync_all()
}

// The directories are local and small, so the calls block; a driver on a network would not.
#[async_trait]
impl VolumeDriver for ProjectVolumes {
    fn name(&self) -> &str {
        "project"
    }

    async fn create(&self, name: &Name, options: &VolumeOptions) -> Result<Volume> {
        let fail = |kind| Error::new(kind, "create volume").with("volume", name);
        if let Some(option) = options.driver_options.keys().next() {
            return Err(fail(ErrorKind::InvalidArgument)
                .with("option", option)
                .with_message("unknown option"));
        }
        loop {
            match self.read(name)? {
                Some(there) if there.labels == options.labels => return Ok(there),
                Some(_) => return Err(fail(ErrorKind::Conflict).with_message("it has other labels")),
                None => self
                    .make(name, options)
                    .map_err(|e| Error::from_io("create volume", e).with("volume", name))?,
            }
        }
    }

    async fn inspect(&self, name: &Name) -> Result<Option<Volume>> {
        self.read(name)
    }

    async fn list(&self) -> Result<Vec<Volume>> {
        let fail = |e| Error::from_io("list volumes", e).with("path", self.dir.display());
        let mut volumes = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).map_err(fail)? {
            let file_name = entry.map_err(fail)?.file_name();
            let Some(Ok(name)) = file_name.to_str().map(str::parse::<Name>) else { continue };
            if let Some(volume) = self.read(&name)? {
                volumes.insert(name, volume);
            }
        }
        Ok(volumes.into_values().collect())
    }

    async fn remove(&self, name: &Name) -> Result<()> {
        let fail = |e| Error::from_io("remove volume", e).with("volume", name);
        // Out of sight by one rename, so that nobody ever sees half a volume.
        let trash = self.dir.join(format!(".{}", ContainerId::random()));
        match fs::rename(self.dir.join(name.as_str()), &trash) {
            Ok(()) => fs::remove_dir_all(&trash).map_err(fail),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(fail(e)),
        }
    }

    async fn rename(&self, name: &Name, new: &Name) -> Result<Volume> {
        let fail = |e| Error::from_io("rename volume", e).with("volume", name);
        let missing = || Error::new(ErrorKind::NotFound, "rename volume").with("volume", name);
        let mut volume = self.read(name)?.ok_or_else(missing)?;
        if self.read(new)?.is_some() {
            return Err(Error::new(ErrorKind::AlreadyExists, "rename volume").with("volume", new));
        }
        let dir = self.dir.join(name.as_str());
        if volume.labels.remove(ANONYMOUS_LABEL).is_some() {
            describe(&dir.join("about.new"), &volume).map_err(fail)?;
            fs::rename(dir.join("about.new"), dir.join("about")).map_err(fail)?;
        }
        fs::rename(&dir, self.dir.join(new.as_str())).map_err(fail)?;
        fs::File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(fail)?;
        self.read(new)?.ok_or_else(missing)
    }

    async fn mount(&self, name: &Name, target: &Path) -> Result<Mount> {
        let volume = self.read(name)?;
        let source = volume.and_then(|volume| volume.mountpoint);
        let source =
            source.ok_or_else(|| Error::new(ErrorKind::NotFound, "mount volume").with("volume", name))?;
        Ok(Mount::bind(source, target))
    }

    /// People fill these volumes themselves.
    async fn fill(&self, name: &Name, _rootfs: &[Mount], _path: &Path) -> Result<bool> {
        self.require("fill volume", name).map(|()| false)
    }

    async fn usage(&self, name: &Name) -> Result<Option<u64>> {
        self.require("measure volume", name).map(|()| None)
    }

    async fn files(&self, name: &Name) -> Result<Box<dyn ContainerFiles>> {
        self.require("open volume", name)?;
        Err(Error::new(ErrorKind::Unsupported, "open volume").with("volume", name))
    }
}

/// Keeps a label on its line, and its key apart from its value.
fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\n', "%0a").replace('=', "%3d")
}

fn unescape_pair((key, value): (&str, &str)) -> (String, String) {
    let plain = |text: &str| text.replace("%3d", "=").replace("%0a", "\n").replace("%25", "%");
    (plain(key), plain(value))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("project-volumes-{}", std::process::id()));

    // 1. Does it keep the contract? Every promise is checked on fresh state, with two drivers over it, as two
    //    programs would open it.
    let next = std::cell::Cell::new(0);
    volume_driver::all(async || {
        let fresh = dir.join("checks").join(next.replace(next.get() + 1).to_string());
        let open = || Arc::new(ProjectVolumes::open(&fresh).expect("open volumes"));
        Subject::new(open(), open())
    })
    .await;
    println!("the driver keeps every promise of VolumeDriver");

    // 2. An engine that uses it. The other parts are in memory here; with Engine::builder(dir) they are real.
    let volumes = ProjectVolumes::open(dir.join("volumes"))?;
    let runtime = MemoryRuntime::new();
    let engine = Engine::in_memory()
        .image_store(MemoryImageStore::new())
        .runtime(runtime.clone())
        .volume_driver(volumes)
        .open()
        .await?;
    let archive = content::tar(&[("hello", b"hello")]).into();
    engine.import(&"localhost/tiny:latest".parse()?, archive, ImportOptions::default()).await?;
    let mut spec = ContainerSpec::command(["echo", "hello from a container"]);
    spec.mounts.push(MountSpec::volume(Some("notes".parse()?), "/notes"));
    let container = engine.create("localhost/tiny:latest", spec).await?;
    println!("the container ended with code {}", container.run().await?);
    let launched = runtime.launch_spec(container.id());
    for mount in launched.iter().flat_map(|spec| &spec.mounts) {
        println!("{} was {:?}", mount.target.display(), mount.kind);
    }
    fs::remove_dir_all(&dir)?;
    Ok(())
}
