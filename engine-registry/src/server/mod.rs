//! A registry of one's own: the OCI distribution specification 1.1.1, served from a [`Storage`].
//!
//! ```no_run
//! use engine_registry::server::{FileStorage, RegistryServer};
//!
//! # async fn example() -> engine_core::error::Result<()> {
//! let storage = FileStorage::open("/srv/registry")?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:5000").await.expect("the port is free");
//! RegistryServer::builder(storage).build()?.serve(listener).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Core concepts
//! - A [`Storage`] keeps content: [`FileStorage`] in a directory, [`MemoryStorage`] for tests, `ObjectStorage` in a bucket (with
//!   the feature `object-store`), or one of your own.
//! - Content belongs to a repository: what one has, another does not show.
//! - An [`Authorizer`] decides who may do what, a [`Policy`] what nobody may. Both are asked in one place. [`Rules`] are users
//!   and rules for each repository in one readable file, with [`Tokens`] as Docker's clients like them; [`Htpasswd`] has users
//!   who may do everything.
//! - With [`PullThrough`], a server is a cache of other registries: what it does not have, it fetches and keeps.
//! - [`RegistryServer::router`] is the registry as an `axum` router, for a program that serves more than a registry.
//!   [`RegistryServer::serve`] adds what an open port needs: TLS, time limits, an end that finishes what is under way.

mod access;
mod api;
mod attempts;
mod basic;
mod builder;
mod cache;
mod connection;
mod error;
mod events;
mod file;
mod garbage;
mod gate;
mod htpasswd;
mod limits;
mod memory;
mod metrics;
mod names;
#[cfg(feature = "object-store")]
mod object;
mod page;
mod passwords;
mod pieces;
mod policy;
mod quota;
mod record;
mod rules;
mod sendfile;
mod storage;
mod tls;
mod tokens;
mod unhurried;
mod watched;
mod webhooks;

#[cfg(feature = "testing")]
pub mod testing;

pub use access::{Access, Action, Anyone, Authorizer, Decision, Peer, Scope};
pub use builder::{RegistryServer, RegistryServerBuilder};
pub use cache::{PullThrough, Upstream};
pub use events::{EventAction, EventListener, EventRequest, RegistryEvent};
pub use file::FileStorage;
pub use garbage::{Eviction, GcPolicy, GcReport};
pub use htpasswd::Htpasswd;
pub use limits::Limits;
pub use memory::MemoryStorage;
pub use names::{RepositoryName, Tag, Target, UploadId};
#[cfg(feature = "object-store")]
pub use object::ObjectStorage;
pub use passwords::hash_password;
pub use policy::Policy;
pub use quota::{Quota, Quotas, Usage};
pub use record::Caller;
pub use rules::{Rules, RulesFile};
pub use storage::{Incoming, NewManifest, Page, PageRequest, PutManifest, Storage};
pub use tls::ServerTls;
pub use tokens::Tokens;
pub use webhooks::{Webhook, WebhookOptions};
