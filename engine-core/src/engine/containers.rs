//! Containers of an engine: find, list, launch, remove.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::container_spec::{NamespaceMode, NetworkMode, UserNamespace};
use crate::error::{Error, ErrorKind, Result};
use crate::secret::{SecretFile, SecretVariable};
use crate::state::{ContainerStatus, RuntimeState};

use super::container::{ContainerInfo, LocalContainer};
use super::launch::{self, Joined, Peer};
use super::network_use::ContainerNetwork;
use super::records::Record;
use super::{LocalEngine, SpecPatch, task};

/// How long a killed sandbox may take to go.
const END_OF_SANDBOX: Duration = Duration::from_secs(10);

impl LocalEngine {
    pub(super) async fn container(&self, name: &str) -> Result<LocalContainer> {
        let record = self.inner.records.find(name)?;
        Ok(LocalContainer::new(self.clone(), record.id))
    }

    pub(super) async fn containers(&self) -> Result<Vec<ContainerInfo>> {
        let mut list = Vec::new();
        let records = self.inner.records.all().await?;
        let mut networks = BTreeMap::new();
        if records.iter().any(|record| !self.networks_of(record).is_empty()) {
            networks
                .extend(self.inner.network.list().await?.into_iter().map(|info| (info.name.clone(), info)));
        }
        for record in records {
            if self.is_over(&record).await? {
                self.remove_record(&record, true).await?;
                continue;
            }
            let used = self.network_use_in(&record, &networks);
            list.push(self.info_with(record, used).await?);
        }
        Ok(list)
    }

    pub(super) async fn info_of(&self, record: Record) -> Result<ContainerInfo> {
        let networks = self.network_use(&record).await?;
        self.info_with(record, networks).await
    }

    async fn info_with(&self, record: Record, mut networks: Vec<ContainerNetwork>) -> Result<ContainerInfo> {
        let state = self.state_of(&record).await?;
        if state.status == ContainerStatus::Exited {
            // Its place is free, whether or not anybody has cleared it.
            networks.iter_mut().for_each(|network| network.endpoint = None);
        }
        for network in &mut networks {
            self.named_links(&network.name, &mut network.options).await?;
        }
        let Record { id, name, created_at, data } = record;
        Ok(ContainerInfo {
            id,
            name,
            created_at,
            image: data.image,
            manifest: data.manifest,
            image_id: data.config,
            command: launch::effective_command(&data.spec, &data.defaults),
            spec: data.spec,
            defaults: data.defaults,
            scoped: data.owner.is_some(),
            anonymous_volumes: data.anonymous_volumes,
            networks,
            secrets: data.secrets,
            state,
        })
    }

    /// Returns the running state: what the runtime knows, or `Created`. An end that nothing told is told.
    pub(super) async fn state_of(&self, record: &Record) -> Result<RuntimeState> {
        match self.inner.runtime.state(&record.id).await {
            Ok(state) => {
                if state.lost {
                    self.tell_lost(record, &state).await?;
                }
                Ok(state)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(RuntimeState::new(ContainerStatus::Created))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the container's sandbox and puts it on its networks; its process does not run yet.
    pub(super) async fn launch(&self, record: &Record, patch: Option<&SpecPatch>) -> Result<()> {
        self.launch_with(record, patch, Default::default()).await
    }

    /// As [`launch`](Self::launch), with secrets that the engine does not keep.
    #[tracing::instrument(skip_all, fields(container = %record.id))]
    pub(super) async fn launch_with(
        &self,
        record: &Record,
        patch: Option<&SpecPatch>,
        (files, variables): (Vec<SecretFile>, Vec<SecretVariable>),
    ) -> Result<()> {
        self.inner.hooks.admit_container(Some(&record.name), &record.data.spec, &record.data.defaults)?;
        let joined = self.joined(record).await?;
        let plan = self.planned(record).await?;
        let rootfs = self.rootfs(record).await?;
        if self.state_of(record).await?.status == ContainerStatus::Created {
            // Its creation was cut short, or its volumes are as empty as they were then.
            self.fill_volumes(record, &rootfs).await?;
        }
        let volumes = self.mounts(record).await?;
        let mut spec = launch::launch_spec(record, rootfs, volumes, &joined)?;
        (spec.secret_files, spec.secret_env) = self.inner.secrets.of(record).await?;
        spec.secret_files.extend(files);
        spec.secret_env.extend(variables);
        spec.resolver = self.resolver(record, plan.iter().map(|(network, _)| network));
        spec.events = Some(self.life_events(record, plan.iter().map(|(network, _)| network)));
        for patch in self.inner.spec_patch.iter().chain(patch) {
            patch.apply(&record.id, &mut spec.oci)?;
        }
        if self.has_networks(record) {
            self.write_name_files(record, &joined.naming).await?;
        }
        let sandbox = self.inner.runtime.create(&record.id, &spec).await?;
        match self.attach_all(record, &sandbox, &plan).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.abandon(record, error).await),
        }
    }

    /// Ends a sandbox whose start failed with `error`, so that the container can be started again.
    pub(super) async fn abandon(&self, record: &Record, mut error: Error) -> Error {
        let runtime = &self.inner.runtime;
        // A command that cannot be executed has ended its sandbox itself, with the exit code that says so.
        let end = async {
            if self.state_of(record).await?.status == ContainerStatus::Exited {
                return Ok(());
            }
            runtime.stop(&record.id, crate::signal::SIGKILL).await?;
            runtime.wait(&record.id).await.map(drop)
        };
        match tokio::time::timeout(END_OF_SANDBOX, end).await {
            Ok(Ok(())) => {}
            Ok(Err(later)) if later.kind() == ErrorKind::NotFound => {}
            Ok(Err(later)) => error.suppress(later),
            Err(_) => error.suppress(
                Error::new(ErrorKind::DeadlineExceeded, "end sandbox").with("container", record.id.short()),
            ),
        }
        if let Err(later) = self.release_networks(record).await {
            error.suppress(later);
        }
        error
    }

    /// Looks up the containers whose namespaces this one shares.
    async fn joined(&self, record: &Record) -> Result<Joined> {
        let spec = &record.data.spec;
        let network = match &spec.network {
            NetworkMode::Container(other) => Some(self.peer(record, other, "network").await?),
            _ => None,
        };
        let user = match &spec.user_namespace {
            Some(UserNamespace::Container(other)) => {
                let peer = self.peer(record, other, "user").await?;
                let maps = peer.id_mappings.clone().ok_or_else(|| {
                    Error::new(ErrorKind::InvalidArgument, "start container")
                        .with("container", record.id.short())
                        .with_message(format!("{other}, whose user namespace it shares, has none of its own"))
                        .with_hint("leave the user namespace out")
                })?;
                Some((peer, maps))
            }
            _ => None,
        };
        let cdi = launch::cdi_devices(&self.inner.cdi_dirs, &spec.cdi_devices)?;
        let naming = self.naming(record).await?;
        let mut joined = Joined { network, pid: None, ipc: None, user, cdi, naming };
        for (mode, slot, what) in
            [(&spec.pid_mode, &mut joined.pid, "process id"), (&spec.ipc_mode, &mut joined.ipc, "IPC")]
        {
            if let NamespaceMode::Container(other) = mode {
                *slot = Some(self.peer(record, other, what).await?);
            }
        }
        if spec.is_mapped() {
            same_user_namespace(&joined)?;
        }
        Ok(joined)
    }

    async fn peer(&self, record: &Record, name: &str, what: &str) -> Result<Peer> {
        let wrong = |why: String| {
            Error::new(ErrorKind::Conflict, "start container")
                .with("container", record.id.short())
                .with_message(why)
        };
        let other = self.inner.records.find(name)?;
        if other.id == record.id {
            return Err(wrong(format!("it cannot share its own {what} namespace")));
        }
        let state = self.state_of(&other).await?;
        let pid = state.pid.filter(|_| state.status.is_running()).ok_or_else(|| {
            wrong(format!("it shares the {what} namespace of {name}, which is not running"))
                .with_hint("start that container first")
        })?;
        let hostname = other.data.spec.hostname.clone().unwrap_or_else(|| other.id.short().to_owned());
        let id_mappings = self.maps_of(&other).await?;
        Ok(Peer { pid, hostname, id_mappings })
    }

    /// Returns the maps of a container's user namespace, its own or the one it shares.
    pub(super) async fn maps_of(&self, record: &Record) -> Result<Option<crate::container_spec::IdMappings>> {
        let mut record = record.clone();
        // A chain of containers that share is as long as somebody made it, and never a ring: each was there first.
        for _ in 0..100 {
            match &record.data.spec.user_namespace {
                Some(UserNamespace::Container(other)) => record = self.inner.records.find(other)?,
                _ => return Ok(record.data.id_mappings),
            }
        }
        Ok(None)
    }

    /// Removes a container: its processes, its record, then what it left.
    ///
    /// The record goes before the files, so that a crash in between leaves only what `repair` removes.
    pub(super) async fn remove_record(&self, record: &Record, volumes: bool) -> Result<()> {
        let (engine, record) = (self.clone(), record.clone());
        task::to_the_end(async move { engine.remove_whole(&record, volumes).await }).await
    }

    async fn remove_whole(&self, record: &Record, volumes: bool) -> Result<()> {
        let runtime = &self.inner.runtime;
        if self.state_of(record).await?.status != ContainerStatus::Created {
            match runtime.stop(&record.id, crate::signal::SIGKILL).await {
                // Somebody else removes it as well, and was here first.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                stopped => stopped?,
            }
        }
        // When it has ended: its namespace then takes the interfaces along.
        for (network, _) in self.networks_of(record) {
            self.inner.network.detach(&network, &record.id).await?;
        }
        if volumes {
            self.remove_anonymous_volumes(record).await?;
        }
        self.delete_record(record).await?;
        self.forget_links(record).await?;
        self.remove_name_files(&record.id).await?;
        runtime.delete(&record.id).await?;
        self.inner.outbox.journal().forget(record.id.as_str())?;
        self.inner.images.remove_rootfs(&record.id).await?;
        self.remove_snapshots(record).await?;
        self.inner.turns.forget(&record.id)
    }
}

/// Refuses namespaces of containers in another user namespace, which gives no right to enter them (setns(2)).
fn same_user_namespace(joined: &Joined) -> Result<()> {
    let namespace = |peer: &Peer| std::fs::read_link(format!("/proc/{}/ns/user", peer.pid)).ok();
    let own = joined.user.as_ref().and_then(|(peer, _)| namespace(peer));
    for peer in [&joined.network, &joined.pid, &joined.ipc].into_iter().flatten() {
        if own.is_none() || namespace(peer) != own {
            return Err(Error::new(ErrorKind::InvalidArgument, "start container")
                .with("container", &peer.hostname)
                .with_message("its namespaces can be shared only by a container in the same user namespace")
                .with_hint("share its user namespace too: --userns=container:NAME"));
        }
    }
    Ok(())
}
