//! What an engine does, as traits: one implementation works in this process, others speak to an engine elsewhere.
//!
//! A caller uses [`Engine`](super::Engine) and [`Container`](super::Container), which say what each operation
//! promises. Things are named by their ids here, and nothing is generic, so that an engine can be chosen while a
//! program runs.

mod build;
mod containers;
mod files;
mod images;
mod networks;
mod processes;
mod secrets;
mod system;
mod transfers;
mod volumes;

pub use build::BuildOperations;
pub use containers::ContainerOperations;
pub use files::FileOperations;
pub use images::ImageOperations;
pub use networks::NetworkOperations;
pub use processes::ProcessOperations;
pub use secrets::SecretOperations;
pub use system::SystemOperations;
pub use transfers::TransferOperations;
pub use volumes::VolumeOperations;

use super::LocalEngine;

/// A container engine: everything that [`Engine`](super::Engine) offers.
///
/// An implementation of these operations becomes an [`Engine`](super::Engine) by `Engine::from`.
pub trait ContainerEngine:
    ContainerOperations
    + ProcessOperations
    + FileOperations
    + ImageOperations
    + TransferOperations
    + BuildOperations
    + NetworkOperations
    + VolumeOperations
    + SecretOperations
    + SystemOperations
{
    /// Returns the engine in this process, if it is one.
    fn as_local(&self) -> Option<&LocalEngine> {
        None
    }
}
