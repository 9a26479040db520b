//! Changing a container that is there: its limits, its name.

use crate::container_spec::ContainerSpec;
use crate::error::Result;
use crate::events::Action;
use crate::id::Name;
use crate::resources::Resources;

use super::container::LocalContainer;
use super::events::of_container;
use super::launch;

impl LocalContainer {
    pub(super) async fn update(&self, resources: &Resources) -> Result<()> {
        let mut record = self.record().await?;
        let spec: &mut ContainerSpec = &mut record.data.spec;
        spec.resources = launch::merge_resources(&spec.resources, resources);
        let mut change = resources.clone();
        if change.memory.is_some() || change.memory_swap.is_some() {
            // One depends on the other, in the kernel too.
            (change.memory, change.memory_swap) = (spec.resources.memory, spec.resources.memory_swap);
        }
        launch::check(&record)?;
        if self.engine.state_of(&record).await?.status.is_running() {
            self.engine.inner.runtime.update(&self.id, &change).await?;
        }
        let change = resources.clone();
        let revised = self.engine.inner.records.revise(&self.id, move |record| {
            record.data.spec.resources = launch::merge_resources(&record.data.spec.resources, &change);
            Ok(((), of_container(Action::Update, record)))
        });
        revised.await
    }

    pub(super) async fn rename(&self, name: &Name) -> Result<()> {
        self.engine.inner.records.rename(&self.record().await?, name).await?;
        self.engine.describe(&self.record().await?).await?;
        self.renamed().await
    }
}
