//! A private registry: images in a directory, for the users of an htpasswd file, until Ctrl-C.
//!
//! `htpasswd -Bc users me && cargo run -p engine-examples --example private_registry -- 127.0.0.1:5000 ./data users`

use engine_registry::server::{FileStorage, Htpasswd, RegistryServer};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = |default: &str| args.next().unwrap_or_else(|| default.to_owned());
    let (address, data, users) = (next("127.0.0.1:5000"), next("data"), next("users"));

    let server =
        RegistryServer::builder(FileStorage::open(data)?).with_authorizer(Htpasswd::open(users)?).build()?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("serving {}", listener.local_addr()?);

    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
    server.serve_until(listener, interrupted).await?;
    Ok(())
}
