//! Changes of the runtime spec by the caller: the way to what no wish has a word for.

use std::fmt;
use std::sync::Arc;

use oci_spec::runtime::Spec;

use crate::error::Result;
use crate::id::ContainerId;

/// A closure that changes a container's OCI runtime spec after the engine has made it, before the runtime sees it.
///
/// What it says goes: nothing checks it but the runtime and the kernel, and it may undo what makes a container secure.
/// It is code, so it is not kept with the container: it is the engine's ([`EngineBuilder::spec_patch`]) and sees each
/// start that this engine makes, or one start's ([`Container::start_patched`]). A restart by a restart policy repeats
/// the start before it, its patch included. What it cannot change is what the runtime spec leaves to engines: the root
/// file system, volumes, user names, logs.
///
/// [`EngineBuilder::spec_patch`]: super::EngineBuilder::spec_patch
/// [`Container::start_patched`]: super::Container::start_patched
#[derive(Clone)]
pub struct SpecPatch(Arc<Patch>);

type Patch = dyn Fn(&ContainerId, &mut Spec) -> Result<()> + Send + Sync;

impl SpecPatch {
    /// Wraps a closure. Its error fails the start.
    pub fn new(patch: impl Fn(&ContainerId, &mut Spec) -> Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(patch))
    }

    pub(super) fn apply(&self, id: &ContainerId, spec: &mut Spec) -> Result<()> {
        (self.0)(id, spec)
    }
}

impl fmt::Debug for SpecPatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpecPatch")
    }
}
