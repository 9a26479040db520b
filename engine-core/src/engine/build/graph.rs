//! The stages of a build: those that are needed, each as soon as what it needs is there, independent ones at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, try_join_all};
use tokio::sync::OnceCell;

use crate::dockerfile::{
    BindMount, CacheMount, Expander, GlobalScope, Instruction, Origin, RunMount, Scope, Spanned, Stage,
    StageGraph, StageNode,
};
use crate::engine::LocalEngine;
use crate::engine::image::Image;
use crate::engine::operation::Operation;
use crate::engine::pull::PullOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::files::ContainerFiles;
use crate::platform::Platform;
use crate::reference::Reference;

use super::copying::{Copying, Picked};
use super::event::{BuildEvent, StepDescription, StepId};
use super::ignore;
use super::provenance::Material;
use super::remote::Remote;
use super::spec::BuildContext;
use super::stage::{Keeper, State};
use super::steps::{Step, finished};
use super::tree::{Tree, TreeKind};
use super::{Build, BuiltImage};

/// What a stage is at its end.
#[derive(Clone, Debug)]
struct Done {
    state: State,
    scope: Scope,
}

/// A build's stages on their way, for one platform.
struct Stages {
    build: Arc<Build>,
    graph: StageGraph,
    global: Arc<GlobalScope>,
    platform: Platform,
    target: usize,
    needed: Vec<usize>,
    /// By stage, what it is once it is done.
    done: Vec<OnceCell<Arc<Done>>>,
}

/// Builds what is asked for, for all platforms at once.
pub(super) async fn run(build: Arc<Build>) -> Result<BuiltImage> {
    let all = build.platforms.iter().map(|platform| Stages::new(&build, platform));
    let all = all.collect::<Result<Vec<_>>>()?;
    build.progress.report(BuildEvent::Planned { steps: all.iter().map(Stages::count).sum() });
    // The first failure ends the others: they are dropped.
    let states = try_join_all(all.iter().map(Stages::carry_out)).await?;
    build.finish(&states.iter().map(|done| &done.state).collect::<Vec<_>>()).await
}

impl Stages {
    fn new(build: &Arc<Build>, platform: &Platform) -> Result<Self> {
        let (file, spec) = (&build.file, &build.spec);
        let target = file.target(spec.target.as_deref())?;
        let global =
            GlobalScope::new(file, spec.args.clone(), &Platform::host(), platform, spec.target.as_deref())?;
        let graph = file.graph(&global)?;
        let needed = graph.needed(target);
        let done = file.stages.iter().map(|_| OnceCell::new()).collect();
        let (build, platform, global) = (Arc::clone(build), platform.clone(), Arc::new(global));
        Ok(Self { build, graph, global, platform, target, needed, done })
    }

    /// How many steps there are, as far as is known.
    fn count(&self) -> u32 {
        self.needed.iter().map(|index| self.steps(*index)).sum()
    }

    /// Builds the stages that are needed, and returns the target.
    async fn carry_out(&self) -> Result<Arc<Done>> {
        try_join_all(self.needed.iter().map(|index| self.stage(*index))).await?;
        self.stage(self.target).await
    }

    /// How many steps a stage has, without those that its base wants.
    fn steps(&self, index: usize) -> u32 {
        let named = matches!(self.graph.nodes()[index].base, Origin::Named(_));
        let steps =
            self.build.file.stages[index].instructions.iter().filter(|one| is_step(&one.value)).count();
        u32::try_from(usize::from(named) + steps).unwrap_or(u32::MAX)
    }

    /// Waits until a stage is done. It begins here if it has not yet: what a base image asks for is known only now. Stages need
    /// earlier ones alone, so nobody waits for itself.
    fn stage(&self, index: usize) -> BoxFuture<'_, Result<Arc<Done>>> {
        Box::pin(async move { self.done[index].get_or_try_init(|| self.build(index)).await.cloned() })
    }

    async fn build(&self, index: usize) -> Result<Arc<Done>> {
        let stage = &self.build.file.stages[index];
        let use_cache = !self.build.spec.no_cache
            && !self
                .build
                .spec
                .no_cache_stages
                .iter()
                .any(|name| Some(name.to_lowercase()) == stage.name || name.parse() == Ok(index));
        let name = stage.name.clone().unwrap_or_else(|| format!("stage-{index}"));
        let mut work =
            StageWork { stages: self, index, name, number: 0, count: self.steps(index), use_cache };
        let (mut state, mut scope) = Box::pin(work.base(stage)).await?;
        // What the base wants done first; it does not go on to this image.
        for text in std::mem::take(&mut state.config.on_build) {
            let mut trigger = Instruction::parse("ONBUILD of the base image", &text)?;
            // It stands in another file, and is carried out here.
            trigger.span = stage.span;
            Box::pin(work.instruction(&mut state, &mut scope, &trigger, None)).await?;
        }
        for (number, instruction) in stage.instructions.iter().enumerate() {
            let carried = Box::pin(work.instruction(&mut state, &mut scope, instruction, Some(number))).await;
            carried.map_err(|error| self.at(error, instruction))?;
        }
        Ok(Arc::new(Done { state, scope }))
    }

    /// Says in an error which instruction it is about.
    fn at(&self, error: Error, instruction: &Spanned<Instruction>) -> Error {
        let text = instruction.text.lines().next().unwrap_or_default();
        error
            .with("file", format!("{}:{}", self.build.file.name(), instruction.span.line))
            .with("instruction", text)
    }

    /// Finds where files come from that `name` says.
    async fn tree(&self, origin: &Origin) -> Result<Tree> {
        let (state, named);
        match origin {
            Origin::Stage(index) => {
                named = self.stage(*index).await?;
                state = &named.state;
            }
            Origin::Named(name) => match self.build.spec.contexts.get(name) {
                Some(context @ (BuildContext::Directory(_) | BuildContext::Archive(_))) => {
                    let files = self.build.engine.context_files(context)?;
                    let ignored = ignore::of_context(&*files, None, None).await?.and_then(ignore::ignoring);
                    return Ok(Tree::new(files, TreeKind::Context, ignored));
                }
                Some(BuildContext::Remote(url)) => {
                    return match Box::pin(self.build.engine.remote(
                        &self.build.spec,
                        url,
                        &self.build.sources,
                    ))
                    .await?
                    {
                        Remote::Files(tree) => {
                            let ignored = ignore::of_context(&**tree.files(), None, None)
                                .await?
                                .and_then(ignore::ignoring);
                            Ok(tree.into_context(ignored))
                        }
                        Remote::Text(_) => Err(Error::new(ErrorKind::InvalidArgument, "open build context")
                            .with("context", name)
                            .with_message("it is neither an archive nor a repository")),
                    };
                }
                Some(BuildContext::Image(image)) => return self.image_tree(image).await,
                Some(BuildContext::Empty) => return Err(nothing(name)),
                None => return self.image_tree(name).await,
            },
            _ => return Err(nothing("scratch")),
        }
        let Some(image) = state.image.as_ref().filter(|_| !state.layers.is_empty()) else {
            return Err(nothing("the stage"));
        };
        let view = self.build.engine.view(&image.manifest, &state.diff_ids()).await?;
        let layers = (image.manifest.clone(), state.diff_ids());
        Ok(Tree::of_layers(view as Arc<dyn ContainerFiles>, state.chain(), layers))
    }

    async fn image_tree(&self, name: &str) -> Result<Tree> {
        let image = self.image(name, &self.platform, None).await?;
        self.build.sources.used(Material::image(name, &image));
        let state = from_image(name, &image, None);
        let view = self.build.engine.view(&image.manifest.digest, image.diff_ids()).await?;
        let layers = (image.manifest.digest.clone(), state.diff_ids());
        Ok(Tree::of_layers(view as Arc<dyn ContainerFiles>, state.chain(), layers))
    }

    /// Finds an image here, or pulls it.
    async fn image(&self, name: &str, platform: &Platform, step: Option<StepId>) -> Result<Image> {
        let engine = &self.build.engine;
        if !self.build.spec.pull {
            match engine.image_for(name, platform).await {
                Ok(image) if image.platform() == *platform || *platform == Platform::host() => {
                    engine.unpack_missing(&image).await?;
                    return Ok(image);
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let reference: Reference = name.parse()?;
        let mut options = PullOptions::default().with_platform(platform.clone());
        options.credentials = self.build.spec.credentials.get(reference.registry()).cloned();
        let mut pull: Operation<_, _> = engine.pull(&reference, options);
        while let Some(event) = pull.next().await {
            if let Some(step) = step {
                self.build.progress.report(BuildEvent::Pull { step, event: Box::new(event) });
            }
        }
        let image = pull.await?;
        engine.unpack_missing(&image).await?;
        Ok(image)
    }
}

fn nothing(what: &str) -> Error {
    Error::new(ErrorKind::NotFound, "copy files").with_message(format!("there are no files in {what}"))
}

fn from_image(name: &str, image: &Image, time: Option<SystemTime>) -> State {
    let layers = image.contents.layers.iter().cloned().zip(image.diff_ids().iter().cloned()).collect();
    let made = crate::time::parse_rfc3339(&image.config.created);
    State::of_image(name, image, layers, time.or(made).unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Whether an instruction is shown as a step.
fn is_step(instruction: &Instruction) -> bool {
    matches!(
        instruction,
        Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Workdir(_)
    )
}

/// One stage on its way.
struct StageWork<'a> {
    stages: &'a Stages,
    index: usize,
    name: String,
    number: u32,
    count: u32,
    use_cache: bool,
}

impl StageWork<'_> {
    /// Tells of a step that begins.
    fn begin(&mut self, text: &str) -> (StepId, Instant) {
        let build = &self.stages.build;
        let step = build.step();
        self.number += 1;
        let description = StepDescription {
            platform: (build.platforms.len() > 1).then(|| self.stages.platform.clone()),
            stage: self.name.clone(),
            number: self.number,
            count: self.count.max(self.number),
            text: text.to_owned(),
        };
        build.progress.report(BuildEvent::Started { step, description });
        (step, Instant::now())
    }

    /// `FROM`.
    async fn base(&mut self, stage: &Stage) -> Result<(State, Scope)> {
        let (stages, node) = (self.stages, &self.stages.graph.nodes()[self.index]);
        let time = stages.build.spec.source_date_epoch;
        let platform = match &node.platform {
            Some(text) => text.parse()?,
            None => stages.platform.clone(),
        };
        let scope = |state: &State| {
            Scope::new(Arc::clone(&stages.global), state.config.env.iter().map(String::as_str))
        };
        match &node.base {
            Origin::Stage(index) => {
                let base = stages.stage(*index).await?;
                Ok((base.state.successor(), base.scope.inherit()))
            }
            Origin::Named(name) => {
                let image = match stages.build.spec.contexts.get(name) {
                    None => name,
                    Some(BuildContext::Image(image)) => image,
                    Some(_) => {
                        let mut state = State::scratch(platform, time);
                        self.files_of_context(&mut state, node, stage).await?;
                        let scope = scope(&state);
                        return Ok((state, scope));
                    }
                };
                let (step, begun) = self.begin(&stage.text);
                let found = stages.image(image, &platform, Some(step)).await;
                let found = found.inspect_err(|error| {
                    let message = error.to_string();
                    stages.build.progress.report(BuildEvent::Failed { step, message });
                });
                let found = found.map_err(|error| {
                    error.with("file", format!("{}:{}", stages.build.file.name(), stage.span.line))
                })?;
                stages.build.sources.used(Material::image(image, &found));
                finished(&stages.build, step, begun, None);
                let checks = &stages.build.file.checks;
                stages.build.warn(checks.base_platform(image, &platform, &found.platform(), stage.span));
                let state = from_image(image, &found, time);
                let scope = scope(&state);
                Ok((state, scope))
            }
            _ => {
                let state = State::scratch(platform, time);
                let scope = scope(&state);
                Ok((state, scope))
            }
        }
    }

    /// `FROM` of a context that is no image: its files, and nothing else.
    async fn files_of_context(&mut self, state: &mut State, node: &StageNode, stage: &Stage) -> Result<()> {
        let (id, begun) = self.begin(&stage.text);
        let build = &self.stages.build;
        let text = stage.text.clone();
        let step = Step { build, id, text: text.clone(), use_cache: self.use_cache, quiet: false };
        let copied = async {
            let tree = Box::pin(self.stages.tree(&node.base)).await?;
            let picked = [Picked { tree, pattern: "/".to_owned(), unpack: false }];
            let copying = Copying { destination: "/".to_owned(), link: true, ..Copying::default() };
            Box::pin(step.copy(state, &picked, &copying)).await
        };
        let layer = copied.await.map_err(|error| {
            build.progress.report(BuildEvent::Failed { step: id, message: error.to_string() });
            error.with("file", format!("{}:{}", build.file.name(), stage.span.line))
        })?;
        finished(build, id, begun, layer.as_ref());
        state.add_layer(layer, text);
        if !state.layers.is_empty() {
            state.image = Some(keeper(&build.engine, state).await?);
        }
        Ok(())
    }

    /// Carries out an instruction, which is `number` of its stage, or a base image's trigger.
    async fn instruction(
        &mut self,
        state: &mut State,
        scope: &mut Scope,
        instruction: &Spanned<Instruction>,
        number: Option<usize>,
    ) -> Result<()> {
        let stages = self.stages;
        let checks = &stages.build.file.checks;
        if let Instruction::Arg(arg) = &instruction.value {
            scope.define(arg)?;
            return Ok(());
        }
        let expanded = {
            let mut expander = Expander::new(&*scope, stages.build.file.directives.escape);
            let expanded = instruction.value.expand(&mut expander)?;
            stages.build.warn(checks.undefined_variables(expander.unset(), scope, instruction.span));
            expanded
        };
        stages.build.warn(checks.expanded(&expanded, stages.build.ignore.as_ref(), instruction.span));
        if !is_step(&expanded) {
            if let Instruction::Env(env) = &expanded {
                env.pairs.iter().for_each(|pair| scope.set_env(&pair.key, &pair.value));
            }
            return state.configure(&expanded, &instruction.text);
        }
        let (id, begun) = self.begin(&instruction.text);
        let text = history_text(&expanded, &instruction.text, scope, state);
        let step =
            Step { build: &stages.build, id, text: text.clone(), use_cache: self.use_cache, quiet: false };
        let made = async {
            match &expanded {
                Instruction::Workdir(workdir) => {
                    let path = state.absolute(&workdir.path);
                    state.config.working_dir = path.display().to_string();
                    step.workdir(state, &path).await
                }
                Instruction::Run(run) => {
                    let mut froms = BTreeMap::new();
                    for (index, mount) in run.mounts.iter().enumerate() {
                        if let RunMount::Bind(BindMount { from: Some(from), .. })
                        | RunMount::Cache(CacheMount { from: Some(from), .. }) = mount
                        {
                            let origin = stages.build.file.origin(self.index, from, instruction.span)?;
                            froms.insert(index, Box::pin(stages.tree(&origin)).await?);
                        }
                    }
                    Box::pin(step.run(state, run, scope, &froms)).await
                }
                Instruction::Copy(copy) => {
                    let tree = match (&copy.from, number) {
                        (None, _) => stages.build.context.clone(),
                        (Some(from), _) => {
                            let origin = stages.build.file.origin(self.index, from, instruction.span)?;
                            Box::pin(stages.tree(&origin)).await?
                        }
                    };
                    let pick = |pattern: &String| Picked {
                        tree: tree.clone(),
                        pattern: pattern.clone(),
                        unpack: false,
                    };
                    let picked: Vec<_> = copy.sources.iter().map(pick).collect();
                    Box::pin(step.copy(state, &picked, &Copying::from(copy))).await
                }
                Instruction::Add(add) => {
                    let picked = Box::pin(step.added(add)).await?;
                    Box::pin(step.copy(state, &picked, &Copying::from(add))).await
                }
                other => Err(Error::new(ErrorKind::Other, "build image").with_message(other.name())),
            }
        };
        let layer = made.await.inspect_err(|error| {
            stages.build.progress.report(BuildEvent::Failed { step: id, message: error.to_string() });
        })?;
        finished(&stages.build, id, begun, layer.as_ref());
        state.add_layer(layer, text);
        if state.image.is_none() && !state.layers.is_empty() {
            state.image = Some(keeper(&stages.build.engine, state).await?);
        }
        Ok(())
    }
}

/// An image of a stage that has none below it: what a container's record can name.
pub(super) async fn keeper(engine: &LocalEngine, state: &State) -> Result<Keeper> {
    let layers: Vec<_> = state.layers.iter().map(|(blob, _)| blob).collect();
    let manifest = engine.put_image(&state.image_config(&BTreeMap::new()), &layers, &BTreeMap::new()).await?;
    let image = engine.load_image(&manifest, &state.platform, &[]).await?;
    Ok(Keeper { name: "scratch".to_owned(), manifest: manifest.digest, config: image.id().clone() })
}

/// What the history says of an instruction that makes a layer.
fn history_text(instruction: &Instruction, text: &str, scope: &Scope, state: &State) -> String {
    let Instruction::Run(run) = instruction else { return text.to_owned() };
    let args: Vec<String> = scope.args().map(|(name, value)| format!("{name}={value}")).collect();
    let command = match run.script() {
        crate::dockerfile::RunScript::Shell(line) => {
            format!("{} {line}", super::stage::shell(&state.config).join(" "))
        }
        crate::dockerfile::RunScript::Exec(arguments) => arguments.join(" "),
        _ => text.trim_start_matches("RUN").trim().to_owned(),
    };
    match args.is_empty() {
        true => format!("RUN {command}"),
        false => format!("RUN |{} {} {command}", args.len(), args.join(" ")),
    }
}
