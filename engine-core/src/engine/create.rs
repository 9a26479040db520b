//! Creating containers: a record first, then the root file system.

use std::time::SystemTime;

use crate::container_spec::ContainerSpec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::platform::Platform;

use super::container::{LocalContainer, RemoveOptions};
use super::hooks::ImageRequest;
use super::records::{ProcessIdentity, Record, RecordData};
use super::{LocalEngine, launch, names, secrets, task};

impl LocalEngine {
    pub(super) async fn create(&self, image: &str, spec: ContainerSpec) -> Result<LocalContainer> {
        self.create_owned(image, spec, None).await
    }

    pub(super) async fn create_scoped(&self, image: &str, spec: ContainerSpec) -> Result<LocalContainer> {
        let owner = ProcessIdentity::current().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "create scoped container")
                .with_message("/proc does not show this process")
                .with_hint("mount procfs at /proc")
        })?;
        self.create_owned(image, spec, Some(owner)).await
    }

    /// Creates a container; one whose creator has stopped waiting is removed again.
    async fn create_owned(
        &self,
        image: &str,
        spec: ContainerSpec,
        owner: Option<ProcessIdentity>,
    ) -> Result<LocalContainer> {
        let (engine, image) = (self.clone(), image.to_owned());
        let work = async move { engine.create_record(&image, spec, owner).await };
        task::all_or_nothing(work, |container: LocalContainer| async move {
            let options = RemoveOptions::default().with_force(true).with_volumes(true);
            if let Err(error) = container.remove(options).await {
                tracing::warn!(container = %container.id(), %error, "removing an unwanted container failed");
            }
        })
        .await
    }

    #[tracing::instrument(skip_all, fields(image))]
    async fn create_record(
        &self,
        image: &str,
        mut spec: ContainerSpec,
        owner: Option<ProcessIdentity>,
    ) -> Result<LocalContainer> {
        // The lease keeps the image from being collected until the root file system holds it.
        let lease = self.inner.images.lease().await?;
        let target = self.find_image(image).await?;
        let platform = spec.platform.clone().unwrap_or_else(Platform::host);
        let found = self.load_image(&target, &platform, &[]).await?;
        if !found.contents.is_container_image() {
            return Err(Error::new(ErrorKind::Unsupported, "create container")
                .with("image", image)
                .with_message("it is an artifact, which has no root file system"));
        }
        // What is for this host was unpacked when it came.
        if found.platform() != Platform::host() {
            self.unpack_missing(&found).await?;
        }
        self.complete_user_namespace(&mut spec).await?;
        self.inner.hooks.admit_image(&ImageRequest {
            name: image,
            manifest: &found.manifest.digest,
            config: Some(&found.config),
            spec: Some(&spec),
        })?;
        self.resolve_networks(&mut spec).await?;
        self.resolve_links(&mut spec).await?;
        self.inner.hooks.admit_container(spec.name.as_ref(), &spec, &found.config.config)?;
        let id = ContainerId::random();
        let mounted_images = self.resolve_mounts(&mut spec, &found.config.config).await?;
        let anonymous_volumes = self.make_volumes(&mut spec).await?;
        let wished_name = spec.name.clone();
        let mut record = Record {
            id: id.clone(),
            name: wished_name.clone().unwrap_or_else(|| names::random_name(0)),
            created_at: SystemTime::now(),
            data: RecordData {
                spec,
                image: image.to_owned(),
                manifest: found.manifest.digest.clone(),
                config: found.id().clone(),
                layers: found.diff_ids().to_vec(),
                architecture: found.config.architecture.clone(),
                defaults: found.config.config,
                anonymous_volumes,
                base: None,
                snapshots: Vec::new(),
                mounted_images,
                id_mappings: None,
                linked_by: Vec::new(),
                secrets: Vec::new(),
                owner,
            },
        };
        let made = self.commit(&mut record, wished_name.is_none()).await;
        drop(lease);
        match made {
            Ok(()) => Ok(LocalContainer::new(self.clone(), id)),
            Err(mut error) => {
                for volume in &record.data.anonymous_volumes {
                    if let Err(later) = self.destroy_volume(volume).await {
                        error.suppress(later);
                    }
                }
                Err(error)
            }
        }
    }

    /// Docker's rule: where systemd makes the cgroups, a parent is a slice.
    fn check_cgroup_parent(&self, spec: &ContainerSpec) -> Result<()> {
        let Some(parent) = &spec.cgroup_parent else { return Ok(()) };
        let by_systemd = self.inner.runtime.capabilities().cgroup_driver == "systemd";
        if !by_systemd || parent.len() > ".slice".len() && parent.ends_with(".slice") && !parent.contains('/')
        {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidArgument, "create container")
            .with("cgroup-parent", parent)
            .with_message("with the cgroup driver systemd, the parent is a slice")
            .with_hint("name one as xxx.slice"))
    }

    /// Checks the wishes, commits the record and prepares the root file system.
    pub(super) async fn commit(&self, record: &mut Record, may_rename: bool) -> Result<()> {
        // What a start would refuse is refused now; what depends on the moment (namespaces of others) then.
        launch::check(record)?;
        self.check_cgroup_parent(&record.data.spec)?;
        launch::cdi_devices(&self.inner.cdi_dirs, &record.data.spec.cdi_devices)?;
        secrets::check(&record.data.spec)?;
        self.register_links(record).await?;
        let mut tries = 0;
        loop {
            let error = match self.inner.records.insert(record, self.inner.id_pool).await {
                Ok(made) => {
                    *record = made;
                    break;
                }
                Err(error) => error,
            };
            if error.kind() != ErrorKind::AlreadyExists || !may_rename || tries > 20 {
                return Err(error);
            }
            tries += 1;
            record.name = names::random_name(tries);
        }
        let store = &self.inner.images;
        let prepared = async {
            self.inner.secrets.of(record).await?;
            let rootfs = self.rootfs(record).await?;
            self.hold_images(record).await?;
            self.fill_volumes(record, &rootfs).await
        };
        if let Err(mut error) = prepared.await {
            for result in [store.remove_rootfs(&record.id).await, self.delete_record(record).await] {
                if let Err(later) = result {
                    error.suppress(later);
                }
            }
            return Err(error);
        }
        Ok(())
    }
}
