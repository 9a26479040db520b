//! Building images.

use std::collections::BTreeMap;

use async_trait::async_trait;
use engine_core::engine::{
    BuildCacheEntry, BuildContext, BuildEvent, BuildOperations, BuildSpec, BuildTexts, BuiltImage, Operation,
    PruneBuildCache, PrunedBuildCache, pack_context,
};
use engine_core::io::ByteStream;
use engine_core::{Error, ErrorKind, Result};
use futures_util::{StreamExt as _, stream};

use super::super::RemoteEngine;
use super::super::call::{follow, line};
use crate::wire::build::{SentBuild, SentContext, framed};
use crate::wire::secret::WireSecret;

#[async_trait]
impl BuildOperations for RemoteEngine {
    fn build(&self, mut spec: BuildSpec) -> Operation<BuildEvent, BuiltImage> {
        let engine = self.clone();
        Operation::new(move |progress| async move {
            no_agents(&spec)?;
            let mut bytes = Vec::new();
            let dockerfile = spec.dockerfile.in_context().map(str::to_owned);
            let context = std::mem::take(&mut spec.context);
            let context = sent(context, dockerfile.as_deref(), spec.ignore.as_deref(), &mut bytes).await?;
            let mut contexts = BTreeMap::new();
            for (name, context) in std::mem::take(&mut spec.contexts) {
                contexts.insert(name, sent(context, None, None, &mut bytes).await?);
            }
            let secrets = std::mem::take(&mut spec.secrets);
            let secrets = secrets.into_iter().map(|(id, secret)| (id, WireSecret(secret))).collect();
            let credentials = std::mem::take(&mut spec.credentials);
            let credentials = credentials.into_iter().map(|(registry, one)| (registry, one.into())).collect();
            let line = line((SentBuild { spec, context, contexts, secrets, credentials },));
            let bytes = stream::iter(bytes).flat_map(framed).boxed();
            follow(engine.frames_with("build", line, bytes).await?, &progress).await
        })
    }

    async fn build_texts(&self, mut spec: BuildSpec) -> Result<BuildTexts> {
        if !matches!(spec.context, BuildContext::Remote(_)) {
            return BuildTexts::read(&spec).await;
        }
        no_agents(&spec)?;
        let context = SentContext::There(std::mem::take(&mut spec.context));
        let credentials = std::mem::take(&mut spec.credentials);
        let credentials = credentials.into_iter().map(|(registry, one)| (registry, one.into())).collect();
        spec.contexts.clear();
        let (contexts, secrets) = (BTreeMap::new(), BTreeMap::new());
        self.call("build_texts", (SentBuild { spec, context, contexts, secrets, credentials },)).await
    }

    async fn build_cache(&self) -> Result<Vec<BuildCacheEntry>> {
        self.call("build_cache", ()).await
    }

    async fn prune_build_cache(&self, options: &PruneBuildCache) -> Result<PrunedBuildCache> {
        self.call("prune_build_cache", (options,)).await
    }
}

/// Refuses what cannot be passed on.
fn no_agents(spec: &BuildSpec) -> Result<()> {
    let Some(id) = spec.ssh.keys().next() else { return Ok(()) };
    Err(Error::new(ErrorKind::Unsupported, "build image")
        .with("ssh", id)
        .with_message("an ssh agent here cannot be used by an engine elsewhere")
        .with_hint("build with the engine here, and push the image or copy it"))
}

/// What becomes of a context: what is here is sent, and added to `bytes`.
async fn sent(
    context: BuildContext,
    dockerfile: Option<&str>,
    ignore: Option<&str>,
    bytes: &mut Vec<ByteStream>,
) -> Result<SentContext> {
    bytes.push(match context {
        BuildContext::Directory(dir) => pack_context(&dir, dockerfile, ignore).await?,
        BuildContext::Archive(archive) => archive.take()?,
        other => return Ok(SentContext::There(other)),
    });
    Ok(SentContext::Sent)
}
