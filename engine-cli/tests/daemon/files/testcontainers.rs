//! A test fixture, as people make them with testcontainers for Rust. Built and run by .ci/rust-clients.

use testcontainers::core::{CmdWaitFor, ExecCommand, IntoContainerPort as _, Mount, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{GenericImage, ImageExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SERVE: &str = "mkdir /w; echo $WORD > /w/index.html; echo ready; exec busybox httpd -f -p 80 -h /w";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let server = GenericImage::new("busybox", "latest")
        .with_exposed_port(80.tcp())
        .with_wait_for(WaitFor::message_on_stdout("ready"))
        .with_cmd(["sh", "-c", SERVE])
        .with_env_var("WORD", "served")
        .with_network("fixture")
        .with_container_name("server")
        .with_mount(Mount::tmpfs_mount("/scratch").with_size("1m"))
        .with_copy_to("/etc/copied", b"copied".to_vec())
        .start()
        .await?;
    let port = server.get_host_port_ipv4(80).await?;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    assert!(page.ends_with("served\n"), "{page}");

    let command = ExecCommand::new(["sh", "-c", "cat /etc/copied; echo err >&2; exit 3"]);
    let mut ran = server.exec(command.with_cmd_ready_condition(CmdWaitFor::exit_code(3))).await?;
    assert_eq!(ran.exit_code().await?, Some(3));
    assert_eq!(ran.stdout_to_vec().await?, b"copied");
    assert_eq!(ran.stderr_to_vec().await?, b"err\n");
    let mut copy = Vec::new();
    server.copy_file_from("/w/index.html", &mut copy).await?;
    assert_eq!(copy, b"served\n");

    let client = GenericImage::new("busybox", "latest")
        .with_wait_for(WaitFor::message_on_stdout("asked"))
        .with_cmd(["sh", "-c", "busybox wget -q -O - http://server/ && echo asked; exec sleep 1000"])
        .with_network("fixture")
        .start()
        .await?;
    assert_eq!(client.stdout_to_vec().await?, b"served\nasked\n");
    assert!(client.is_running().await?);
    client.stop_with_timeout(Some(0)).await?;
    assert_eq!(client.exit_code().await?, Some(137));
    client.rm().await?;
    server.rm().await?;
    Ok(())
}
